/**
 * A chunk's contents as bytes, as the machines that are fast keep and save them: of each layer its keys, then
 * its values (asm/kv_layout.ts).
 *
 * @module
 */

import type { AttentionShape, KvFormat } from "./backend.ts";

/** How a chunk is laid out. */
export interface ChunkLayout {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  /** Vectors of four in a head. */
  readonly quads: number;
  /** Bytes from a KV head's keys to the next's. */
  readonly headStride: number;
  /** Bytes from a token's values to the next's. */
  readonly valueStride: number;
}

/** Bytes of a layer's keys and values in a chunk. */
export function sizesOf(layout: ChunkLayout): { readonly keys: number; readonly values: number } {
  const { shape, chunkSize, headStride, valueStride } = layout;
  return { keys: shape.numKvHeads * headStride, values: chunkSize * valueStride };
}

/** Bytes of a chunk's contents. */
export function contentBytes(layout: ChunkLayout): number {
  const { keys, values } = sizesOf(layout);
  return layout.shape.numLayers * (keys + values);
}

/**
 * Zeroes the tokens of a chunk from row `from` on.
 *
 * @param bytes A chunk's contents.
 */
export function clearRows(bytes: Uint8Array, layout: ChunkLayout, from: number): void {
  const { shape, format, chunkSize, quads, headStride, valueStride } = layout;
  const plane = chunkSize * quads * 4;
  const exact = plane + chunkSize * 4;
  const clearPlane = (at: number) => {
    for (let row = from; row < chunkSize; row++) {
      for (let quad = 0; quad < quads; quad++) {
        const quartet = at + ((row >> 3) * quads + quad) * 32 + (row & 7) * 4;
        bytes.fill(0, quartet, quartet + 4);
      }
    }
  };
  for (let layer = 0, at = 0; layer < shape.numLayers; layer++) {
    for (let head = 0; head < shape.numKvHeads; head++, at += headStride) {
      clearPlane(at);
      bytes.fill(0, at + plane + from * 4, at + exact);
      if (format === "i16") clearPlane(at + exact);
      else bytes.fill(0, at + exact + from * quads * 16, at + headStride);
    }
    bytes.fill(0, at + from * valueStride, at + chunkSize * valueStride);
    at += chunkSize * valueStride;
  }
}
