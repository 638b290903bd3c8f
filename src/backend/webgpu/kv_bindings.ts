/**
 * Which slabs kernels must be given for some tokens, and what they want to know of each: shaders/kv_layout.ts.
 *
 * @module
 */

import type { ChunkLayout } from "../kv_planes.ts";
import type { DeviceBuffer } from "./device.ts";
import type { Chunk, ChunkPool, Plane } from "./kv_chunks.ts";
import type { KeyParam, ValueParam } from "./shaders/kv_layout.ts";

/** Tokens [start, end). */
export type Range = readonly [start: number, end: number];

/** A slab's buffer of a layer, and its parameters. */
export interface Bound<Param extends string> {
  readonly buffer: DeviceBuffer;
  readonly params: Readonly<Record<Param, number>>;
}

/** The slabs in which some tokens' keys or values are. */
export function slabsOf(
  chunks: readonly (Chunk | null)[],
  plane: Plane,
  ranges: readonly Range[],
  chunkSize: number,
): number[] {
  const found = new Set<number>();
  for (const [start, end] of ranges) {
    for (let i = Math.floor(start / chunkSize); i * chunkSize < end; i++) {
      const place = chunks[i]?.[plane];
      if (place) found.add(place.slab);
    }
  }
  return [...found];
}

/** The parameters of a slab with keys. */
export function keyParams(
  pool: ChunkPool,
  { format, chunkSize, quads, headStride }: ChunkLayout,
  slab: number,
): Record<KeyParam, number> {
  const highBytes = chunkSize * quads * 4;
  return {
    quads,
    is_half: format === "i16" ? 1 : 0,
    chunkSize,
    slab,
    slotWords: pool.slotBytes("keys") / 4,
    headWords: headStride / 4,
    scalesAt: highBytes / 4,
    exactAt: highBytes / 4 + chunkSize,
  };
}

/** The parameters of a slab with values. */
export function valueParams(
  pool: ChunkPool,
  { format, chunkSize, quads, valueStride }: ChunkLayout,
  slab: number,
): Record<ValueParam, number> {
  return {
    quads,
    is_half: format === "i16" ? 1 : 0,
    chunkSize,
    slab,
    slotWords: pool.slotBytes("values") / 4,
    rowWords: valueStride / 4,
  };
}
