/**
 * What verbs write, and how far that may be off.
 *
 * One rounding to f32 is off by at most u = 2^-24 of its result, so a sum of n products, in whatever
 * order, is off by at most n * u * sum |a * b|. Tests' tolerances count roundings in this unit, the
 * reference backend's own last one included.
 *
 * @module
 */

import { equal, ok } from "node:assert/strict";
import type { Backend, Tensor } from "../../src/backend/backend.ts";
import { tensorOf } from "./handles.ts";

/** The unit of rounding of f32, relative. */
export const u: number = 2 ** -24;

/** What a verb writes. The output is NaN before, between two rows that must stay as they are. */
export async function outputOf(
  backend: Backend,
  rows: number,
  cols: number,
  verb: (out: Tensor) => void | Promise<void>,
): Promise<Float32Array> {
  const size = rows * cols;
  const before = new Float32Array(size + 2 * cols).fill(12345).fill(NaN, cols, cols + size);
  using all = tensorOf(backend, rows + 2, cols, before);
  await verb(backend.rows(all, 1, rows + 1));
  const after = await backend.read(all);
  const edges = [...after.subarray(0, cols), ...after.subarray(cols + size)];
  ok(edges.every((x) => x === 12345), "a verb wrote outside of its output");
  return after.slice(cols, cols + size);
}

/** Fails where a value is further off than allowed, or is NaN. */
export function assertNear(
  actual: Float32Array,
  expected: Float32Array,
  tolerance: (i: number) => number,
  what = "output",
): void {
  equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    // Asked this way round, so that NaN fails.
    if (difference <= tolerance(i)) continue;
    throw new Error(
      `${what}[${i}] is ${actual[i]} for ${expected[i]}, off by ${difference}, not ${tolerance(i)}`,
    );
  }
}

/**
 * How far attention in f32 may be off: a score by its headDim products and sums, four roundings
 * in each rotated factor (two products, a sum, cosines that were rounded once) and its scale; with
 * |q . k| and the rotation's cross terms below 2 |q| |k|. Shifting all scores by up to e changes each
 * softmax weight by a factor within exp(2 e). Both of softmax's sums round once a token; exp is
 * within 4 u, the rest is the quotient, a product and the reference's rounding.
 */
export function attentionTolerance(
  headDim: number,
  tokens: number,
  query: Float32Array,
  key: Float32Array,
  value: Float32Array,
): number {
  const score = 2 * longest(query, headDim) * longest(key, headDim) / Math.sqrt(headDim);
  const largest = value.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
  return (2 * (headDim + 12) * score + 2 * tokens + 8) * u * largest;
}

/** The length of the longest vector of `headDim` values. */
function longest(values: Float32Array, headDim: number): number {
  let max = 0;
  for (let start = 0; start < values.length; start += headDim) {
    let squares = 0;
    for (let i = start; i < start + headDim; i++) squares += values[i]! ** 2;
    max = Math.max(max, Math.sqrt(squares));
  }
  return max;
}
