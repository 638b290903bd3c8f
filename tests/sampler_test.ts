import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { argmax, createSampler } from "../src/llama/sampler.ts";

/** How often each of four tokens is drawn in 20,000 draws. */
function shares(options: Parameters<typeof createSampler>[0]): number[] {
  const logits = new Float32Array([Math.log(0.5), Math.log(0.25), Math.log(0.15), Math.log(0.1)]);
  const sample = createSampler({ temperature: 1, seed: 5, ...options });
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 20_000; i++) counts[sample(logits)]!++;
  return counts.map((count) => count / 20_000);
}

/** Five standard deviations of a share of 20,000 draws are at most 0.018. */
function assertShares(actual: number[], expected: number[]): void {
  for (const [i, share] of expected.entries()) {
    if (share === 0) equal(actual[i], 0);
    else ok(Math.abs(actual[i]! - share) < 0.018, `token ${i}: ${actual[i]} instead of ${share}`);
  }
}

test("argmax takes the first of equals and refuses logits that say nothing", () => {
  equal(argmax(new Float32Array([1, 3, 3, 2])), 1);
  equal(argmax(new Float32Array([-Infinity, 0])), 1);
  throws(() => argmax(new Float32Array([NaN, 1])), RangeError);
  throws(() => argmax(new Float32Array([])), RangeError);
});

test("a sampler draws tokens as often as temperature, top-k and top-p say", () => {
  assertShares(shares({}), [0.5, 0.25, 0.15, 0.1]);
  assertShares(shares({ topK: 2 }), [2 / 3, 1 / 3, 0, 0]);
  assertShares(shares({ topP: 0.74 }), [2 / 3, 1 / 3, 0, 0]);
  assertShares(shares({ topP: 0.76 }), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]);
  // At temperature 1/2 probabilities are squared.
  const total = 0.25 + 0.0625 + 0.0225 + 0.01;
  assertShares(shares({ temperature: 0.5 }), [
    0.25 / total,
    0.0625 / total,
    0.0225 / total,
    0.01 / total,
  ]);
  deepEqual(shares({ temperature: 1e-300 }), [1, 0, 0, 0]);
});

test("a sampler with the same seed draws the same tokens", () => {
  deepEqual(shares({ seed: 9 }), shares({ seed: 9 }));
});

test("a sampler refuses options out of range", () => {
  for (
    const options of [
      { temperature: -1 },
      { temperature: NaN },
      { topK: 0 },
      { topK: 1.5 },
      { topP: 0 },
      { topP: 1.1 },
      { seed: 0.5 },
    ]
  ) throws(() => createSampler(options), RangeError, JSON.stringify(options));
});
