/**
 * Numbers that look random, and are the same on every runtime.
 *
 * @module
 */

/**
 * Tommy Ettinger's mulberry32: small, seedable, good enough to draw tokens.
 *
 * @param seed An integer; what is beyond 32 bits does not count.
 * @returns Gives multiples of 2^-32 in [0, 1).
 */
export function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6D2B79F5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
