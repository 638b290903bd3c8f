/**
 * A chunk's contents as bytes (src/backend/kv_planes.ts), wherever they are.
 *
 * @module
 */

import type { Chunk, ChunkPool } from "./kv_chunks.ts";

/** out = a chunk's contents, u8[{@linkcode contentBytes}]. */
export async function readContents(
  out: Uint8Array,
  pool: ChunkPool,
  chunk: Chunk,
): Promise<void> {
  const { device } = pool.owner;
  const { keys, values } = pool.sizes;
  const place = chunk.values;
  const layers = Array.from({ length: pool.numLayers }, (_, layer) => layer);
  // Before anything waits: what is spilled now may be somewhere else then.
  for (const layer of place ? [] : layers) {
    const at = layer * (keys + values) + keys;
    pool.readSpilled(out.subarray(at, at + values), chunk, layer);
  }
  const whole = device.allocate(out.byteLength, "a chunk that is to be read");
  try {
    for (const layer of layers) {
      const at = layer * (keys + values);
      const { slab, slot } = chunk.keys;
      const from = pool.buffer("keys", slab, layer);
      device.copy(whole, at, from, slot * pool.slotBytes("keys"), keys);
      if (!place) continue;
      const buffer = pool.buffer("values", place.slab, layer);
      device.copy(whole, at + keys, buffer, place.slot * pool.slotBytes("values"), values);
    }
    const bytes = new Uint8Array(await device.read(whole, 0, out.byteLength));
    for (const layer of layers) {
      const at = layer * (keys + values);
      out.set(bytes.subarray(at, at + keys + (place ? values : 0)), at);
    }
  } finally {
    device.release(whole);
  }
}

/** Sets the contents of a chunk that is on the device. */
export function writeContents(pool: ChunkPool, chunk: Chunk, bytes: Uint8Array): void {
  let at = 0;
  for (let layer = 0; layer < pool.numLayers; layer++) {
    for (const plane of ["keys", "values"] as const) {
      const part = bytes.subarray(at, at + pool.sizes[plane]);
      pool.write(plane, layer, chunk[plane]!, part);
      at += part.byteLength;
    }
  }
}
