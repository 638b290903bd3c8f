import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { largest } from "../src/backend/wasm/largest.ts";
import { argmax, createSampler, type SamplerOptions } from "../src/llama/sampler.ts";
import { mulberry32 } from "./support/random.ts";

/** How often each of four tokens is drawn in 20,000 draws. */
function shares(options: Parameters<typeof createSampler>[0]): number[] {
  const logits = new Float32Array([Math.log(0.5), Math.log(0.25), Math.log(0.15), Math.log(0.1)]);
  const sampler = createSampler({ temperature: 1, seed: 5, ...options });
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 20_000; i++) counts[sampler.draw(logits)]!++;
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

/** Rows of logits of which some are hostile, each 300 long. */
function* rows(): Generator<Float32Array> {
  const random = mulberry32(11);
  const row = (value: (i: number) => number) =>
    Float32Array.from({ length: 300 }, (_, i) => value(i));
  for (let i = 0; i < 4; i++) {
    yield row(() => random() * 20 - 10);
    // Few values, of which many are equal; some with a zero of either sign.
    yield row(() => Math.round(random() * 6) / 2 * (random() < 0.5 ? -1 : 1));
    yield row(() => random() < 0.9 ? -Infinity : random());
    yield row(() => random() * 1e-7);
    yield row(() => (random() - 0.5) * 6e38);
    yield row(() => random() < 0.01 ? NaN : random());
    yield row((i) => i === 7 ? Infinity : random());
    yield row((i) => i === 250 ? 700 : random() * 40);
  }
  for (const value of [0, -0, NaN, Infinity, -Infinity, 1e-45]) yield row(() => value);
}

/** What a function returns, or the error that it throws. */
function outcome<T>(run: () => T): T | string {
  try {
    return run();
  } catch (error) {
    return String(error);
  }
}

test("what a sampler chooses from the greatest logits is what it draws from all of them", () => {
  const asked: SamplerOptions[] = [];
  for (const topK of [1, 2, 5, 40, 140]) {
    for (const topP of [1, 0.9, 0.3]) {
      for (const temperature of [1e-310, 0.01, 0.8, 3, 1e9]) {
        asked.push({ temperature, topK, topP });
      }
    }
  }
  const random = mulberry32(12);
  let tried = 0;
  let certain = 0;
  for (const options of [{}, ...asked]) {
    // Both draw alike only as long as what is not certain draws nothing.
    const [few, all] = [1, 2].map(() => createSampler({ ...options, seed: 3 }));
    for (const logits of rows()) {
      const token = outcome(() => few!.choose(largest(logits, few!.wants)) ?? few!.draw(logits));
      equal(token, outcome(() => all!.draw(logits)), JSON.stringify(options));
    }
    for (let i = 0; i < 5; i++) {
      const logits = Float32Array.from({ length: 300 }, () => random() * 10);
      tried++;
      if (few!.choose(largest(logits, few!.wants)) !== null) certain++;
    }
  }
  // All but where the temperature makes no difference between logits.
  ok(certain > 0.75 * tried, `${certain} of ${tried}`);
});

test("a sampler asks for all logits where it draws among all of them, or among very many", () => {
  equal(createSampler({ temperature: 1 }).wants, Infinity);
  equal(createSampler({ temperature: 1, topP: 0.9 }).wants, Infinity);
  equal(createSampler({ temperature: 1, topK: 50_000 }).wants, Infinity);
  equal(createSampler({ temperature: 1, topK: 40 }).wants, 41);
  equal(createSampler({ topK: 40 }).wants, 1);
});
