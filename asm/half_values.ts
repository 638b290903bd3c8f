/**
 * Values of a run of tokens as they are cached, f16, and their weighted sums: decoded where they are
 * multiplied, once for as many as four queries. Panels of eight dimensions: u16[quads / 2][RUN][8].
 *
 * Infinities and NaN would be decoded as if the numbers went on: such a run needs {@link decodeHalves}.
 */
import { F16_FACTOR, F16_MASK, loadF16x4, scaledF16 } from "./convert";
import { kvQuads, kvValueBytes, kvValueStride } from "./kv_layout";
import { madd } from "./simd";

/** Keys or values that are gathered at a time: a multiple of 4 and 6, so few that L1 holds them. */
export const RUN: u32 = 24;

/** Bytes of a panel. */
const PANEL_BYTES: usize = RUN << 4;

/** Queries that share what is decoded: 4 x 2 sums, two values, a weight and the mask. */
export const SHARERS: u32 = 4;

/** Bytes of the values of a run. */
// @ts-ignore: decorator
@inline
export function halvesBytes(quads: u32): usize {
  return <usize>((quads + 1) >> 1) * PANEL_BYTES;
}

/** Bytes of the weights of a run. */
export const WEIGHT_BYTES: usize = RUN * SHARERS << 4;

/**
 * Values of consecutive tokens of a chunk into the panels.
 *
 * @param panelsPtr the first token's place in the first panel
 * @param valuesPtr the chunk's values of the layer, f16
 * @returns whether all are finite
 */
export function takeHalves(
  panelsPtr: usize,
  valuesPtr: usize,
  layoutPtr: usize,
  head: u32,
  row: u32,
  count: u32,
): bool {
  const quads = kvQuads(layoutPtr);
  const stride = kvValueStride(layoutPtr);
  let value = valuesPtr + <usize>row * stride + <usize>head * kvValueBytes(layoutPtr);
  let largest = i16x8.splat(0);
  for (const end = panelsPtr + (<usize>count << 4); panelsPtr < end; panelsPtr += 16) {
    let from = value, to = panelsPtr;
    for (const last = from + (<usize>(quads >> 1) << 4); from < last; from += 16) {
      const x = v128.load(from);
      largest = i16x8.max_u(largest, i16x8.shl(x, 1));
      v128.store(to, x);
      to += PANEL_BYTES;
    }
    if (quads & 1) {
      const x = v128.load64_zero(from);
      largest = i16x8.max_u(largest, i16x8.shl(x, 1));
      v128.store(to, x);
    }
    value += stride;
  }
  return !v128.any_true(i16x8.ge_u(largest, i16x8.splat(<i16>0xf800)));
}

/** The values as f32[count, 4 * quads], exactly. */
export function decodeHalves(outPtr: usize, panelsPtr: usize, quads: u32, count: u32): void {
  for (const end = panelsPtr + (<usize>count << 4); panelsPtr < end; panelsPtr += 16) {
    for (let i: u32 = 0; i < quads; i++) {
      const from = panelsPtr + <usize>(i >> 1) * PANEL_BYTES + (<usize>(i & 1) << 3);
      v128.store(outPtr, loadF16x4(from));
      outPtr += 16;
    }
  }
}

/**
 * A query's weights times 2^112, which values lack, each in all four lanes: none is above 1, so that
 * this is exact.
 *
 * @param outPtr  f32[4 * steps][4], `step` bytes apart
 * @param rowPtr  f32[4 * steps]
 */
export function splatWeights(outPtr: usize, step: usize, rowPtr: usize, steps: u32): void {
  const factor = v128.load(F16_FACTOR);
  for (const end = rowPtr + (<usize>steps << 4); rowPtr < end; rowPtr += 16) {
    const x = f32x4.mul(v128.load(rowPtr), factor);
    v128.store(outPtr, v128.shuffle<f32>(x, x, 0, 0, 0, 0));
    outPtr += step;
    v128.store(outPtr, v128.shuffle<f32>(x, x, 1, 1, 1, 1));
    outPtr += step;
    v128.store(outPtr, v128.shuffle<f32>(x, x, 2, 2, 2, 2));
    outPtr += step;
    v128.store(outPtr, v128.shuffle<f32>(x, x, 3, 3, 3, 3));
    outPtr += step;
  }
}

/**
 * Adds weighted values to the sums of four queries.
 *
 *     sums[i] += sum_t weights[t, i] * values[t]        i < 4, t < count
 *
 * @param sumsPtr    f32[8 * panels], the next query's `sumStride` bytes behind
 * @param weightsPtr f32[count][4][4]: {@link splatWeights}
 * @param panelsPtr  {@link takeHalves}
 */
export function addHalves4(
  sumsPtr: usize,
  sumStride: usize,
  weightsPtr: usize,
  panelsPtr: usize,
  panels: u32,
  count: u32,
): void {
  const mask = v128.load(F16_MASK);
  const bytes = <usize>count << 4;
  let w: v128, x: v128, y: v128;
  for (; panels; panels--) {
    const b = sumsPtr + sumStride, c = b + sumStride, d = c + sumStride;
    let a0 = v128.load(sumsPtr), a1 = v128.load(sumsPtr, 16);
    let b0 = v128.load(b), b1 = v128.load(b, 16);
    let c0 = v128.load(c), c1 = v128.load(c, 16);
    let d0 = v128.load(d), d1 = v128.load(d, 16);
    let weights = weightsPtr;
    let p = panelsPtr;
    const end = p + bytes;
    do {
      x = scaledF16(v128.load_ext<i16>(p), mask);
      y = scaledF16(v128.load_ext<i16>(p, 8), mask);
      w = v128.load(weights);
      a0 = madd(x, w, a0);
      a1 = madd(y, w, a1);
      w = v128.load(weights, 16);
      b0 = madd(x, w, b0);
      b1 = madd(y, w, b1);
      w = v128.load(weights, 32);
      c0 = madd(x, w, c0);
      c1 = madd(y, w, c1);
      w = v128.load(weights, 48);
      d0 = madd(x, w, d0);
      d1 = madd(y, w, d1);
      p += 16;
      weights += 64;
    } while (p < end);
    v128.store(sumsPtr, a0);
    v128.store(sumsPtr, a1, 16);
    v128.store(b, b0);
    v128.store(b, b1, 16);
    v128.store(c, c0);
    v128.store(c, c1, 16);
    v128.store(d, d0);
    v128.store(d, d1, 16);
    sumsPtr += 32;
    panelsPtr += PANEL_BYTES;
  }
}

/** The same for two queries: weights are f32[count][2][4]. */
export function addHalves2(
  sumsPtr: usize,
  sumStride: usize,
  weightsPtr: usize,
  panelsPtr: usize,
  panels: u32,
  count: u32,
): void {
  const mask = v128.load(F16_MASK);
  const bytes = <usize>count << 4;
  let w: v128, x: v128, y: v128;
  for (; panels; panels--) {
    const b = sumsPtr + sumStride;
    let a0 = v128.load(sumsPtr), a1 = v128.load(sumsPtr, 16);
    let b0 = v128.load(b), b1 = v128.load(b, 16);
    let weights = weightsPtr;
    let p = panelsPtr;
    const end = p + bytes;
    do {
      x = scaledF16(v128.load_ext<i16>(p), mask);
      y = scaledF16(v128.load_ext<i16>(p, 8), mask);
      w = v128.load(weights);
      a0 = madd(x, w, a0);
      a1 = madd(y, w, a1);
      w = v128.load(weights, 16);
      b0 = madd(x, w, b0);
      b1 = madd(y, w, b1);
      p += 16;
      weights += 32;
    } while (p < end);
    v128.store(sumsPtr, a0);
    v128.store(sumsPtr, a1, 16);
    v128.store(b, b0);
    v128.store(b, b1, 16);
    sumsPtr += 32;
    panelsPtr += PANEL_BYTES;
  }
}

/** The same for one query: weights are f32[count][4]. */
export function addHalves1(
  sumsPtr: usize,
  weightsPtr: usize,
  panelsPtr: usize,
  panels: u32,
  count: u32,
): void {
  const mask = v128.load(F16_MASK);
  const bytes = <usize>count << 4;
  for (; panels; panels--) {
    let a0 = v128.load(sumsPtr), a1 = v128.load(sumsPtr, 16);
    let weights = weightsPtr;
    let p = panelsPtr;
    const end = p + bytes;
    do {
      const w = v128.load(weights);
      a0 = madd(scaledF16(v128.load_ext<i16>(p), mask), w, a0);
      a1 = madd(scaledF16(v128.load_ext<i16>(p, 8), mask), w, a1);
      p += 16;
      weights += 16;
    } while (p < end);
    v128.store(sumsPtr, a0);
    v128.store(sumsPtr, a1, 16);
    sumsPtr += 32;
    panelsPtr += PANEL_BYTES;
  }
}
