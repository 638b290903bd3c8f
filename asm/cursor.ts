/**
 * A walk over the tokens of a list of segments: usize[2], the segment and the tokens of it that lie behind.
 */
import { gatherKeys, gatherValues } from "./gather";
import { takeHalves } from "./half_values";
import {
  channelBytes,
  kvExact,
  kvHalf,
  kvHeadStride,
  kvQuads,
  kvValueBytes,
  kvValueStride,
  planeOffset,
} from "./kv_layout";
import {
  SEGMENT_BYTES,
  segmentCount,
  segmentFirst,
  segmentKeys,
  segmentRow,
  segmentValues,
} from "./segment";
import { turnKeys } from "./turned_keys";

/** What is read at once from memory. */
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
 * Keys of the tokens from a cursor on, in as many segments as they lie; moves the cursor on.
 *
 * @param outPtr      f32[count, 4 * quads], unrotated; zero beyond headDim
 * @param layoutPtr   kv_layout.ts
 * @param channelsPtr of KV head 0
 */
export function takeKeys(
  outPtr: usize,
  cursorPtr: usize,
  layoutPtr: usize,
  channelsPtr: usize,
  head: u32,
  count: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const headOffset = <usize>head * kvHeadStride(layoutPtr);
  const centres = channelsPtr + <usize>head * channelBytes(quads);
  while (count > 0) {
    const segment = load<usize>(cursorPtr);
    const used = load<u32>(cursorPtr, 4);
    const piece = min(count, segmentCount(segment) - used);
    const row = segmentRow(segment) + used;
    gatherKeys(outPtr, segmentKeys(segment) + headOffset, layoutPtr, centres, row, piece);
    advance(cursorPtr, piece);
    outPtr += <usize>(piece * quads) << 4;
    count -= piece;
  }
}

/**
 * Keys of the tokens from a cursor on, i16, rotated into panels; moves the cursor on.
 *
 * @param anglePtr f32[count][2 * pairs]
 * @param pairs    multiple of 4
 */
export function takeTurnedKeys(
  panelsPtr: usize,
  cursorPtr: usize,
  layoutPtr: usize,
  channelsPtr: usize,
  anglePtr: usize,
  pairs: u32,
  head: u32,
  count: u32,
): void {
  const headOffset = <usize>head * kvHeadStride(layoutPtr);
  const centres = channelsPtr + <usize>head * channelBytes(kvQuads(layoutPtr));
  for (let at: u32 = 0; at < count;) {
    const segment = load<usize>(cursorPtr);
    const used = load<u32>(cursorPtr, 4);
    const piece = min(count - at, segmentCount(segment) - used);
    const chunk = segmentKeys(segment) + headOffset;
    const angles = anglePtr + (<usize>(at * pairs) << 3);
    const row = segmentRow(segment) + used;
    turnKeys(panelsPtr, chunk, layoutPtr, centres, angles, pairs, at, row, piece);
    advance(cursorPtr, piece);
    at += piece;
  }
}

/** {@link takeKeys} of values. */
export function takeValues(
  outPtr: usize,
  cursorPtr: usize,
  layoutPtr: usize,
  head: u32,
  count: u32,
): void {
  const quads = kvQuads(layoutPtr);
  while (count > 0) {
    const segment = load<usize>(cursorPtr);
    const used = load<u32>(cursorPtr, 4);
    const piece = min(count, segmentCount(segment) - used);
    const row = segmentRow(segment) + used;
    gatherValues(outPtr, segmentValues(segment), layoutPtr, head, row, piece);
    advance(cursorPtr, piece);
    outPtr += <usize>(piece * quads) << 4;
    count -= piece;
  }
}

/**
 * Values, f16, as they are cached: half_values.ts.
 *
 * @returns whether all are finite
 */
export function takeHalfValues(
  panelsPtr: usize,
  cursorPtr: usize,
  layoutPtr: usize,
  head: u32,
  count: u32,
): bool {
  let finite = true;
  while (count > 0) {
    const segment = load<usize>(cursorPtr);
    const used = load<u32>(cursorPtr, 4);
    const piece = min(count, segmentCount(segment) - used);
    const row = segmentRow(segment) + used;
    if (!takeHalves(panelsPtr, segmentValues(segment), layoutPtr, head, row, piece)) finite = false;
    advance(cursorPtr, piece);
    panelsPtr += <usize>piece << 4;
    count -= piece;
  }
  return finite;
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
  layoutPtr: usize,
  head: u32,
  count: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const half = kvHalf(layoutPtr);
  const stride = kvValueStride(layoutPtr);
  const valueBytes = kvValueBytes(layoutPtr);
  let segment = load<usize>(cursorPtr);
  let used = load<u32>(cursorPtr, 4);
  let sink: u32 = 0;
  while (count > 0) {
    const piece = min(count, segmentCount(segment) - used);
    const row = segmentRow(segment) + used;
    const keys = segmentKeys(segment) + <usize>head * kvHeadStride(layoutPtr);
    const exact = keys + kvExact(layoutPtr);
    if (half) {
      // Whole panels of both planes.
      const from = planeOffset(row & ~7, quads), to = planeOffset((row + piece + 7) & ~7, quads);
      for (let i = from; i < to; i += LINE_BYTES) {
        sink = sink | <u32>load<u8>(keys + i);
        sink = sink | <u32>load<u8>(exact + i);
      }
    } else {
      const from = exact + (<usize>(row * quads) << 4);
      const to = from + (<usize>(piece * quads) << 4);
      for (let p = from; p < to; p += LINE_BYTES) sink = sink | <u32>load<u8>(p);
    }
    let value = segmentValues(segment) + <usize>row * stride + <usize>head * valueBytes;
    for (let i: u32 = 0; i < piece; i++) {
      for (let p = value; p < value + valueBytes; p += LINE_BYTES) sink = sink | <u32>load<u8>(p);
      value += stride;
    }
    count -= piece;
    segment += SEGMENT_BYTES;
    used = 0;
  }
  store<u32>(sinkPtr, sink);
}
