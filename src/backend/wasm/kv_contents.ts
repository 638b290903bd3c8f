/**
 * A chunk's contents as bytes (src/backend/kv_planes.ts), wherever they are.
 *
 * @module
 */

import { type ChunkLayout, sizesOf } from "../kv_planes.ts";
import type { Chunk, ChunkPool } from "./kv_chunks.ts";

/** out = a chunk's contents, u8[{@linkcode contentBytes}]. */
export function readContents(
  out: Uint8Array,
  pool: ChunkPool,
  chunk: Chunk,
  layout: ChunkLayout,
): void {
  const { keys, values } = sizesOf(layout);
  pool.homes.forEach(({ memory: { u8 } }, layer) => {
    const block = chunk.blocks[layer]!;
    const at = layer * (keys + values);
    out.set(u8.subarray(block.keys, block.keys + keys), at);
    if (chunk.slot < 0) out.set(u8.subarray(block.values, block.values + values), at + keys);
    else pool.readSpilled(chunk, layer, out.subarray(at + keys, at + keys + values));
  });
}

/** Sets the contents of a chunk that is in memory. */
export function writeContents(
  pool: ChunkPool,
  chunk: Chunk,
  bytes: Uint8Array,
  layout: ChunkLayout,
): void {
  const { keys, values } = sizesOf(layout);
  pool.homes.forEach(({ memory: { u8 } }, layer) => {
    const block = chunk.blocks[layer]!;
    const at = layer * (keys + values);
    u8.set(bytes.subarray(at, at + keys), block.keys);
    u8.set(bytes.subarray(at + keys, at + keys + values), block.values);
  });
}
