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
import { openLlamaCpp } from "../bench/peers/llama_cpp.ts";
import type { Format } from "../bench/support/quantize.ts";
import { type NamedShape, writeSyntheticModel } from "../bench/synthetic_model.ts";
import { argmax } from "../src/llama/sampler.ts";
import { divergence, logitsOf } from "./support/logits.ts";
import { integers } from "./support/random.ts";
import { SMALL_MODELS } from "./support/small_models.ts";

const POSITIONS = 200;
const LONG = 700;

const skip = peerFile("node-llama-cpp", "dist/index.js") === null &&
  "node-llama-cpp is not installed: run bench/install_peers.ts";

/** Fails unless both expect the same after each of the last tokens, in nats and by the likeliest. */
async function agree(shape: NamedShape, format: Format, length: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
  try {
    const path = await writeSyntheticModel({
      shape,
      format,
      container: "gguf",
      folder,
      outputNorm: 1,
    });
    const tokens = Array.from(integers(length, length, 150), (x) => 150 + x);
    const llamaCpp = await openLlamaCpp(path, length + 8, 1, true);
    ok(llamaCpp !== null, "llama.cpp is installed, but does not run");
    let expected: Float32Array[];
    try {
      expected = await llamaCpp.logits(tokens, POSITIONS);
    } finally {
      await llamaCpp.close();
    }
    const actual = await logitsOf(path, tokens, POSITIONS);
    let [same, furthest] = [0, 0];
    for (const [i, logits] of actual.entries()) {
      same += +(argmax(logits) === argmax(expected[i]!));
      furthest = Math.max(furthest, divergence(expected[i]!, logits));
    }
    equal(same, POSITIONS, `the likeliest tokens of ${shape.name}`);
    ok(furthest < 1e-4, `${shape.name} diverges by ${furthest}`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

// GGUF has no word for dynamic NTK, and llama.cpp does not know it.
for (const shape of SMALL_MODELS.filter(({ ropeScaling }) => ropeScaling?.type !== "dynamic")) {
  test(
    `${shape.name}: llama.cpp expects the same after each of ${POSITIONS} tokens`,
    { skip },
    () => agree(shape, "f16", POSITIONS),
  );
  // Five times the length that scalings begin from.
  test(
    `${shape.name}: and after each of the last ${POSITIONS} of ${LONG}`,
    { skip },
    () => agree(shape, "f32", LONG),
  );
}
