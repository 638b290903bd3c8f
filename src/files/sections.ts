/**
 * A stream of bytes in sections, each followed by its checksum: u8[bytes], then XXH32 as u32. The checksum is
 * seeded with the section's number, so that no section passes for another one.
 *
 * @module
 */

import type { ByteSource } from "./byte_source.ts";
import { xxHash32 } from "./xx_hash.ts";

/** Bytes of a checksum. */
export const CHECKSUM_BYTES = 4;

/** A section to write. */
export interface Section {
  readonly byteLength: number;
  /** Sets all bytes. */
  fill(out: Uint8Array<ArrayBuffer>): void | Promise<void>;
}

/** Takes bytes, in order; they may change once it has resolved. */
export type ByteSink = (bytes: Uint8Array<ArrayBuffer>) => Promise<void>;

/** Writes sections: the next one is made while the one before is being written. */
export async function writeSections(sections: Iterable<Section>, sink: ByteSink): Promise<void> {
  const buffers = twoBuffers();
  let number = 0;
  let writing: Promise<void> = Promise.resolve();
  try {
    for (const { byteLength, fill } of sections) {
      const bytes = buffers(number, byteLength + CHECKSUM_BYTES);
      const payload = bytes.subarray(0, byteLength);
      await fill(payload);
      setChecksum(bytes, number++);
      await writing;
      writing = sink(bytes);
    }
  } finally {
    await writing;
  }
}

/**
 * Reads sections: the next one is read while the caller is at the one before. What it gives is overwritten
 * later, so take it at once.
 *
 * @param start Where the first one begins in the source.
 * @param sizes Bytes of each section; their sum must have been checked.
 * @param fail Told the number of a section whose checksum is wrong.
 */
export async function* readSections(
  source: ByteSource,
  start: number,
  sizes: Iterable<number>,
  fail: (number: number) => never,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const buffers = twoBuffers();
  const remaining = sizes[Symbol.iterator]();
  let offset = start;
  let begun = 0;
  const begin = () => {
    const { value, done } = remaining.next();
    if (done) return null;
    const bytes = buffers(begun++, value + CHECKSUM_BYTES);
    const reading = source.read(bytes, offset).then(() => bytes);
    // Where the caller stops before, nobody asks how it ended.
    reading.catch(() => {});
    offset += bytes.byteLength;
    return reading;
  };
  let next = begin();
  try {
    for (let number = 0; next !== null; number++) {
      const bytes = await next;
      next = begin();
      if (!hasChecksum(bytes, number)) fail(number);
      yield bytes.subarray(0, bytes.byteLength - CHECKSUM_BYTES);
    }
  } finally {
    await next?.catch(() => {});
  }
}

/** Sets the last four bytes to the checksum of the others. */
export function setChecksum(bytes: Uint8Array, seed: number): void {
  const end = bytes.byteLength - CHECKSUM_BYTES;
  viewOf(bytes).setUint32(end, xxHash32(bytes.subarray(0, end), seed), true);
}

/** Whether the last four bytes are the checksum of the others. */
export function hasChecksum(bytes: Uint8Array, seed: number): boolean {
  const end = bytes.byteLength - CHECKSUM_BYTES;
  return viewOf(bytes).getUint32(end, true) === xxHash32(bytes.subarray(0, end), seed);
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** Two buffers in turn, as long as what was asked for. */
function twoBuffers(): (turn: number, byteLength: number) => Uint8Array<ArrayBuffer> {
  const buffers = [new Uint8Array(0), new Uint8Array(0)];
  return (turn, byteLength) => {
    const which = turn % 2;
    if (buffers[which]!.byteLength < byteLength) buffers[which] = new Uint8Array(byteLength);
    return buffers[which]!.subarray(0, byteLength);
  };
}
