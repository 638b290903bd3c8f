/**
 * What is left of a key in the cache format `i16`.
 *
 * @module
 */

import type { KeyChannels } from "../key_channels.ts";

/** The largest of the integers. */
const LIMIT = 16383;

/**
 * Centred, weighed, rounded to integers of one scale, and back. Each step is rounded to f32, as the fast
 * backends do, so that a number in the middle of two integers goes the same way.
 *
 * @param key f32[headDim]
 * @returns f32[headDim]
 */
export function roundKey(key: Float32Array, channels: KeyChannels): Float32Array {
  const { centres, weights, inverses } = channels;
  const { fround } = Math;
  const numbers = key.map((x, d) => fround(x - centres[d]!) * weights[d]!);
  const largest = numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const scale = fround(largest / LIMIT);
  const factor = largest > 0 ? fround(LIMIT / largest) : 0;
  return numbers.map((x, d) => {
    const n = Math.max(-LIMIT, Math.min(LIMIT, nearest(fround(x * factor))));
    return n * scale * inverses[d]! + centres[d]!;
  });
}

/** Ties go to the even integer. */
function nearest(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
