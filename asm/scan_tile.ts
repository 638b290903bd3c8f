/**
 * Upper bounds of the scores of a few queries against a panel of keys, and whether any of them matters.
 *
 *     bound[q, t] = scale[t] * (a[q] * sum_d query8[q, d] * high[t, d] + b[q])
 *
 * from seven bits of a key and eight of a query; `a` and `b` (scan_queries.ts) hold what rounding may have
 * taken. Queries are u8[quads][width][16], each quad four times, keys u8[quads][8][4].
 */
import { ONES } from "./quantised";
import { RELAXED } from "./simd";

/** Keys of a panel. */
export const PANEL_KEYS: u32 = 8;

/** Queries of a full tile: 6 x 2 sums, two keys and a query are 15 live vectors. */
export const TILE_QUERIES: u32 = 6;

/** Bytes of a query's constants: a, b and c, in all lanes. */
export const CONSTANT_BYTES: usize = 48;

/** Width of the tile for the last `queries` of a list: 2, 4 or 6, so that few queries cost little. */
// @ts-ignore: decorator
@inline
export function tileWidth(queries: u32): u32 {
  return min(TILE_QUERIES, (queries + 1) & ~1);
}

/** Queries with those that fill the last tile. */
// @ts-ignore: decorator
@inline
export function paddedQueries(queries: u32): u32 {
  const rest = queries % TILE_QUERIES;
  return queries - rest + (rest ? tileWidth(rest) : 0);
}

/**
 * sums[i] + the dot of the i-th four signed bytes of `q` and 7-bit bytes of `k`: in one step where T is i32,
 * by sums of two where it is i16. Engines whose processor has no such instruction take five for the one step.
 */
// @ts-ignore: decorator
@inline
function dotBytes<T>(q: v128, k: v128, sums: v128): v128 {
  if (RELAXED) {
    if (sizeof<T>() == 4) return i32x4.relaxed_dot_i8x16_i7x16_add_s(q, k, sums);
    return i32x4.add(sums, i32x4.dot_i16x8_s(v128.relaxed_dot<i16>(q, k), v128.load(ONES)));
  }
  const low = i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_low_i8x16_s(q, k));
  const high = i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_high_i8x16_s(q, k));
  const even = v128.shuffle<i32>(low, high, 0, 2, 4, 6), odd = v128.shuffle<i32>(low, high, 1, 3, 5, 7);
  return i32x4.add(sums, i32x4.add(even, odd));
}

/** Whether any of a query's eight bounds exceeds its threshold; keeps them. */
// @ts-ignore: decorator
@inline
function exceeds(
  boundsPtr: usize,
  x: v128,
  y: v128,
  scalesPtr: usize,
  constantsPtr: usize,
  thresholdPtr: usize,
): v128 {
  const a = v128.load(constantsPtr), b = v128.load(constantsPtr, 16);
  x = f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(x), a), b);
  y = f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(y), a), b);
  x = f32x4.mul(x, v128.load(scalesPtr));
  y = f32x4.mul(y, v128.load(scalesPtr, 16));
  v128.store(boundsPtr, x);
  v128.store(boundsPtr, y, 16);
  const threshold = v128.load(thresholdPtr);
  return v128.or(f32x4.gt(x, threshold), f32x4.gt(y, threshold));
}

/**
 * From bounds of scores to bounds of weighed scores: (bound + c) * norm of the key's value, where `c` is
 * what centring took from the query's scores.
 */
export function weighTile(
  boundsPtr: usize,
  normsPtr: usize,
  constantsPtr: usize,
  thresholdsPtr: usize,
  width: u32,
): bool {
  const x = v128.load(normsPtr), y = v128.load(normsPtr, 16);
  let any = f32x4.splat(0);
  for (let q: u32 = 0; q < width; q++) {
    const c = v128.load(constantsPtr, 32), threshold = v128.load(thresholdsPtr);
    const a = f32x4.mul(f32x4.add(v128.load(boundsPtr), c), x);
    const b = f32x4.mul(f32x4.add(v128.load(boundsPtr, 16), c), y);
    v128.store(boundsPtr, a);
    v128.store(boundsPtr, b, 16);
    any = v128.or(any, v128.or(f32x4.gt(a, threshold), f32x4.gt(b, threshold)));
    boundsPtr += 32;
    constantsPtr += CONSTANT_BYTES;
    thresholdsPtr += 16;
  }
  return v128.any_true(any);
}

/**
 * Two queries and two panels of keys, since four sums alone would wait for each other.
 *
 * @param boundsPtr     f32[2 panels][2][8]
 * @param queriesPtr    u8[quads][2][16]
 * @param keysPtr       u8[2 panels][quads][8][4]
 * @param scalesPtr     f32[16]
 * @param constantsPtr  f32[2][3][4]
 * @param thresholdsPtr f32[2][4]
 * @returns whether a bound exceeds its query's threshold
 */
export function scanTwoPanels2<T>(
  boundsPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  scalesPtr: usize,
  constantsPtr: usize,
  thresholdsPtr: usize,
  quads: u32,
): bool {
  let q = queriesPtr, k = keysPtr, l = keysPtr + (<usize>quads << 5);
  let a0 = i32x4.splat(0), a1 = i32x4.splat(0);
  let b0 = i32x4.splat(0), b1 = i32x4.splat(0);
  let c0 = i32x4.splat(0), c1 = i32x4.splat(0);
  let d0 = i32x4.splat(0), d1 = i32x4.splat(0);
  const end = l;
  do {
    const v = v128.load(q), w = v128.load(q, 16);
    let x = v128.load(k);
    a0 = dotBytes<T>(v, x, a0);
    a1 = dotBytes<T>(w, x, a1);
    x = v128.load(k, 16);
    b0 = dotBytes<T>(v, x, b0);
    b1 = dotBytes<T>(w, x, b1);
    x = v128.load(l);
    c0 = dotBytes<T>(v, x, c0);
    c1 = dotBytes<T>(w, x, c1);
    x = v128.load(l, 16);
    d0 = dotBytes<T>(v, x, d0);
    d1 = dotBytes<T>(w, x, d1);
    q += 32;
    k += 32;
    l += 32;
  } while (k < end);
  const second = constantsPtr + CONSTANT_BYTES;
  let any = exceeds(boundsPtr, a0, b0, scalesPtr, constantsPtr, thresholdsPtr);
  any = v128.or(any, exceeds(boundsPtr + 32, a1, b1, scalesPtr, second, thresholdsPtr + 16));
  scalesPtr += 32;
  any = v128.or(any, exceeds(boundsPtr + 64, c0, d0, scalesPtr, constantsPtr, thresholdsPtr));
  any = v128.or(any, exceeds(boundsPtr + 96, c1, d1, scalesPtr, second, thresholdsPtr + 16));
  return v128.any_true(any);
}

/** Four queries and a panel of keys. */
export function scanPanel4<T>(
  boundsPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  scalesPtr: usize,
  constantsPtr: usize,
  thresholdsPtr: usize,
  quads: u32,
): bool {
  let q = queriesPtr, k = keysPtr;
  let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
  let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
  const end = k + (<usize>quads << 5);
  do {
    const x = v128.load(k), y = v128.load(k, 16);
    let v = v128.load(q);
    a0 = dotBytes<T>(v, x, a0);
    b0 = dotBytes<T>(v, y, b0);
    v = v128.load(q, 16);
    a1 = dotBytes<T>(v, x, a1);
    b1 = dotBytes<T>(v, y, b1);
    v = v128.load(q, 32);
    a2 = dotBytes<T>(v, x, a2);
    b2 = dotBytes<T>(v, y, b2);
    v = v128.load(q, 48);
    a3 = dotBytes<T>(v, x, a3);
    b3 = dotBytes<T>(v, y, b3);
    q += 64;
    k += 32;
  } while (k < end);
  let any = exceeds(boundsPtr, a0, b0, scalesPtr, constantsPtr, thresholdsPtr);
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 32, a1, b1, scalesPtr, constantsPtr, thresholdsPtr + 16));
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 64, a2, b2, scalesPtr, constantsPtr, thresholdsPtr + 32));
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 96, a3, b3, scalesPtr, constantsPtr, thresholdsPtr + 48));
  return v128.any_true(any);
}

/** Six queries and a panel of keys. */
export function scanPanel6<T>(
  boundsPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  scalesPtr: usize,
  constantsPtr: usize,
  thresholdsPtr: usize,
  quads: u32,
): bool {
  let q = queriesPtr, k = keysPtr;
  let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0);
  let a3 = i32x4.splat(0), a4 = i32x4.splat(0), a5 = i32x4.splat(0);
  let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0);
  let b3 = i32x4.splat(0), b4 = i32x4.splat(0), b5 = i32x4.splat(0);
  const end = k + (<usize>quads << 5);
  do {
    const x = v128.load(k), y = v128.load(k, 16);
    let v = v128.load(q);
    a0 = dotBytes<T>(v, x, a0);
    b0 = dotBytes<T>(v, y, b0);
    v = v128.load(q, 16);
    a1 = dotBytes<T>(v, x, a1);
    b1 = dotBytes<T>(v, y, b1);
    v = v128.load(q, 32);
    a2 = dotBytes<T>(v, x, a2);
    b2 = dotBytes<T>(v, y, b2);
    v = v128.load(q, 48);
    a3 = dotBytes<T>(v, x, a3);
    b3 = dotBytes<T>(v, y, b3);
    v = v128.load(q, 64);
    a4 = dotBytes<T>(v, x, a4);
    b4 = dotBytes<T>(v, y, b4);
    v = v128.load(q, 80);
    a5 = dotBytes<T>(v, x, a5);
    b5 = dotBytes<T>(v, y, b5);
    q += 96;
    k += 32;
  } while (k < end);
  let any = exceeds(boundsPtr, a0, b0, scalesPtr, constantsPtr, thresholdsPtr);
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 32, a1, b1, scalesPtr, constantsPtr, thresholdsPtr + 16));
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 64, a2, b2, scalesPtr, constantsPtr, thresholdsPtr + 32));
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 96, a3, b3, scalesPtr, constantsPtr, thresholdsPtr + 48));
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 128, a4, b4, scalesPtr, constantsPtr, thresholdsPtr + 64));
  constantsPtr += CONSTANT_BYTES;
  any = v128.or(any, exceeds(boundsPtr + 160, a5, b5, scalesPtr, constantsPtr, thresholdsPtr + 80));
  return v128.any_true(any);
}
