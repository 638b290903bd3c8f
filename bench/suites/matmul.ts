/**
 * Matrix multiplies of real layers: one row (generating), few, many (reading), in every format.
 *
 * @module
 */

import type { Backend } from "../../src/backend/backend.ts";
import { numpyMatmul } from "../peers/numpy.ts";
import { openOrtNode, openOrtWeb } from "../peers/ort.ts";
import { type OrtMatmul, ortMatmul } from "../peers/ort_matmul.ts";
import { openTfjs, tfjsMatmul } from "../peers/tfjs.ts";
import { type MatrixName, matrixSize, type ShapeName, SHAPES } from "../shapes.ts";
import type { Contestant } from "../support/contest.ts";
import {
  checkMatmul,
  type MatmulProblem,
  matmulProblem,
  TOLERANCES,
} from "../support/matmul_problem.ts";
import { notice, reasonOf } from "../support/notice.ts";
import { poolWeight } from "../support/numbers.ts";
import { BLOCKS, type Format } from "../support/quantize.ts";
import { type Contest, ONE_THREAD, openMachines, type Settings } from "../support/suite.ts";

interface Case {
  readonly shape: ShapeName;
  readonly matrix: MatrixName;
  readonly format: Format;
  readonly rows: readonly number[];
  /** Whether the weight is too large for the caches: then reading it is what takes the time. */
  readonly fromMemory?: boolean;
  /** Whether it is too large for peers, too. */
  readonly alone?: boolean;
}

/** One line for each kind of work; more are as easy to add. */
const CASES: readonly Case[] = [
  { shape: "Llama-3.2-1B", matrix: "q", format: "f32", rows: [1, 4, 64, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "f16", rows: [1, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "bf16", rows: [1, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "q8_0", rows: [1, 4, 64, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "q4_0", rows: [1, 64, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "q4_k", rows: [1, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "q6_k", rows: [1, 256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "q5_k", rows: [256] },
  { shape: "Llama-3.2-1B", matrix: "q", format: "q5_0", rows: [256] },
  { shape: "Llama-3.2-1B", matrix: "gate", format: "f32", rows: [64] },
  { shape: "Llama-3.2-1B", matrix: "gate", format: "q8_0", rows: [64] },
  { shape: "Llama-3.2-1B", matrix: "down", format: "q8_0", rows: [64] },
  { shape: "Qwen2-1.5B", matrix: "gate", format: "f32", rows: [64] },
  { shape: "Qwen2-1.5B", matrix: "gate", format: "q8_0", rows: [64] },
  { shape: "Llama-3.1-8B", matrix: "q", format: "f32", rows: [64] },
  { shape: "Llama-3.1-8B", matrix: "q", format: "q8_0", rows: [64] },
  { shape: "Llama-3.1-8B", matrix: "gate", format: "f32", rows: [1], fromMemory: true },
  { shape: "Llama-3.1-8B", matrix: "gate", format: "f16", rows: [1], fromMemory: true },
  { shape: "Llama-3.1-8B", matrix: "gate", format: "q8_0", rows: [1], fromMemory: true },
  {
    shape: "Llama-3.2-1B",
    matrix: "head",
    format: "q8_0",
    rows: [1],
    fromMemory: true,
    alone: true,
  },
  {
    shape: "Llama-3.2-1B",
    matrix: "head",
    format: "q4_0",
    rows: [1],
    fromMemory: true,
    alone: true,
  },
  {
    shape: "Llama-3.2-1B",
    matrix: "head",
    format: "q4_k",
    rows: [1],
    fromMemory: true,
    alone: true,
  },
  {
    shape: "Llama-3.2-1B",
    matrix: "head",
    format: "q6_k",
    rows: [1],
    fromMemory: true,
    alone: true,
  },
  {
    shape: "Llama-3.2-1B",
    matrix: "head",
    format: "q5_k",
    rows: [1],
    fromMemory: true,
    alone: true,
  },
  {
    shape: "Llama-3.2-1B",
    matrix: "head",
    format: "q5_0",
    rows: [1],
    fromMemory: true,
    alone: true,
  },
  { shape: "pocket", matrix: "q", format: "f16", rows: [1, 64] },
  { shape: "pocket", matrix: "gate", format: "f16", rows: [64] },
];

/** What ONNX Runtime has for each format, the like of ours first. */
const ORT_KINDS: Readonly<Record<Format, readonly OrtMatmul[]>> = {
  f32: ["f32"],
  f16: ["f32"],
  bf16: ["f32"],
  q8_0: ["int8", "blocks of 8 bits"],
  q4_0: ["blocks of 4 bits"],
  q4_1: [],
  q5_0: [],
  q5_1: [],
  q4_k: [],
  q5_k: [],
  q6_k: [],
};

/** The group `matmul`. */
export async function* matmulSuite(settings: Settings): AsyncGenerator<Contest> {
  for (const threads of settings.threads) {
    using machines = await openMachines(threads);
    for (const each of CASES) {
      if (!await supportsFormat(machines.ours, each.format)) continue;
      const { rows: outputs, cols } = matrixSize(SHAPES[each.shape], each.matrix);
      const weight = poolWeight(each.format, outputs, cols);
      for (const rows of each.rows) {
        const name = `matmul/${each.format}/${each.shape} ${each.matrix} ${outputs}x${cols}/` +
          `${rows} ${rows === 1 ? "row" : "rows"}`;
        if (!settings.wants(name)) continue;
        const problem = matmulProblem(rows, weight);
        const operations = 2 * rows * outputs * cols;
        yield {
          name,
          threads,
          unit: each.fromMemory ? "GB/s" : "GFLOPS",
          work: (each.fromMemory ? weight.byteLength : operations) / 1e9,
          limit: each.fromMemory
            ? { name: "read", work: weight.byteLength }
            : { name: "fma", work: operations },
          ours: await oursOf(machines.ours, problem, "reattention"),
          peers: [
            ...machines.single ? [await oursOf(machines.single, problem, ONE_THREAD)] : [],
            ...settings.peers && !each.alone ? await peersOf(problem, each.format, threads) : [],
          ],
        };
      }
    }
  }
}

/** The backend's verb, the output not a number before. */
async function oursOf(backend: Backend, problem: MatmulProblem, name: string): Promise<Contestant> {
  const { rows, x: values, weight: { source, format } } = problem;
  const weight = await backend.weight(source);
  const x = backend.tensor(rows, source.cols);
  const out = backend.tensor(rows, source.rows);
  backend.write(x, values);
  backend.write(out, new Float32Array(rows * source.rows).fill(NaN));
  return {
    name,
    run: () => backend.matmul(out, x, weight),
    async check() {
      const rounds = BLOCKS[format].numbers > 1;
      checkMatmul(problem, await backend.read(out), rounds ? TOLERANCES.int8 : TOLERANCES.f32);
    },
    dispose() {
      for (const handle of [weight, x, out]) handle[Symbol.dispose]();
    },
  };
}

async function peersOf(
  problem: MatmulProblem,
  format: Format,
  threads: number,
): Promise<Contestant[]> {
  const peers: (Contestant | null)[] = [];
  const runtimes = [await openOrtWeb(), openOrtNode(threads)];
  for (const ort of runtimes) {
    for (const kind of ort === null ? [] : ORT_KINDS[format]) {
      peers.push(await ortMatmul(ort!, problem, kind));
    }
  }
  if (format === "f32") {
    const tf = await openTfjs();
    if (tf !== null) peers.push(tfjsMatmul(tf, problem));
    peers.push(await numpyMatmul(problem, threads));
  }
  return peers.filter((peer) => peer !== null);
}

const supported = new WeakMap<Backend, Map<Format, boolean>>();

/** Whether a backend multiplies by weights of a format; said aloud where not. */
async function supportsFormat(backend: Backend, format: Format): Promise<boolean> {
  const known = supported.get(backend) ?? new Map<Format, boolean>();
  supported.set(backend, known);
  let supports = known.get(format);
  if (supports === undefined) {
    supports = await tryFormat(backend, format);
    known.set(format, supports);
  }
  return supports;
}

async function tryFormat(backend: Backend, format: Format): Promise<boolean> {
  try {
    const ours = await oursOf(backend, matmulProblem(2, poolWeight(format, 12, 256)), format);
    try {
      ours.run();
      await ours.check!();
    } finally {
      await ours.dispose!();
    }
    return true;
  } catch (error) {
    notice(`the backend does not multiply by ${format} weights: ${reasonOf(error)}`);
    return false;
  }
}
