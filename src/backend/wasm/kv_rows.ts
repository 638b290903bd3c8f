/**
 * Where a token's bytes are in a chunk, for what is done to few of them: asm/kv_layout.ts in TypeScript.
 *
 * @module
 */

import type { AttentionShape, KvFormat } from "../backend.ts";

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

/**
 * Zeroes the tokens of a chunk from row `from` on.
 *
 * @param bytes A whole chunk: keys and values, layer by layer.
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
