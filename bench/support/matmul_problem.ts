/**
 * One matrix multiply: its inputs, and whether an output is right.
 *
 * @module
 */

import { normals, type PoolWeight } from "./numbers.ts";

/** out[r, o] = sum_i x[r, i] * weight[o, i] */
export interface MatmulProblem {
  readonly rows: number;
  readonly x: Float32Array<ArrayBuffer>; // f32[rows, weight.cols]
  readonly weight: PoolWeight;
}

/** A problem of random numbers. */
export function matmulProblem(rows: number, weight: PoolWeight): MatmulProblem {
  return { rows, x: normals(rows * weight.cols, rows), weight };
}

/**
 * How far outputs may be off, root mean square over that of the right ones: in f32 sums of some
 * thousand products; with activations rounded to 8 bits, which is off by 0.6 % (one scale per 32 of
 * them) or 1 % (one for all).
 */
export const TOLERANCES = { f32: 1e-5, int8: 0.02 } as const;

/** Samples of an output that are computed again. */
const SAMPLES = 64;

/**
 * Compares samples of an output with sums in float64.
 *
 * @param out f32[rows, weight.rows]
 * @throws {Error} If an output is not a number, or too many are too far off.
 */
export function checkMatmul(
  { rows, x, weight }: MatmulProblem,
  out: Float32Array,
  tolerance: number,
): void {
  if (out.length !== rows * weight.rows) {
    throw new Error(`the output must have ${rows * weight.rows} numbers, got ${out.length}`);
  }
  const unset = out.findIndex(Number.isNaN);
  if (unset >= 0) {
    throw new Error(`output ${unset} of ${out.length} was not written`);
  }
  let errors = 0;
  let squares = 0;
  for (let sample = 0; sample < SAMPLES; sample++) {
    // The corners first; then steps that meet all residues of tiles and panels.
    const r = sample === 0 ? 0 : sample === 1 ? rows - 1 : sample * 7919 % rows;
    const o = sample === 0 ? 0 : sample === 1 ? weight.rows - 1 : sample * 104729 % weight.rows;
    let sum = 0;
    for (let i = 0; i < weight.cols; i++) {
      sum += x[r * weight.cols + i]! * weight.at(o, i);
    }
    errors += (out[r * weight.rows + o]! - sum) ** 2;
    squares += sum ** 2;
  }
  const off = Math.sqrt(errors / squares);
  if (!(off <= tolerance)) {
    throw new Error(`outputs must be within ${tolerance} of float64 sums, got ${off.toFixed(6)}`);
  }
}
