import { decodeF16 } from "./convert";
import { KEY_OFFSET, kvExact, kvHalf, kvQuads, kvScales, kvValueBytes, kvValueStride, planeOffset } from "./kv_layout";
import { madd } from "./simd";

/**
 * Keys of consecutive tokens of a chunk as rows.
 *
 * @param outPtr     f32[count, 4 * quads], unrotated
 * @param chunkPtr   the chunk's tokens of the layer and KV head
 * @param layoutPtr  kv_layout.ts
 * @param centresPtr the KV head's channels
 * @param row        the first token's
 */
export function gatherKeys(
  outPtr: usize,
  chunkPtr: usize,
  layoutPtr: usize,
  centresPtr: usize,
  row: u32,
  count: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const rowBytes = <usize>quads << 4;
  const exact = chunkPtr + kvExact(layoutPtr);
  if (!kvHalf(layoutPtr)) {
    memory.copy(outPtr, exact + <usize>row * rowBytes, <usize>count * rowBytes);
    return;
  }
  const scales = chunkPtr + kvScales(layoutPtr);
  for (const end = row + count; row < end;) {
    const plane = planeOffset(row, quads);
    const scale = scales + (<usize>row << 2);
    if ((row & 7) == 0 && row + 8 <= end) {
      joinEight(outPtr, chunkPtr + plane, exact + plane, scale, centresPtr, rowBytes);
      outPtr += rowBytes << 3;
      row += 8;
    } else {
      joinOne(outPtr, chunkPtr + plane, exact + plane, scale, centresPtr, rowBytes);
      outPtr += rowBytes;
      row++;
    }
  }
}

/**
 * Values of consecutive tokens of a chunk as rows.
 *
 * @param outPtr    f32[count, 4 * quads]
 * @param valuesPtr the chunk's values of the layer
 */
export function gatherValues(
  outPtr: usize,
  valuesPtr: usize,
  layoutPtr: usize,
  head: u32,
  row: u32,
  count: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const half = kvHalf(layoutPtr);
  const stride = kvValueStride(layoutPtr);
  const rowBytes = <usize>quads << 4;
  let value = valuesPtr + <usize>row * stride + <usize>head * kvValueBytes(layoutPtr);
  for (const end = outPtr + <usize>count * rowBytes; outPtr < end; outPtr += rowBytes) {
    if (half) decodeF16(outPtr, value, quads);
    else memory.copy(outPtr, value, rowBytes);
    value += stride;
  }
}

/** Eight bytes' pairs of low and high bytes as numbers less the offset. */
// @ts-ignore: decorator
@inline
function lowNumbers(pairs: v128, offset: v128): v128 {
  return f32x4.sub(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(pairs)), offset);
}

// @ts-ignore: decorator
@inline
function highNumbers(pairs: v128, offset: v128): v128 {
  return f32x4.sub(f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(pairs)), offset);
}

/** Bytes a[i], b[i] side by side, of the first eight i. */
// @ts-ignore: decorator
@inline
export function zipLow(a: v128, b: v128): v128 {
  return v128.shuffle<i8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

// @ts-ignore: decorator
@inline
export function zipHigh(a: v128, b: v128): v128 {
  return v128.shuffle<i8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/** One key from its bytes. */
function joinOne(
  outPtr: usize,
  highPtr: usize,
  lowPtr: usize,
  scalePtr: usize,
  centresPtr: usize,
  rowBytes: usize,
): void {
  const offset = f32x4.splat(KEY_OFFSET);
  const scale = v128.load32_splat(scalePtr);
  const inverses = rowBytes << 1;
  for (const end = outPtr + rowBytes; outPtr < end; outPtr += 16) {
    const pairs = zipLow(v128.load32_zero(lowPtr), v128.load32_zero(highPtr));
    const n = f32x4.mul(lowNumbers(pairs, offset), scale);
    v128.store(outPtr, madd(n, v128.load(centresPtr + inverses), v128.load(centresPtr)));
    highPtr += 32;
    lowPtr += 32;
    centresPtr += 16;
  }
}

/** The keys of a panel from their bytes. */
function joinEight(
  outPtr: usize,
  highPtr: usize,
  lowPtr: usize,
  scalePtr: usize,
  centresPtr: usize,
  rowBytes: usize,
): void {
  const offset = f32x4.splat(KEY_OFFSET);
  const s0 = v128.load32_splat(scalePtr), s1 = v128.load32_splat(scalePtr, 4);
  const s2 = v128.load32_splat(scalePtr, 8), s3 = v128.load32_splat(scalePtr, 12);
  const s4 = v128.load32_splat(scalePtr, 16), s5 = v128.load32_splat(scalePtr, 20);
  const s6 = v128.load32_splat(scalePtr, 24), s7 = v128.load32_splat(scalePtr, 28);
  const inverses = rowBytes << 1;
  for (const end = outPtr + rowBytes; outPtr < end; outPtr += 16) {
    const inverse = v128.load(centresPtr + inverses), centre = v128.load(centresPtr);
    let out = outPtr;
    let low = v128.load(lowPtr), high = v128.load(highPtr);
    let pairs = zipLow(low, high);
    v128.store(out, madd(f32x4.mul(lowNumbers(pairs, offset), s0), inverse, centre));
    out += rowBytes;
    v128.store(out, madd(f32x4.mul(highNumbers(pairs, offset), s1), inverse, centre));
    out += rowBytes;
    pairs = zipHigh(low, high);
    v128.store(out, madd(f32x4.mul(lowNumbers(pairs, offset), s2), inverse, centre));
    out += rowBytes;
    v128.store(out, madd(f32x4.mul(highNumbers(pairs, offset), s3), inverse, centre));
    out += rowBytes;
    low = v128.load(lowPtr, 16);
    high = v128.load(highPtr, 16);
    pairs = zipLow(low, high);
    v128.store(out, madd(f32x4.mul(lowNumbers(pairs, offset), s4), inverse, centre));
    out += rowBytes;
    v128.store(out, madd(f32x4.mul(highNumbers(pairs, offset), s5), inverse, centre));
    out += rowBytes;
    pairs = zipHigh(low, high);
    v128.store(out, madd(f32x4.mul(lowNumbers(pairs, offset), s6), inverse, centre));
    out += rowBytes;
    v128.store(out, madd(f32x4.mul(highNumbers(pairs, offset), s7), inverse, centre));
    highPtr += 32;
    lowPtr += 32;
    centresPtr += 16;
  }
}
