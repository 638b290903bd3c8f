/**
 * A run of consecutive tokens within one chunk: u32[6].
 *
 *     [0]  pointer to the chunk's keys of the layer and KV head 0: kv_layout.ts
 *     [4]  pointer to its values, of all KV heads
 *     [8]  the first token's row in both
 *     [12] tokens
 *     [16] the first token, or its position: the others follow it
 *     [20] whether a run of block-max ends with it
 */

/** Bytes of a segment. */
export const SEGMENT_BYTES: usize = 24;

// @ts-ignore: decorator
@inline
export function segmentKeys(ptr: usize): usize {
  return load<usize>(ptr);
}

// @ts-ignore: decorator
@inline
export function segmentValues(ptr: usize): usize {
  return load<usize>(ptr, 4);
}

// @ts-ignore: decorator
@inline
export function segmentRow(ptr: usize): u32 {
  return load<u32>(ptr, 8);
}

// @ts-ignore: decorator
@inline
export function segmentCount(ptr: usize): u32 {
  return load<u32>(ptr, 12);
}

// @ts-ignore: decorator
@inline
export function segmentFirst(ptr: usize): u32 {
  return load<u32>(ptr, 16);
}

// @ts-ignore: decorator
@inline
export function segmentEndsRun(ptr: usize): bool {
  return load<u32>(ptr, 20) != 0;
}
