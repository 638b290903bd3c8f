/**
 * From logits to a token.
 *
 * @module
 */

/** How the next token is drawn. */
export interface SamplerOptions {
  /** 0 (default) takes the most likely token; 1 draws from the model's own distribution. */
  readonly temperature?: number;
  /** Draw among so many of the most likely tokens. Default: all. */
  readonly topK?: number;
  /** Draw among the most likely tokens whose probabilities first reach this sum, in (0, 1]. Default 1. */
  readonly topP?: number;
  /** Start of the random sequence, an integer. Default: a random one. */
  readonly seed?: number;
}

/** Chooses a token id from f32[vocabSize]. */
export type Sampler = (logits: Float32Array) => number;

/**
 * A seeded sampler: temperature, then top-k, then top-p.
 *
 * @throws {RangeError} If an option is out of its range.
 *
 * @example Usage
 * ```ts
 * import { createSampler } from "./sampler.ts";
 * import { equal } from "node:assert/strict";
 *
 * equal(createSampler()(new Float32Array([0, 3, 1])), 1);
 * const draw = () => createSampler({ temperature: 1, seed: 7 })(new Float32Array([1, 1, 1, 1]));
 * equal(draw(), draw());
 * ```
 */
export function createSampler(options: SamplerOptions = {}): Sampler {
  const { temperature = 0, topK = Infinity, topP = 1 } = options;
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32);
  const must = (holds: boolean, name: string, rule: string, value: number) => {
    if (!holds) throw new RangeError(`Cannot sample: ${name} must be ${rule}, got ${value}`);
  };
  must(temperature >= 0 && temperature < Infinity, "temperature", "0 or more", temperature);
  must(topK === Infinity || (Number.isSafeInteger(topK) && topK > 0), "topK", "at least 1", topK);
  must(topP > 0 && topP <= 1, "topP", "above 0 and at most 1", topP);
  must(Number.isSafeInteger(seed), "seed", "an integer", seed);
  if (temperature === 0) return argmax;

  const random = mulberry32(seed);
  return (logits) => {
    // Dividing by a subnormal temperature would overflow; the limit is the most likely token.
    const best = argmax(logits);
    const weights = new Float64Array(logits.length);
    for (let i = 0; i < logits.length; i++) {
      weights[i] = Math.exp((logits[i]! - logits[best]!) / temperature);
    }
    const kept = topK < logits.length || topP < 1 ? likeliest(weights, topK, topP) : null;
    let total = 0;
    for (let i = 0; i < (kept ?? weights).length; i++) total += weights[kept ? kept[i]! : i]!;
    let rest = random() * total;
    for (let i = 0; i < (kept ?? weights).length; i++) {
      const token = kept ? kept[i]! : i;
      rest -= weights[token]!;
      if (rest < 0) return token;
    }
    return best; // only by rounding of the sums
  };
}

/**
 * The index of the greatest value, the first of equals.
 *
 * @throws {RangeError} If the first value is NaN or there is none: such logits say nothing.
 */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  if (!(values[best]! > -Infinity)) {
    throw new RangeError(
      `Cannot choose a token: logits must be numbers above -Infinity, got ${values[best]}`,
    );
  }
  return best;
}

/** Indices by descending weight (the first of equals first), cut by both rules; at least one. */
function likeliest(weights: Float64Array, topK: number, topP: number): Uint32Array {
  const order = Uint32Array.from(weights, (_, i) => i).sort((a, b) =>
    weights[b]! - weights[a]! || a - b
  );
  let end = Math.min(topK, order.length);
  if (topP < 1) {
    let total = 0;
    for (let i = 0; i < end; i++) total += weights[order[i]!]!;
    let sum = 0;
    for (let i = 0; i < end; i++) {
      sum += weights[order[i]!]!;
      if (sum >= topP * total) end = i + 1;
    }
  }
  return order.subarray(0, end);
}

/** Tommy Ettinger's 32-bit generator: small, seedable, good enough to draw tokens. */
function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6D2B79F5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
