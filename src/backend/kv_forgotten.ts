/**
 * Which tokens are no longer there, by the chunks that are: null where one was forgotten.
 *
 * @module
 */

import type { TokenRange } from "./backend.ts";

/** A store's chunks, null where they were forgotten. */
type Chunks = readonly (object | null)[];

/** Where tokens were forgotten, ascending. */
export function forgottenRanges(chunks: Chunks, chunkSize: number): readonly TokenRange[] {
  const ranges: { readonly start: number; end: number }[] = [];
  chunks.forEach((chunk, i) => {
    if (chunk !== null) return;
    const start = i * chunkSize;
    const last = ranges.at(-1);
    if (last?.end === start) last.end += chunkSize;
    else ranges.push({ start, end: start + chunkSize });
  });
  return ranges;
}

/** Runs of tokens, u32[runs][start, end], without those that were forgotten. */
export function withoutForgotten(
  runs: Uint32Array,
  chunks: Chunks,
  chunkSize: number,
): Uint32Array {
  const there: number[] = [];
  for (let i = 0; i < runs.length; i += 2) {
    for (let t = runs[i]!; t < runs[i + 1]!;) {
      const stop = Math.min(runs[i + 1]!, t - t % chunkSize + chunkSize);
      if (chunks[Math.floor(t / chunkSize)] !== null) {
        if (t > runs[i]! && there.at(-1) === t) there[there.length - 1] = stop;
        else there.push(t, stop);
      }
      t = stop;
    }
  }
  return Uint32Array.from(there);
}

/** @throws {RangeError} If some of the tokens [start, end) were forgotten. */
export function assertKept(
  verb: string,
  start: number,
  end: number,
  chunks: Chunks,
  chunkSize: number,
): void {
  for (let t = start; t < end; t += chunkSize - t % chunkSize) {
    if (chunks[Math.floor(t / chunkSize)] !== null) continue;
    throw new RangeError(
      `Cannot ${verb}: tokens [${start}, ${end}) must be there, but token ${t} was forgotten`,
    );
  }
}
