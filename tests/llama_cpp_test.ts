// The same files in native llama.cpp: a small model of random weights in each format of blocks.

import { equal, ok } from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { peerFile } from "../bench/peers/installed.ts";
import { type LlamaCpp, openLlamaCpp } from "../bench/peers/llama_cpp.ts";
import { SHAPES } from "../bench/shapes.ts";
import type { Format } from "../bench/support/quantize.ts";
import type { Mix } from "../bench/support/model_tensors.ts";
import { writeSyntheticModel } from "../bench/synthetic_model.ts";
import { loadModel, type Model } from "../mod.ts";
import { argmax } from "../src/llama/sampler.ts";
import { mulberry32 } from "./support/random.ts";

const POSITIONS = 200;

/**
 * The most nats by which the two may be apart on the average. Both round activations to int8, in blocks
 * of 32 here, of 256 there with weights in superblocks.
 */
const DIVERGENCE = 1e-3;

/**
 * By how much the likeliest token must lead for both to choose it. A divergence is half of the variance
 * of the logits' differences; this is four deviations of the difference of two. Random weights often
 * give smaller leads: of 1024 normal numbers the first two are 0.3 deviations apart on the average.
 */
const LEAD = 4 * Math.sqrt(2) * Math.sqrt(2 * DIVERGENCE);

const skip = peerFile("node-llama-cpp", "dist/index.js") === null &&
  "needs node-llama-cpp: deno run -A bench/install_peers.ts";

async function ourLogits(model: Model, tokens: readonly number[]): Promise<Float32Array[]> {
  using session = model.session({ scope: { globalSize: Infinity }, select: "never" });
  const rows: Float32Array[] = [];
  for (const token of tokens) {
    await session.prefill([token]);
    rows.push((await session.logits()).slice());
  }
  return rows;
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, x) => total + Math.exp(x - largest), 0);
  return Float64Array.from(logits, (x) => x - largest - Math.log(sum));
}

/** How far the second is from the first, in nats. */
function divergence(expected: Float32Array, actual: Float32Array): number {
  const [p, q] = [logSoftmax(expected), logSoftmax(actual)];
  return p.reduce((sum, each, i) => sum + Math.exp(each) * (each - q[i]!), 0);
}

// What llama.cpp calls Q4_K_M: some matrices and the head have more bits.
const MIXED: Mix = { v: "q6_k", down: "q6_k", head: "q6_k" };
const CASES: readonly (readonly [format: Format, mixed?: Mix, splits?: number])[] = [
  ["q8_0"],
  ["q4_0"],
  ["q4_1"],
  ["q5_0"],
  ["q5_1"],
  ["q4_k"],
  ["q5_k"],
  ["q6_k"],
  ["q4_k", MIXED, 3],
];

for (const [format, mixed, splits = 1] of CASES) {
  const title = mixed
    ? `${format} mixed with ${Object.values(mixed)[0]}, in ${splits} files`
    : format;
  test(`a model in ${title} predicts as it does in native llama.cpp`, { skip }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
    let peer: LlamaCpp | null = null;
    try {
      const path = await writeSyntheticModel({
        shape: "pocket",
        format,
        container: "gguf",
        folder,
        outputNorm: 1,
        ...mixed ? { mixed } : {},
        splits,
      });
      peer = await openLlamaCpp(path, 256, 1);
      ok(peer !== null, "llama.cpp must open the file");
      const random = mulberry32(11);
      const tokens = Array.from(
        { length: POSITIONS },
        () => Math.floor(random() * SHAPES.pocket.vocabSize),
      );
      const expected = await peer.logits(tokens);
      using model = await loadModel(path, { threads: 1 });
      const actual = await ourLogits(model, tokens);
      let clear = 0;
      let sum = 0;
      for (const [i, row] of expected.entries()) {
        equal(row.length, actual[i]!.length);
        sum += divergence(row, actual[i]!);
        const [first, second] = [...row].sort((a, b) => b - a);
        if (first! - second! < LEAD) continue;
        equal(argmax(actual[i]!), argmax(row), `position ${i}`);
        clear++;
      }
      ok(clear >= POSITIONS / 5, `only ${clear} positions are clear`);
      ok(sum / POSITIONS < DIVERGENCE, `the mean divergence is ${sum / POSITIONS}`);
    } finally {
      await peer?.close();
      await rm(folder, { recursive: true });
    }
  });
}
