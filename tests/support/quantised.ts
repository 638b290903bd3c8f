// Products with quantised weights: the ways to multiply bytes that run here, and how activations are
// rounded, from its definition in asm/quantize.ts.

import { deepEqual } from "node:assert/strict";
import type { Backend, WeightFormat, WeightSource } from "../../src/backend/backend.ts";
import { openWasmBackend } from "../../src/backend/wasm/backend.ts";
import { type ByteDots, probeByteDots } from "../../src/backend/wasm/quantised.ts";
import {
  compileKernels,
  hasRelaxedSimd,
  instantiateKernels,
  type Kernels,
} from "../../wasm/loader.ts";
import { tensorOf, weightSource } from "./handles.ts";
import { outputOf } from "./outputs.ts";
import { readJson } from "./shared.ts";

const { fround } = Math;

/** The value of an f16, by its definition. */
export function valueOfF16(bits: number): number {
  const exponent = bits >> 10 & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction / 1024 : 1 + fraction / 1024;
  return (bits < 0x8000 ? 1 : -1) * size * 2 ** (Math.max(exponent, 1) - 15);
}

function roundTiesToEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** Activations as int8, 32 at a time. */
export function quantize(x: Float32Array): { numbers: Int8Array; scales: Float32Array } {
  const numbers = new Int8Array(x.length);
  const scales = new Float32Array(x.length / 32);
  for (let b = 0; b < scales.length; b++) {
    const block = x.subarray(32 * b, 32 * b + 32);
    const largest = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    scales[b] = largest / 127;
    const inverse = largest > 2 ** -100 ? fround(127 / largest) : 0;
    block.forEach((value, i) => numbers[32 * b + i] = roundTiesToEven(fround(value * inverse)));
  }
  return { numbers, scales };
}

/** A way to multiply bytes. */
export interface Way {
  readonly label: string;
  readonly dots: ByteDots;
  /** Whether all bytes can be multiplied so on this engine; else only those within 7 bits. */
  readonly whole: boolean;
  open(threads?: number): Promise<Backend>;
}

/** A build of the kernels, with a memory of its own. */
export async function kernelsOf(
  relaxed: boolean,
): Promise<{ memory: WebAssembly.Memory; kernels: Kernels }> {
  const memory = new WebAssembly.Memory({ initial: 64, maximum: 65535 });
  const module = await compileKernels({ relaxed, shared: false });
  return { memory, kernels: await instantiateKernels(module, memory) };
}

async function waysHere(): Promise<Way[]> {
  const way = (label: string, relaxed: boolean, dots: ByteDots, whole: boolean): Way => ({
    label,
    dots,
    whole,
    open: async (threads = 1) =>
      openWasmBackend(
        { threads, module: await compileKernels({ relaxed, shared: threads > 1 }) },
        { dots },
      ),
  });
  const plain = way("plain SIMD", false, { exact: false, offset: 0 }, true);
  if (!hasRelaxedSimd()) return [plain];
  const found = probeByteDots((await kernelsOf(true)).kernels);
  const { exact, offset } = found;
  return [
    plain,
    way("sums of pairs", true, { exact: false, offset }, true),
    // Where the engine's dot saturates, weights below 0 plus 128 are within the 7 bits it can do.
    way("dots of four bytes", true, { exact: true, offset: exact ? offset : 128 }, exact),
  ];
}

/** All ways to multiply bytes that run here. */
export const ways: readonly Way[] = await waysHere();

/** The one that the backend would take by itself, or one as good. */
export const taken: Way = ways.findLast(({ whole }) => whole)!;

/** Whether there are threads. */
export const canShare: boolean = typeof SharedArrayBuffer === "function" &&
  typeof Worker === "function";

/** x times a weight's rows. */
export async function multiply(
  on: Backend,
  source: WeightSource,
  x: Float32Array,
): Promise<Float32Array> {
  using weight = await on.weight(source);
  const rows = x.length / source.cols;
  using input = tensorOf(on, rows, source.cols, x);
  return await outputOf(on, rows, source.rows, (out) => on.matmul(out, input, weight));
}

/** Blocks of each format, and what gguf-py makes of them. */
export const VECTORS = "golden/dequant_vectors.json";

/**
 * Asserts that rows of a table are what gguf-py makes of its blocks.
 *
 * @param widths Columns of some tables of the same blocks; one more has a single row.
 */
export async function assertGivesVectors(
  backend: Backend,
  format: WeightFormat,
  widths: readonly number[],
): Promise<void> {
  const all = readJson<Record<string, { bytes_hex: string; values: number[] }>>(VECTORS);
  const { bytes_hex, values } = all[format.toUpperCase()]!;
  const bytes = Uint8Array.from(bytes_hex.match(/../g)!, (hex) => parseInt(hex, 16));
  for (const cols of [...widths, values.length]) {
    const rows = values.length / cols;
    using table = await backend.weight(weightSource(format, rows, cols, bytes));
    const tokens = Uint32Array.from({ length: rows }, (_, i) => i);
    const actual = await outputOf(backend, rows, cols, (out) => backend.embed(out, table, tokens));
    deepEqual(actual, Float32Array.from(values));
  }
}
