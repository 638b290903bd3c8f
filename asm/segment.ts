/**
 * A run of consecutive tokens within one chunk: u32[4].
 *
 *     [0] pointer to the first token's key in KV head 0
 *     [4] tokens
 *     [8] the first token, or its position: the others follow it
 *     [12] whether a run of block-max ends with it
 */

/** Bytes of a segment. */
export const SEGMENT_BYTES: usize = 16;

// @ts-ignore: decorator
@inline
export function segmentKeys(ptr: usize): usize {
  return load<usize>(ptr);
}

// @ts-ignore: decorator
@inline
export function segmentCount(ptr: usize): u32 {
  return load<u32>(ptr, 4);
}

// @ts-ignore: decorator
@inline
export function segmentFirst(ptr: usize): u32 {
  return load<u32>(ptr, 8);
}

// @ts-ignore: decorator
@inline
export function segmentEndsRun(ptr: usize): bool {
  return load<u32>(ptr, 12) != 0;
}
