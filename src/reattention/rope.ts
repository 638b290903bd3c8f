/**
 * Rotary position embedding: one table of inverse frequencies for all backends.
 *
 * @module
 */

/**
 * Inverse frequencies of the rotation. Pair `i` is (x[i], x[i + headDim / 2]), the half-split order
 * of Hugging Face's Llama; position `p` turns it by the angle `p * inverseFrequencies[i]`.
 */
export interface Rope {
  /** f32[headDim / 2] */
  readonly inverseFrequencies: Float32Array;
}

/**
 * The plain table: `theta ^ (-2 i / headDim)`. Su et al. 2021 (arXiv 2104.09864), section 3.4.2.
 *
 * @param theta The base, e.g. 10000.
 * @param headDim Values per head; even.
 *
 * @example Usage
 * ```ts
 * import { createRope } from "./rope.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(createRope(10000, 4).inverseFrequencies, new Float32Array([1, 0.01]));
 * ```
 */
export function createRope(theta: number, headDim: number): Rope {
  const inverseFrequencies = new Float32Array(headDim >> 1);
  for (let i = 0; i < inverseFrequencies.length; i++) {
    inverseFrequencies[i] = theta ** (-2 * i / headDim);
  }
  return { inverseFrequencies };
}
