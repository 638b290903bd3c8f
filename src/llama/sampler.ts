/**
 * From logits to a token.
 *
 * @module
 */

import type { Largest } from "../backend/backend.ts";

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

/** What chooses tokens. */
export interface Sampler {
  /** Chooses a token id from f32[vocabSize]. */
  draw(logits: Float32Array): number;
  /** So many of the greatest logits are mostly enough to choose from; Infinity: never. */
  readonly wants: number;
  /** What `draw` would choose from all logits, of which these are the greatest `wants`; null where that is not certain. */
  choose(greatest: Largest): number | null;
}

/** The most logits that are asked for without the others: what sorts a few is slow with many. */
const MOST_WANTED = 1024;

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
 * equal(createSampler().draw(new Float32Array([0, 3, 1])), 1);
 * const draw = () => createSampler({ temperature: 1, seed: 7 }).draw(new Float32Array([1, 1, 1]));
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
  if (temperature === 0) return GREEDY;

  const random = mulberry32(seed);
  /** Draws one of the places in `order`; the sums are of its order, to the last bit. */
  const pick = (weights: Float64Array, order: Uint32Array | null, best: number): number => {
    const count = (order ?? weights).length;
    let total = 0;
    for (let i = 0; i < count; i++) total += weights[order ? order[i]! : i]!;
    let rest = random() * total;
    for (let i = 0; i < count; i++) {
      const place = order ? order[i]! : i;
      rest -= weights[place]!;
      if (rest < 0) return place;
    }
    return best; // only by rounding of the sums
  };
  return {
    draw(logits) {
      const best = argmax(logits);
      const weights = weightsOf(logits, logits[best]!, temperature);
      const isCut = topK < logits.length || topP < 1;
      const order = isCut ? cut(descending(weights, (i) => i), weights, topK, topP) : null;
      return pick(weights, order, best);
    },
    // The one after the last shows whether the last is in by its logit or by its place.
    wants: topK < MOST_WANTED ? topK + 1 : Infinity,
    choose({ values, indices }) {
      if (!Number.isFinite(values[0]) || values.length <= topK) return null;
      const weights = weightsOf(values, values[0]!, temperature);
      const all = descending(weights, (i) => indices[i]!);
      const [last, next] = [weights[all[topK - 1]!]!, weights[all[topK]!]!];
      // Different logits can have one weight, of which all that have it compete. No token of weight 0 is drawn.
      if (last > 0 && !(last > next * (1 + TIE))) return null;
      return indices[pick(weights, cut(all, weights, topK, topP), 0)]!;
    },
  };
}

/** How far exp may be off, relative: an engine's need not be monotone to the last bit. */
const TIE = 1e-12;

const GREEDY: Sampler = {
  draw: argmax,
  wants: 1,
  choose: ({ values, indices }) => Number.isFinite(values[0]) ? indices[0]! : null,
};

/** Each token's share, the best one's being 1. */
function weightsOf(logits: Float32Array, best: number, temperature: number): Float64Array {
  const weights = new Float64Array(logits.length);
  // Dividing by a subnormal temperature would overflow; the limit is the most likely token.
  for (let i = 0; i < logits.length; i++) {
    weights[i] = Math.exp((logits[i]! - best) / temperature);
  }
  return weights;
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

/** Places by descending weight; of equal ones the lowest token first. */
function descending(weights: Float64Array, tokenOf: (place: number) => number): Uint32Array {
  return Uint32Array.from(weights, (_, i) => i).sort((a, b) =>
    weights[b]! - weights[a]! || tokenOf(a) - tokenOf(b)
  );
}

/** What both rules leave of places by descending weight; at least one. */
function cut(
  order: Uint32Array,
  weights: Float64Array,
  topK: number,
  topP: number,
): Uint32Array {
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
