/**
 * Every architecture against native llama.cpp on the same file, where it is installed
 * (bench/install_peers.ts): the likeliest token, and how far the distributions are apart.
 */
import { equal, ok } from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { peerFile } from "../bench/peers/installed.ts";
import { type LlamaCpp, openLlamaCpp } from "../bench/peers/llama_cpp.ts";
import { writeSyntheticModel } from "../bench/synthetic_model.ts";
import { argmax } from "../src/llama/sampler.ts";
import {
  agreementOf,
  FORMATS,
  LONG_TEXT as LONG,
  mostDivergence,
  POSITIONS,
} from "./support/agreement.ts";
import { divergence, logitsOf } from "./support/logits.ts";
import { integers } from "./support/random.ts";
import { BLOCK_MODELS, SMALL_MODELS } from "./support/small_models.ts";

const skip = peerFile("node-llama-cpp", "dist/index.js") === null &&
  "node-llama-cpp is not installed: run bench/install_peers.ts";

// GGUF has no word for dynamic NTK, and llama.cpp does not know it.
const shapes = SMALL_MODELS.filter(({ ropeScaling }) => ropeScaling?.type !== "dynamic");

/**
 * With weights in f32 both compute in f32. With f16, llama.cpp rounds activations to f16, too, which
 * moves its logits, of the size of 1, by up to 0.01: two that are closer than `tie` may change
 * places.
 */
for (const [format, most, tie] of [["f32", 1e-8, 0], ["f16", 1e-4, 0.004]] as const) {
  test(`llama.cpp expects the same of every architecture in ${format}, near and far`, {
    skip,
  }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
    const tokens = Array.from(integers(LONG, LONG, 150), (x) => 150 + x);
    let llamaCpp: LlamaCpp | null = null;
    try {
      for (const shape of shapes) {
        const container = "gguf";
        const path = await writeSyntheticModel({ shape, format, container, folder, outputNorm: 1 });
        if (llamaCpp === null) llamaCpp = await openLlamaCpp(path, LONG + 8, 1, true);
        else await llamaCpp.load(path);
        ok(llamaCpp !== null, "llama.cpp is installed, but does not run");
        for (const text of [tokens.slice(0, POSITIONS), tokens]) {
          const expected: Float32Array[] = await llamaCpp.logits(text, POSITIONS);
          const actual = await logitsOf(path, text, POSITIONS);
          equal(actual.length, POSITIONS);
          for (const [i, logits] of actual.entries()) {
            const place = `${shape.name}, ${i - POSITIONS} of ${text.length}`;
            const theirs = expected[i]!;
            const apart = divergence(theirs, logits);
            ok(apart < most, `${place}: they diverge by ${apart} nats`);
            const behind = theirs[argmax(theirs)]! - theirs[argmax(logits)]!;
            ok(behind <= tie, `${place}: our likeliest token is ${behind} behind theirs`);
          }
        }
      }
    } finally {
      await llamaCpp?.close();
      await rm(folder, { recursive: true });
    }
  });
}

/** All of them in all formats: bench/architectures.ts, which takes a minute or two. */
test("llama.cpp expects the same of every architecture in a few formats each, near and far", {
  skip,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
  let llamaCpp: LlamaCpp | null = null;
  try {
    for (const [i, shape] of BLOCK_MODELS.entries()) {
      const length = shape.ropeScaling === undefined ? POSITIONS : LONG;
      // Two for each, so that all come up.
      for (const format of [FORMATS[i % 10]!, FORMATS[(i + 5) % 10]!]) {
        if (llamaCpp === null) {
          const model = { shape, format, container: "gguf", folder, outputNorm: 1 } as const;
          llamaCpp = await openLlamaCpp(await writeSyntheticModel(model), LONG + 8, 1, true);
        }
        ok(llamaCpp !== null, "llama.cpp is installed, but does not run");
        const found = await agreementOf(llamaCpp, shape, format, { folder, length });
        const what = `${shape.name} in ${format}, ${length} tokens: ${JSON.stringify(found)}`;
        ok(found.mean < mostDivergence(format), what);
        equal(found.sameOfClear, found.clear, what);
        // Random weights of a large spread leave few.
        ok(found.clear >= 10, what);
      }
    }
  } finally {
    await llamaCpp?.close();
    await rm(folder, { recursive: true });
  }
});
