/**
 * Keys and values out of the cache, as rows of f32: the only place where attention meets the way they
 * are stored.
 *
 * A cursor walks over the tokens of a list of segments: usize[2], the segment and the tokens of it
 * that lie behind.
 */
import { decodeF16 } from "./convert";
import { SEGMENT_BYTES, segmentCount, segmentFirst, segmentKeys } from "./segment";

/** Bytes of a cache line, or less. */
const LINE_BYTES: usize = 64;

/** Bytes of a cursor. */
export const CURSOR_BYTES: usize = 8;

/** Puts a cursor on the `skip`th token of a list. */
export function openCursor(cursorPtr: usize, segmentsPtr: usize, skip: u32): void {
  store<usize>(cursorPtr, segmentsPtr);
  store<u32>(cursorPtr, 0, 4);
  advance(cursorPtr, skip);
}

/** Moves a cursor on by tokens that the list has. */
export function advance(cursorPtr: usize, tokens: u32): void {
  let segment = load<usize>(cursorPtr);
  let used = load<u32>(cursorPtr, 4) + tokens;
  while (used > 0 && used >= segmentCount(segment)) {
    used -= segmentCount(segment);
    segment += SEGMENT_BYTES;
  }
  store<usize>(cursorPtr, segment);
  store<u32>(cursorPtr, used, 4);
}

/** The position of a cursor's token. */
// @ts-ignore: decorator
@inline
export function cursorPosition(cursorPtr: usize): u32 {
  return segmentFirst(load<usize>(cursorPtr)) + load<u32>(cursorPtr, 4);
}

/** How many tokens from a cursor on, of `most` that the list has, are at consecutive positions. */
export function consecutive(cursorPtr: usize, most: u32): u32 {
  let segment = load<usize>(cursorPtr);
  let count = segmentCount(segment) - load<u32>(cursorPtr, 4);
  while (count < most) {
    const next = segment + SEGMENT_BYTES;
    if (segmentFirst(next) != segmentFirst(segment) + segmentCount(segment)) return count;
    count += segmentCount(next);
    segment = next;
  }
  return most;
}

/**
 * Keys, unrotated, of tokens within one segment.
 *
 * @param outPtr     f32[count, 4 * quads]; zero beyond headDim
 * @param segment    where the tokens are
 * @param headOffset bytes from KV head 0's keys to those wanted
 * @param row        the first token, counted within the segment
 * @param half       whether keys and values are f16
 */
export function gatherKeys(
  outPtr: usize,
  segment: usize,
  headOffset: usize,
  row: u32,
  count: u32,
  quads: u32,
  half: bool,
): void {
  gatherRows(outPtr, segmentKeys(segment) + headOffset, row, count, quads, half);
}

/** Values: as {@link gatherKeys}, and the bytes from a key to its value. */
export function gatherValues(
  outPtr: usize,
  segment: usize,
  headOffset: usize,
  valueOffset: usize,
  row: u32,
  count: u32,
  quads: u32,
  half: bool,
): void {
  gatherRows(outPtr, segmentKeys(segment) + headOffset + valueOffset, row, count, quads, half);
}

// @ts-ignore: decorator
@inline
function gatherRows(
  outPtr: usize,
  rowsPtr: usize,
  row: u32,
  count: u32,
  quads: u32,
  half: bool,
): void {
  if (half) decodeF16(outPtr, rowsPtr + (<usize>(row * quads) << 3), count * quads);
  else memory.copy(outPtr, rowsPtr + (<usize>(row * quads) << 4), <usize>(count * quads) << 4);
}

/**
 * Keys or values of the tokens from a cursor on, in as many segments as they lie; moves the cursor on.
 *
 * @param outPtr      f32[count, 4 * quads]; zero beyond headDim
 * @param headOffset  bytes from KV head 0 to that wanted
 * @param valueOffset bytes from a key to its value
 * @param values      whether values are wanted
 */
export function gather(
  outPtr: usize,
  cursorPtr: usize,
  headOffset: usize,
  valueOffset: usize,
  count: u32,
  quads: u32,
  half: bool,
  values: bool,
): void {
  while (count > 0) {
    const segment = load<usize>(cursorPtr);
    const row = load<u32>(cursorPtr, 4);
    const piece = min(count, segmentCount(segment) - row);
    if (values) gatherValues(outPtr, segment, headOffset, valueOffset, row, piece, quads, half);
    else gatherKeys(outPtr, segment, headOffset, row, piece, quads, half);
    advance(cursorPtr, piece);
    outPtr += <usize>(piece * quads) << 4;
    count -= piece;
  }
}

/**
 * Reads a byte of every cache line of the keys and values of the tokens from a cursor on. Scattered
 * spans defeat the hardware's prefetching, but misses that nothing waits for overlap: one token over a
 * scope of spans is 5 to 8 % faster (measured).
 *
 * @param sinkPtr 4 bytes to write, so that engines do not drop the reads
 */
export function touch(
  sinkPtr: usize,
  cursorPtr: usize,
  headOffset: usize,
  valueOffset: usize,
  count: u32,
  quads: u32,
  half: bool,
): void {
  let segment = load<usize>(cursorPtr);
  let row = load<u32>(cursorPtr, 4);
  let sink: u32 = 0;
  while (count > 0) {
    const piece = min(count, segmentCount(segment) - row);
    const rowBytes = <usize>quads << (half ? 3 : 4);
    const keys = segmentKeys(segment) + headOffset + <usize>row * rowBytes;
    const end = keys + <usize>piece * rowBytes;
    for (let p = keys; p < end; p += LINE_BYTES) {
      sink = sink | <u32>load<u8>(p);
      sink = sink | <u32>load<u8>(p + valueOffset);
    }
    count -= piece;
    segment += SEGMENT_BYTES;
    row = 0;
  }
  store<u32>(sinkPtr, sink);
}
