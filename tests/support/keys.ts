/**
 * Keys that are hard to choose among.
 *
 * @module
 */

import type { KvFormat } from "../../src/backend/backend.ts";
import { integers, uniform } from "./random.ts";

/**
 * Keys with many ties, which backends must break alike to the last token: small integers in f32, where
 * every score is exact; in i16, which rounds, real numbers that come again and again.
 */
export function tyingKeys(
  format: KvFormat,
  seed: number,
  rows: number,
  headDim: number,
): Float32Array {
  if (format === "f32") return integers(seed, rows * headDim, 2);
  const pool = Math.ceil(rows / 3);
  const numbers = uniform(seed, pool * headDim);
  const keys = new Float32Array(rows * headDim);
  integers(seed + 1, rows, pool).forEach((x, r) => {
    const from = Math.abs(x) % pool * headDim;
    keys.set(numbers.subarray(from, from + headDim), r * headDim);
  });
  return keys;
}
