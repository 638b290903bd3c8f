/**
 * What calls on a store of chunks must keep to, wherever the chunks lie.
 *
 * @module
 */

import type { KeptEnds } from "./backend.ts";

/** @throws {RangeError} If a length is no count of tokens, or more than `most`. */
export function assertLength(verb: string, length: number, most: number): void {
  if (Number.isSafeInteger(length) && length >= 0 && length <= most) return;
  throw new RangeError(
    `Cannot ${verb}: the length must be a count of tokens${
      most === Infinity ? "" : `, at most the ${most} reserved`
    }, got ${length}`,
  );
}

/** @throws {RangeError} If the partial chunk at the end of `length` tokens was forgotten. */
export function assertLastChunk(
  verb: string,
  length: number,
  chunks: readonly (object | null)[],
  chunkSize: number,
): void {
  if (length % chunkSize === 0 || chunks[Math.floor(length / chunkSize)] !== null) return;
  const start = length - length % chunkSize;
  throw new RangeError(
    `Cannot ${verb}: the length must not be among forgotten tokens, got ${length} with tokens ` +
      `[${start}, ${start + chunkSize}) forgotten`,
  );
}

/**
 * @param isWritable Whether a chunk is the store's own, and in memory.
 * @throws {RangeError} If tokens [start, end) of a layer may not be written.
 */
export function assertAppendable<Chunk>(
  { layer, numLayers, start, end, chunkSize }: {
    readonly layer: number;
    readonly numLayers: number;
    readonly start: number;
    readonly end: number;
    readonly chunkSize: number;
  },
  chunks: readonly (Chunk | null)[],
  isWritable: (chunk: Chunk) => boolean,
): void {
  const room = chunks.length * chunkSize;
  if (!(layer >= 0 && layer < numLayers) || !(start >= 0) || end > room) {
    throw new RangeError(
      `Cannot append: the layer must be below ${numLayers} and the tokens within the ` +
        `${room} reserved, got layer ${layer}, tokens [${start}, ${end})`,
    );
  }
  for (let i = Math.floor(start / chunkSize); i * chunkSize < end; i++) {
    const chunk = chunks[i] ?? null;
    if (chunk === null || !isWritable(chunk)) {
      throw new RangeError(
        `Cannot append: tokens [${start}, ${end}) must be reserved after the last truncation, ` +
          "since a fork still reads them, or they were spilled or forgotten",
      );
    }
  }
}

/** The chunks between the ends that stay. */
export function middleChunks(
  length: number,
  { first, last }: KeptEnds,
  chunkSize: number,
): readonly [start: number, end: number] {
  return [
    Math.ceil(first / chunkSize),
    Math.floor((length - Math.min(length, last)) / chunkSize),
  ];
}
