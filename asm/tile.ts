/**
 * Dot products of one or two rows with the six rows of a panel: the inner loop of everything here.
 *
 *     out[i, j] = sum_k rows[i, k] * panel[j, k]        i < 1 or 2, j < 6
 *
 * A panel is six rows, interleaved by quads: f32[quads][6][4]. Every output has one accumulator of
 * four lanes over the whole k and the lanes are summed in one order, so an output's bits depend on
 * its two rows alone, never on the tile it was computed in.
 */
import { loadBf16x4, loadFiniteF16x4 } from "./convert";
import { madd, sumLanes, sumLanes4 } from "./simd";

/** Rows of a panel. 2 x 6 sums, two rows and a quad are 15 live vectors: one more halves the speed. */
export const PANEL: u32 = 6;

/** Bytes of one quad of a panel. */
export const QUAD_BYTES: usize = 96;

/**
 * Two rows.
 *
 * @param outPtr    f32[2, 6], rows `outStride` bytes apart
 * @param rowsPtr   f32[2, 4 * quads], rows `rowStride` bytes apart
 * @param panelPtr  f32[quads][6][4]
 */
export function dot2(
  outPtr: usize,
  outStride: usize,
  rowsPtr: usize,
  rowStride: usize,
  panelPtr: usize,
  quads: u32,
): void {
  let a = rowsPtr, b = rowsPtr + rowStride, p = panelPtr;
  const end = a + (<usize>quads << 4);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0);
  let b3 = f32x4.splat(0), b4 = f32x4.splat(0), b5 = f32x4.splat(0);
  do {
    const x = v128.load(a), y = v128.load(b);
    let w = v128.load(p);
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
  } while (a < end);
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
  outPtr += outStride;
  v128.store(outPtr, sumLanes4(b0, b1, b2, b3));
  store<f32>(outPtr, sumLanes(b4), 16);
  store<f32>(outPtr, sumLanes(b5), 20);
}

/** One row, and a panel of f32. */
export function dot1(outPtr: usize, rowPtr: usize, panelPtr: usize, quads: u32): void {
  let a = rowPtr, p = panelPtr;
  const end = a + (<usize>quads << 4);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  do {
    const x = v128.load(a);
    a0 = madd(x, v128.load(p), a0);
    a1 = madd(x, v128.load(p, 16), a1);
    a2 = madd(x, v128.load(p, 32), a2);
    a3 = madd(x, v128.load(p, 48), a3);
    a4 = madd(x, v128.load(p, 64), a4);
    a5 = madd(x, v128.load(p, 80), a5);
    a += 16;
    p += QUAD_BYTES;
  } while (a < end);
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
}

/** One row, and a panel of f16: decoded on the way, for there is no second row to share it with. */
export function dot1F16(outPtr: usize, rowPtr: usize, panelPtr: usize, quads: u32): void {
  let a = rowPtr, p = panelPtr;
  const end = a + (<usize>quads << 4);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  do {
    const x = v128.load(a);
    a0 = madd(x, loadFiniteF16x4(p), a0);
    a1 = madd(x, loadFiniteF16x4(p + 8), a1);
    a2 = madd(x, loadFiniteF16x4(p + 16), a2);
    a3 = madd(x, loadFiniteF16x4(p + 24), a3);
    a4 = madd(x, loadFiniteF16x4(p + 32), a4);
    a5 = madd(x, loadFiniteF16x4(p + 40), a5);
    a += 16;
    p += 48;
  } while (a < end);
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
}

/** One row, and a panel of bf16. */
export function dot1Bf16(outPtr: usize, rowPtr: usize, panelPtr: usize, quads: u32): void {
  let a = rowPtr, p = panelPtr;
  const end = a + (<usize>quads << 4);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  do {
    const x = v128.load(a);
    a0 = madd(x, loadBf16x4(p), a0);
    a1 = madd(x, loadBf16x4(p + 8), a1);
    a2 = madd(x, loadBf16x4(p + 16), a2);
    a3 = madd(x, loadBf16x4(p + 24), a3);
    a4 = madd(x, loadBf16x4(p + 32), a4);
    a5 = madd(x, loadBf16x4(p + 40), a5);
    a += 16;
    p += 48;
  } while (a < end);
  v128.store(outPtr, sumLanes4(a0, a1, a2, a3));
  store<f32>(outPtr, sumLanes(a4), 16);
  store<f32>(outPtr, sumLanes(a5), 20);
}
