/**
 * Random inputs that are the same in every run and every runtime.
 *
 * @module
 */

/** A small generator of numbers in [0, 1), the one that the golden vectors were made with. */
export function mulberry32(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6D2B79F5) | 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

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
