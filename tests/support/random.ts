/**
 * Random inputs that are the same in every run and every runtime.
 *
 * @module
 */

import { mulberry32 } from "../../src/llama/random.ts";

// The golden vectors were made with it, too.
export { mulberry32 };

/** f32 values in [-1, 1). */
export function uniform(seed: number, length: number): Float32Array {
  const random = mulberry32(seed);
  return Float32Array.from({ length }, () => random() * 2 - 1);
}

/**
 * Integers in [-bound, bound]: few, so that equal scores abound, and small, so that every sum of
 * products is exact in f32 and no rounding can reorder them.
 */
export function integers(seed: number, length: number, bound: number): Float32Array {
  const random = mulberry32(seed);
  return Float32Array.from({ length }, () => Math.floor(random() * (2 * bound + 1)) - bound);
}
