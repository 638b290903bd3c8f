/**
 * A row's greatest numbers, in one pass.
 *
 * @module
 */

import type { Largest } from "../backend.ts";

/** The verb `largest`, of a row as it lies in memory: see Backend. */
export function largest(row: Float32Array, count: number): Largest {
  const most = Math.min(count, row.length);
  const values = new Float32Array(most);
  const indices = new Uint32Array(most);
  let kept = 0;
  for (let i = 0; i < row.length; i++) {
    const value = row[i]!;
    // Asked this way round, so that NaN goes on.
    if (kept === most && value <= values[most - 1]!) continue;
    // Behind all that are as great: they were earlier.
    let start = 0;
    let end = kept;
    while (start < end) {
      const middle = (start + end) >>> 1;
      if (isBelow(values[middle]!, value)) end = middle;
      else start = middle + 1;
    }
    if (start === most) continue;
    values.copyWithin(start + 1, start, most - 1);
    indices.copyWithin(start + 1, start, most - 1);
    values[start] = value + 0; // Without the sign of a zero.
    indices[start] = i;
    if (kept < most) kept++;
  }
  return { values, indices };
}

/** Whether a ranks behind b, NaN being first. */
function isBelow(a: number, b: number): boolean {
  return b !== b ? a === a : a < b;
}
