/**
 * How a layer's keys are centred and weighed, in its arena.
 *
 * @module
 */

import type { AttentionShape } from "../backend.ts";
import { channelsOf } from "../key_channels.ts";

/**
 * Sets a layer's channels by its first keys.
 *
 * @param f32 The arena.
 * @param channels Where they are in it, in bytes.
 * @param key Rows in the same arena; `ptr` and `stride` in bytes.
 * @param layout `quads`: vectors of four in a head.
 */
export function centreChannels(
  f32: Float32Array,
  channels: number,
  key: { readonly ptr: number; readonly stride: number; readonly rows: number },
  { shape, quads }: { readonly shape: AttentionShape; readonly quads: number },
): void {
  const { numKvHeads, headDim } = shape;
  const width = 4 * quads;
  for (let head = 0; head < numKvHeads; head++) {
    const rows = Array.from({ length: key.rows }, (_, r) => {
      const at = (key.ptr + r * key.stride) / 4 + head * headDim;
      return f32.subarray(at, at + headDim);
    });
    const { centres, weights, inverses } = channelsOf(rows, headDim);
    const at = channels / 4 + head * 3 * width;
    f32.set(centres, at);
    f32.set(weights, at + width);
    f32.set(inverses, at + 2 * width);
  }
}
