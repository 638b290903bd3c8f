/**
 * A run of consecutive tokens within one chunk: u32[5].
 *
 *     [0]  pointer to the chunk's tokens of the layer and KV head 0: kv_layout.ts
 *     [4]  the first token's row there
 *     [8]  tokens
 *     [12] the first token, or its position: the others follow it
 *     [16] whether a run of block-max ends with it
 */

/** Bytes of a segment. */
export const SEGMENT_BYTES: usize = 20;

// @ts-ignore: decorator
@inline
export function segmentChunk(ptr: usize): usize {
  return load<usize>(ptr);
}

// @ts-ignore: decorator
@inline
export function segmentRow(ptr: usize): u32 {
  return load<u32>(ptr, 4);
}

// @ts-ignore: decorator
@inline
export function segmentCount(ptr: usize): u32 {
  return load<u32>(ptr, 8);
}

// @ts-ignore: decorator
@inline
export function segmentFirst(ptr: usize): u32 {
  return load<u32>(ptr, 12);
}

// @ts-ignore: decorator
@inline
export function segmentEndsRun(ptr: usize): bool {
  return load<u32>(ptr, 16) != 0;
}
