import {
  BLOCK,
  firstRow,
  Form,
  formOf,
  groupBlockBytes,
  groupsOf,
  Quantised,
  quadBytes,
  tileRows,
} from "./quantised";

/** Four lanes to four places, each in its four bytes or repeated over a vector. */
// @ts-ignore: decorator
@inline
function storeQuads(ptr: usize, step: usize, quads: v128, repeated: bool): void {
  if (repeated) {
    v128.store(ptr, v128.shuffle<i32>(quads, quads, 0, 0, 0, 0));
    v128.store(ptr + step, v128.shuffle<i32>(quads, quads, 1, 1, 1, 1));
    v128.store(ptr + 2 * step, v128.shuffle<i32>(quads, quads, 2, 2, 2, 2));
    v128.store(ptr + 3 * step, v128.shuffle<i32>(quads, quads, 3, 3, 3, 3));
  } else {
    v128.store_lane<i32>(ptr, quads, 0);
    v128.store_lane<i32>(ptr + step, quads, 1);
    v128.store_lane<i32>(ptr + 2 * step, quads, 2);
    v128.store_lane<i32>(ptr + 3 * step, quads, 3);
  }
}

/** Two lanes to two places. */
// @ts-ignore: decorator
@inline
function storeWords(ptr: usize, step: usize, words: v128): void {
  v128.store_lane<i64>(ptr, words, 0);
  v128.store_lane<i64>(ptr + step, words, 1);
}

/** The digits of eight i16: a = 16 * high + low, -8 <= low < 8. */
// @ts-ignore: decorator
@inline
function highDigits(a: v128): v128 {
  return i16x8.shr_s(i16x8.add(a, i16x8.splat(8)), 4);
}

// @ts-ignore: decorator
@inline
function lowDigits(a: v128, high: v128): v128 {
  return i16x8.sub(a, i16x8.shl(high, 4));
}

/** |x| as bits: as integers they are in the same order, and NaN is the largest. */
// @ts-ignore: decorator
@inline
function sizes(ptr: usize): v128 {
  return v128.and(v128.load(ptr), i32x4.splat(0x7fffffff));
}

/**
 * The integers next to four numbers within 2^22, ties to even: adding 1.5 * 2^23 leaves them at the
 * bottom. Four instructions less in V8 than nearest and trunc_sat.
 */
// @ts-ignore: decorator
@inline
function rounded(ptr: usize, inverse: v128): v128 {
  const x = f32x4.mul(v128.load(ptr), inverse);
  return i32x4.sub(f32x4.add(x, f32x4.splat(12582912)), i32x4.splat(0x4b400000));
}

/** The sum of eight i16. */
// @ts-ignore: decorator
@inline
function sumOf(words: v128): i32 {
  const sums = i32x4.extadd_pairwise_i16x8_s(words);
  return i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) +
    i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
}

/** One row of a group; `outPtr` is where its first scale goes, `quadsPtr` its first quad. */
function quantizeRow(
  outPtr: usize,
  quadsPtr: usize,
  xPtr: usize,
  blocks: u32,
  rows: u32,
  form: i32,
  offset: i32,
  halves: bool,
): void {
  const blockBytes = groupBlockBytes(rows, form);
  const repeated = quadBytes(rows, form) == 16;
  const lowAt = quadBytes(rows, form);
  const step = <usize>rows * lowAt * (form == Form.Digits ? 2 : 1);
  for (const end = xPtr + <usize>blocks * (BLOCK << 2); xPtr < end; xPtr += BLOCK << 2) {
    let largest = i32x4.max_s(
      i32x4.max_s(
        i32x4.max_s(sizes(xPtr), sizes(xPtr + 16)),
        i32x4.max_s(sizes(xPtr + 32), sizes(xPtr + 48)),
      ),
      i32x4.max_s(
        i32x4.max_s(sizes(xPtr + 64), sizes(xPtr + 80)),
        i32x4.max_s(sizes(xPtr + 96), sizes(xPtr + 112)),
      ),
    );
    largest = i32x4.max_s(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1));
    largest = i32x4.max_s(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2));
    // NaN makes the scale NaN, and with it all outputs. Below 2^-100 the inverse may be infinite:
    // such a block is zero.
    const m = f32x4.extract_lane(largest, 0);
    const inverse = f32x4.splat(m > <f32>7.888609052210118e-31 ? <f32>127 / m : 0);
    const a = i16x8.narrow_i32x4_s(rounded(xPtr, inverse), rounded(xPtr + 16, inverse));
    const b = i16x8.narrow_i32x4_s(rounded(xPtr + 32, inverse), rounded(xPtr + 48, inverse));
    const c = i16x8.narrow_i32x4_s(rounded(xPtr + 64, inverse), rounded(xPtr + 80, inverse));
    const d = i16x8.narrow_i32x4_s(rounded(xPtr + 96, inverse), rounded(xPtr + 112, inverse));
    v128.store(outPtr, f32x4.splat(m / 127));
    const corrections = outPtr + (<usize>rows << 4);
    if (halves) {
      const first = -offset * sumOf(i16x8.add(a, b));
      const second = -offset * sumOf(i16x8.add(c, d));
      v128.store(corrections, i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(first), 1, second), 3, second));
    } else {
      const sum = sumOf(i16x8.add(i16x8.add(a, b), i16x8.add(c, d)));
      v128.store(corrections, i32x4.splat(-offset * sum));
    }
    const half = quadsPtr + 4 * step;
    if (form == Form.Words) {
      storeWords(quadsPtr, step, a);
      storeWords(quadsPtr + 2 * step, step, b);
      storeWords(half, step, c);
      storeWords(half + 2 * step, step, d);
    } else if (form != Form.Digits) {
      storeQuads(quadsPtr, step, i8x16.narrow_i16x8_s(a, b), repeated);
      storeQuads(half, step, i8x16.narrow_i16x8_s(c, d), repeated);
    } else {
      const ah = highDigits(a), bh = highDigits(b), ch = highDigits(c), dh = highDigits(d);
      storeQuads(quadsPtr, step, i8x16.narrow_i16x8_s(ah, bh), repeated);
      storeQuads(half, step, i8x16.narrow_i16x8_s(ch, dh), repeated);
      const al = lowDigits(a, ah), bl = lowDigits(b, bh);
      storeQuads(quadsPtr + lowAt, step, i8x16.narrow_i16x8_s(al, bl), repeated);
      const cl = lowDigits(c, ch), dl = lowDigits(d, dh);
      storeQuads(half + lowAt, step, i8x16.narrow_i16x8_s(cl, dl), repeated);
    }
    outPtr += blockBytes;
    quadsPtr += blockBytes;
  }
}

/**
 * Activations to int8, 32 at a time, as llama.cpp's Q8_0 does.
 *
 *     scale = max |x| / 127       quantised = x * (127 / max |x|), to the nearest integer, ties to even
 *
 * @param outPtr {@link quantisedBytes} bytes, aligned to 16; written for groups [start, end)
 * @param xPtr   f32[rows, 32 * blocks], rows `xStride` bytes apart
 * @param offset what is added to q8_0 weights: 0 or 128
 */
export function quantizeRows(
  outPtr: usize,
  xPtr: usize,
  xStride: usize,
  rows: u32,
  blocks: u32,
  format: i32,
  exact: bool,
  offset: i32,
  start: u32,
  end: u32,
): void {
  const form = formOf(format, exact);
  const tile = tileRows(form);
  const halves = format == Quantised.Q6K;
  const zero = format == Quantised.Q8 ? offset : format == Quantised.Q4 ? 8 : halves ? 32 : 1;
  let out = outPtr + groupOffset(start, rows, blocks, form);
  for (let g = start; g < end; g++) {
    const first = firstRow(g, rows, tile);
    const count = firstRow(g + 1, rows, tile) - first;
    for (let r: u32 = 0; r < count; r++) {
      const quads = out + (<usize>count << 5) +
        <usize>r * quadBytes(count, form) * (form == Form.Digits ? 2 : 1);
      const x = xPtr + <usize>(first + r) * xStride;
      quantizeRow(out + (<usize>r << 4), quads, x, blocks, count, form, zero, halves);
    }
    out += <usize>blocks * groupBlockBytes(count, form);
  }
}

/** Where a group of quantised rows begins, in bytes. */
export function groupOffset(group: u32, rows: u32, blocks: u32, form: i32): usize {
  const tile = tileRows(form);
  const whole = min(group, rows / tile);
  const rest = firstRow(group, rows, tile) - whole * tile;
  const pairs = rest >> 1;
  return <usize>blocks * (<usize>whole * groupBlockBytes(tile, form) +
    <usize>pairs * groupBlockBytes(2, form) + <usize>(rest & 1) * groupBlockBytes(1, form));
}

/** What {@link quantizeRows} writes, in bytes. */
export function quantisedBytes(rows: u32, blocks: u32, format: i32, exact: bool): usize {
  const form = formOf(format, exact);
  return groupOffset(groupsOf(rows, tileRows(form)), rows, blocks, form);
}

/** Groups of {@link quantizeRows}. */
export function quantisedGroups(rows: u32, format: i32, exact: bool): u32 {
  return groupsOf(rows, tileRows(formOf(format, exact)));
}
