/**
 * Dot products of one or two rows with the six rows of a panel: the inner loop of everything here.
 *
 *     out[i, j] = sum_k rows[i, k] * panel[j, k]        i < 1 or 2, j < 6
 *
 * A panel is six rows, interleaved by quads: f32[quads][6][4]. Every output has one accumulator of
 * four lanes over the whole k and the lanes are summed in one order, so an output's bits depend on
 * its two rows alone, never on the tile it was computed in.
 */
import { bf16, F16_MASK, scaledF16 } from "./convert";
import { fuses, madd, sumLanes, sumLanes4 } from "./simd";

/** Rows of a panel. 2 x 6 sums, two rows and a quad are 15 live vectors: one more halves the speed. */
export const PANEL: u32 = 6;

/** Bytes of one quad of a panel. */
export const QUAD_BYTES: usize = 96;

/**
 * Pairs of rows, one after the other.
 *
 * V8 checks the bounds of every load and has no time left for the loop itself: four quads at a time
 * are 14 % faster. JSC would spill a sum: 5 % slower.
 *
 * @param outPtr   f32[2 * pairs, 6], rows `outStride` bytes apart
 * @param rowsPtr  f32[2 * pairs, 4 * quads], rows `rowStride` bytes apart
 * @param panelPtr f32[quads][6][4]
 */
export function dotRows(
  outPtr: usize,
  outStride: usize,
  rowsPtr: usize,
  rowStride: usize,
  panelPtr: usize,
  quads: u32,
  pairs: u32,
): void {
  const rowBytes = <usize>quads << 4;
  const unrolledBytes: usize = fuses() ? rowBytes & ~63 : 0;
  let x: v128, y: v128, w: v128;
  for (; pairs; pairs--) {
    let a = rowsPtr, b = rowsPtr + rowStride, p = panelPtr;
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
    let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
    let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0);
    let b3 = f32x4.splat(0), b4 = f32x4.splat(0), b5 = f32x4.splat(0);
    const unrolledEnd = a + unrolledBytes;
    const end = a + rowBytes;
    while (a < unrolledEnd) {
      x = v128.load(a);
      y = v128.load(b);
      w = v128.load(p);
      a0 = madd(x, w, a0);
      b0 = madd(y, w, b0);
      w = v128.load(p, 16);
      a1 = madd(x, w, a1);
      b1 = madd(y, w, b1);
      w = v128.load(p, 32);
      a2 = madd(x, w, a2);
      b2 = madd(y, w, b2);
      w = v128.load(p, 48);
      a3 = madd(x, w, a3);
      b3 = madd(y, w, b3);
      w = v128.load(p, 64);
      a4 = madd(x, w, a4);
      b4 = madd(y, w, b4);
      w = v128.load(p, 80);
      a5 = madd(x, w, a5);
      b5 = madd(y, w, b5);
      x = v128.load(a, 16);
      y = v128.load(b, 16);
      w = v128.load(p, 96);
      a0 = madd(x, w, a0);
      b0 = madd(y, w, b0);
      w = v128.load(p, 112);
      a1 = madd(x, w, a1);
      b1 = madd(y, w, b1);
      w = v128.load(p, 128);
      a2 = madd(x, w, a2);
      b2 = madd(y, w, b2);
      w = v128.load(p, 144);
      a3 = madd(x, w, a3);
      b3 = madd(y, w, b3);
      w = v128.load(p, 160);
      a4 = madd(x, w, a4);
      b4 = madd(y, w, b4);
      w = v128.load(p, 176);
      a5 = madd(x, w, a5);
      b5 = madd(y, w, b5);
      x = v128.load(a, 32);
      y = v128.load(b, 32);
      w = v128.load(p, 192);
      a0 = madd(x, w, a0);
      b0 = madd(y, w, b0);
      w = v128.load(p, 208);
      a1 = madd(x, w, a1);
      b1 = madd(y, w, b1);
      w = v128.load(p, 224);
      a2 = madd(x, w, a2);
      b2 = madd(y, w, b2);
      w = v128.load(p, 240);
      a3 = madd(x, w, a3);
      b3 = madd(y, w, b3);
      w = v128.load(p, 256);
      a4 = madd(x, w, a4);
      b4 = madd(y, w, b4);
      w = v128.load(p, 272);
      a5 = madd(x, w, a5);
      b5 = madd(y, w, b5);
      x = v128.load(a, 48);
      y = v128.load(b, 48);
      w = v128.load(p, 288);
      a0 = madd(x, w, a0);
      b0 = madd(y, w, b0);
      w = v128.load(p, 304);
      a1 = madd(x, w, a1);
      b1 = madd(y, w, b1);
      w = v128.load(p, 320);
      a2 = madd(x, w, a2);
      b2 = madd(y, w, b2);
      w = v128.load(p, 336);
      a3 = madd(x, w, a3);
      b3 = madd(y, w, b3);
      w = v128.load(p, 352);
      a4 = madd(x, w, a4);
      b4 = madd(y, w, b4);
      w = v128.load(p, 368);
      a5 = madd(x, w, a5);
      b5 = madd(y, w, b5);
      a += 64;
      b += 64;
      p += 4 * QUAD_BYTES;
    }
    while (a < end) {
      x = v128.load(a);
      y = v128.load(b);
      w = v128.load(p);
      a0 = madd(x, w, a0);
      b0 = madd(y, w, b0);
      w = v128.load(p, 16);
      a1 = madd(x, w, a1);
      b1 = madd(y, w, b1);
      w = v128.load(p, 32);
      a2 = madd(x, w, a2);
      b2 = madd(y, w, b2);
      w = v128.load(p, 48);
      a3 = madd(x, w, a3);
      b3 = madd(y, w, b3);
      w = v128.load(p, 64);
      a4 = madd(x, w, a4);
      b4 = madd(y, w, b4);
      w = v128.load(p, 80);
      a5 = madd(x, w, a5);
      b5 = madd(y, w, b5);
      a += 16;
      b += 16;
      p += QUAD_BYTES;
    }
    v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
    v128.store(outPtr + outStride, sumLanes4(b0, b1, b2, b3));
    x = sumLanes4(a4, a5, b4, b5);
    v128.store64_lane(outPtr + 16, x, 0);
    v128.store64_lane(outPtr + outStride + 16, x, 1);
    outPtr += outStride << 1;
    rowsPtr += rowStride << 1;
  }
}

/** One pair of rows: see {@link dotRows}. */
// @ts-ignore: decorator
@inline
export function dot2(
  outPtr: usize,
  outStride: usize,
  rowsPtr: usize,
  rowStride: usize,
  panelPtr: usize,
  quads: u32,
): void {
  dotRows(outPtr, outStride, rowsPtr, rowStride, panelPtr, quads, 1);
}

/** One row, and a panel of f32. */
export function dot1(outPtr: usize, rowPtr: usize, panelPtr: usize, quads: u32): void {
  let a = rowPtr, p = panelPtr;
  let x: v128;
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  const end = a + (<usize>(quads >> 1) << 5);
  while (a < end) {
    x = v128.load(a);
    a0 = madd(x, v128.load(p), a0);
    a1 = madd(x, v128.load(p, 16), a1);
    a2 = madd(x, v128.load(p, 32), a2);
    a3 = madd(x, v128.load(p, 48), a3);
    a4 = madd(x, v128.load(p, 64), a4);
    a5 = madd(x, v128.load(p, 80), a5);
    x = v128.load(a, 16);
    a0 = madd(x, v128.load(p, 96), a0);
    a1 = madd(x, v128.load(p, 112), a1);
    a2 = madd(x, v128.load(p, 128), a2);
    a3 = madd(x, v128.load(p, 144), a3);
    a4 = madd(x, v128.load(p, 160), a4);
    a5 = madd(x, v128.load(p, 176), a5);
    a += 32;
    p += 192;
  }
  if (quads & 1) {
    x = v128.load(a);
    a0 = madd(x, v128.load(p), a0);
    a1 = madd(x, v128.load(p, 16), a1);
    a2 = madd(x, v128.load(p, 32), a2);
    a3 = madd(x, v128.load(p, 48), a3);
    a4 = madd(x, v128.load(p, 64), a4);
    a5 = madd(x, v128.load(p, 80), a5);
  }
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
}

/**
 * One row times 2^112, and a panel of f16: decoded on the way, for there is no second row to share it
 * with.
 */
export function dot1F16(outPtr: usize, rowPtr: usize, panelPtr: usize, quads: u32): void {
  let a = rowPtr, p = panelPtr;
  let x: v128;
  const mask = v128.load(F16_MASK);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  const end = a + (<usize>(quads >> 1) << 5);
  while (a < end) {
    x = v128.load(a);
    a0 = madd(x, scaledF16(v128.load_ext<i16>(p), mask), a0);
    a1 = madd(x, scaledF16(v128.load_ext<i16>(p, 8), mask), a1);
    a2 = madd(x, scaledF16(v128.load_ext<i16>(p, 16), mask), a2);
    a3 = madd(x, scaledF16(v128.load_ext<i16>(p, 24), mask), a3);
    a4 = madd(x, scaledF16(v128.load_ext<i16>(p, 32), mask), a4);
    a5 = madd(x, scaledF16(v128.load_ext<i16>(p, 40), mask), a5);
    x = v128.load(a, 16);
    a0 = madd(x, scaledF16(v128.load_ext<i16>(p, 48), mask), a0);
    a1 = madd(x, scaledF16(v128.load_ext<i16>(p, 56), mask), a1);
    a2 = madd(x, scaledF16(v128.load_ext<i16>(p, 64), mask), a2);
    a3 = madd(x, scaledF16(v128.load_ext<i16>(p, 72), mask), a3);
    a4 = madd(x, scaledF16(v128.load_ext<i16>(p, 80), mask), a4);
    a5 = madd(x, scaledF16(v128.load_ext<i16>(p, 88), mask), a5);
    a += 32;
    p += 96;
  }
  if (quads & 1) {
    x = v128.load(a);
    a0 = madd(x, scaledF16(v128.load_ext<i16>(p), mask), a0);
    a1 = madd(x, scaledF16(v128.load_ext<i16>(p, 8), mask), a1);
    a2 = madd(x, scaledF16(v128.load_ext<i16>(p, 16), mask), a2);
    a3 = madd(x, scaledF16(v128.load_ext<i16>(p, 24), mask), a3);
    a4 = madd(x, scaledF16(v128.load_ext<i16>(p, 32), mask), a4);
    a5 = madd(x, scaledF16(v128.load_ext<i16>(p, 40), mask), a5);
  }
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
}

/** One row, and a panel of bf16. */
export function dot1Bf16(outPtr: usize, rowPtr: usize, panelPtr: usize, quads: u32): void {
  let a = rowPtr, p = panelPtr;
  let x: v128;
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  const end = a + (<usize>(quads >> 1) << 5);
  while (a < end) {
    x = v128.load(a);
    a0 = madd(x, bf16(v128.load_ext<u16>(p)), a0);
    a1 = madd(x, bf16(v128.load_ext<u16>(p, 8)), a1);
    a2 = madd(x, bf16(v128.load_ext<u16>(p, 16)), a2);
    a3 = madd(x, bf16(v128.load_ext<u16>(p, 24)), a3);
    a4 = madd(x, bf16(v128.load_ext<u16>(p, 32)), a4);
    a5 = madd(x, bf16(v128.load_ext<u16>(p, 40)), a5);
    x = v128.load(a, 16);
    a0 = madd(x, bf16(v128.load_ext<u16>(p, 48)), a0);
    a1 = madd(x, bf16(v128.load_ext<u16>(p, 56)), a1);
    a2 = madd(x, bf16(v128.load_ext<u16>(p, 64)), a2);
    a3 = madd(x, bf16(v128.load_ext<u16>(p, 72)), a3);
    a4 = madd(x, bf16(v128.load_ext<u16>(p, 80)), a4);
    a5 = madd(x, bf16(v128.load_ext<u16>(p, 88)), a5);
    a += 32;
    p += 96;
  }
  if (quads & 1) {
    x = v128.load(a);
    a0 = madd(x, bf16(v128.load_ext<u16>(p)), a0);
    a1 = madd(x, bf16(v128.load_ext<u16>(p, 8)), a1);
    a2 = madd(x, bf16(v128.load_ext<u16>(p, 16)), a2);
    a3 = madd(x, bf16(v128.load_ext<u16>(p, 24)), a3);
    a4 = madd(x, bf16(v128.load_ext<u16>(p, 32)), a4);
    a5 = madd(x, bf16(v128.load_ext<u16>(p, 40)), a5);
  }
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
}
