// Whole models with weights in GGUF's blocks, against float64 logits and against each other.

import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import type { Backend } from "../src/backend/backend.ts";
import { Llama } from "../src/llama/llama.ts";
import { openModelFiles } from "../src/llama/model_files.ts";
import { argmax } from "../src/llama/sampler.ts";
import { loadWeights } from "../src/llama/weights.ts";
import { KvCache } from "../src/reattention/kv_cache.ts";
import { createRope } from "../src/reattention/rope.ts";
import { FULL_ATTENTION } from "../src/reattention/scope.ts";
import { reference } from "./support/processors.ts";
import { assertNear } from "./support/outputs.ts";
import { taken, ways } from "./support/quantised.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";

interface Golden {
  readonly cases: readonly { prompt_ids: number[]; last_logits: number[]; greedy_ids: number[] }[];
}

const GOLDEN = "golden/gguf_golden.json";

/** Next-token logits after each of some steps. */
async function logitsOf(
  backend: Backend,
  model: string,
  tokens: readonly number[],
  next: (logits: Float32Array, step: number) => number | null,
): Promise<void> {
  const files = await openModelFiles(sharedUrl(model));
  const { config } = files;
  try {
    const weights = await loadWeights(backend, files.tensors, config);
    const rope = createRope(config.ropeTheta, config.headDim);
    using llama = new Llama(backend, config, weights, rope);
    const { numLayers, numHeads, numKvHeads, headDim, vocabSize } = config;
    const shape = { numLayers, numHeads, numKvHeads, headDim };
    using cache = new KvCache(backend.kvStore(shape, { format: "f32" }));
    using out = backend.tensor(1, vocabSize);
    let step: readonly number[] = tokens;
    for (let i = 0;; i++) {
      const hidden = await llama.forward(Uint32Array.from(step), cache, {
        scope: FULL_ATTENTION,
        selects: false,
        wantsHidden: true,
      });
      llama.logits(out, backend.rows(hidden, step.length - 1, step.length));
      const token = next(await backend.read(out), i);
      if (token === null) return;
      step = [token];
    }
  } finally {
    await files.close();
  }
}

function logSoftmax(logits: ArrayLike<number>): number[] {
  const all = Array.from(logits);
  const largest = Math.max(...all);
  const sum = all.reduce((total, x) => total + Math.exp(x - largest), 0);
  return all.map((x) => x - largest - Math.log(sum));
}

for (
  const [model, numLayers] of [
    ["models/stories260K/stories260K-q8_0.gguf", 5],
    ["models/stories260K/stories260K-q4_0.gguf", 5],
    ["models/TinyStories-656K/TinyStories-656K-q8_0.gguf", 2],
  ] as const
) {
  const skip = missing(model, GOLDEN);
  const goldenOf = () => readJson<Record<string, Golden>>(GOLDEN)[model.split("/").at(-1)!]!;

  test(`${model} has the float64 logits and greedy text on reference`, { skip }, async () => {
    using backend = await reference.open();
    for (const { prompt_ids, last_logits, greedy_ids } of goldenOf().cases) {
      await logitsOf(backend, model, prompt_ids, (logits, step) => {
        if (step === 0) assertNear(logits, Float32Array.from(last_logits), () => 1e-3, "logit");
        equal(argmax(logits), greedy_ids[step], `step ${step}`);
        // The oracle is slow.
        return step + 1 < 12 ? greedy_ids[step]! : null;
      });
    }
  });

  for (const way of ways.filter(({ whole }) => whole)) {
    // In a block of 32 normal numbers the largest is about 2.1 deviations, so that rounding to steps
    // of a 127th of it is off by 2.1 / 127 / sqrt(12) = 0.5 % of a deviation. Four such products
    // follow one another in a layer, one comes after all; their errors are independent. Twice
    // that is allowed for whole vectors of logits.
    const share = 2 * 0.005 * Math.sqrt(4 * numLayers + 1);

    test(
      `${model} is off by no more than 8-bit activations explain (${way.label})`,
      { skip },
      async () => {
        using backend = await way.open();
        for (const { prompt_ids, last_logits } of goldenOf().cases) {
          await logitsOf(backend, model, prompt_ids, (logits) => {
            const count = last_logits.length;
            equal(logits.length, count);
            const mean = last_logits.reduce((sum, x) => sum + x, 0) / count;
            let errors = 0;
            let squares = 0;
            last_logits.forEach((x, i) => {
              errors += (logits[i]! - x) ** 2;
              squares += (x - mean) ** 2;
            });
            const relative = Math.sqrt(errors / squares);
            ok(relative <= share, `logits are off by ${relative} of their deviation`);
            const [expected, actual] = [logSoftmax(last_logits), logSoftmax(logits)];
            const divergence = expected.reduce(
              (sum, p, i) => sum + Math.exp(p) * (p - actual[i]!),
              0,
            );
            ok(divergence <= 2e-3, `the divergence is ${divergence}`);
            const [first, second] = [...last_logits].sort((a, b) => b - a);
            if (first! - second! > 0.5) {
              equal(argmax(logits), argmax(Float32Array.from(last_logits)));
            }
            return null;
          });
        }
      },
    );
  }
}

test("TinyStories-656K in q4_0 predicts much as it does in f16", {
  skip: missing(
    "models/TinyStories-656K/TinyStories-656K-q4_0.gguf",
    "models/TinyStories-656K/TinyStories-656K-f16.gguf",
  ),
}, async () => {
  const prompt = [1, 80, 147, 201, 282, 57];
  const results: Float32Array[] = [];
  for (const format of ["q4_0", "f16"]) {
    using backend = await taken.open();
    const model = `models/TinyStories-656K/TinyStories-656K-${format}.gguf`;
    await logitsOf(backend, model, prompt, (logits) => {
      results.push(logits);
      return null;
    });
  }
  equal(argmax(results[0]!), argmax(results[1]!));
});

test("stories260K in q5_0 predicts as its weights do in float64", {
  skip: missing("models/stories260K/stories260K-q5_0.gguf"),
}, async () => {
  const results: Float32Array[] = [];
  for (const { open } of [reference, taken]) {
    using backend = await open();
    const model = "models/stories260K/stories260K-q5_0.gguf";
    await logitsOf(backend, model, [1, 80, 147, 201, 282, 57], (logits) => {
      results.push(logits);
      return null;
    });
  }
  const [expected, actual] = results.map((logits) => logSoftmax(logits));
  const divergence = expected!.reduce((sum, p, i) => sum + Math.exp(p) * (p - actual![i]!), 0);
  ok(divergence <= 2e-3, `the divergence is ${divergence}`);
  equal(argmax(results[1]!), argmax(results[0]!));
});
