/**
 * Scores of a few queries against eight keys, and whether any of them matters.
 *
 *     score[q, t] = sum_d query[q, d] * key[t, d]        in order of d, one lane a sum
 *
 * so that a score's bits depend on its query and its key alone, never on the tile or how many
 * queries there are. Queries are laid out as the loop reads them, f32[depth][width][4], each number
 * in all four lanes, because engines differ in how fast they splat; keys as f32[depth][8].
 */
import { madd } from "./simd";

/** Keys of a tile. */
export const TILE_KEYS: u32 = 8;

/** Queries of a full tile: 6 x 2 sums, two keys and a query are 15 live vectors. */
export const TILE_QUERIES: u32 = 6;

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

/** Whether any of two sums, times the norms of the keys' values, exceeds the threshold; keeps both. */
// @ts-ignore: decorator
@inline
function exceeds(scoresPtr: usize, a: v128, b: v128, thresholdPtr: usize): v128 {
  v128.store(scoresPtr, a);
  v128.store(scoresPtr, b, 16);
  const threshold = v128.load(thresholdPtr);
  return v128.or(f32x4.gt(a, threshold), f32x4.gt(b, threshold));
}

/** Multiplies eight scores of each query with the keys' factors. */
export function weighTile(
  scoresPtr: usize,
  factorsPtr: usize,
  thresholdsPtr: usize,
  width: u32,
): bool {
  const x = v128.load(factorsPtr), y = v128.load(factorsPtr, 16);
  let any = f32x4.splat(0);
  for (let q: u32 = 0; q < width; q++) {
    const a = f32x4.mul(v128.load(scoresPtr), x), b = f32x4.mul(v128.load(scoresPtr, 16), y);
    any = v128.or(any, exceeds(scoresPtr, a, b, thresholdsPtr));
    scoresPtr += 32;
    thresholdsPtr += 16;
  }
  return v128.any_true(any);
}

/**
 * Two queries and two tiles of keys, since four sums alone would wait for each other.
 *
 * @param scoresPtr     f32[2 tiles][2][8]
 * @param queriesPtr    f32[depth][2][4]
 * @param keysPtr       f32[2 tiles][depth][8]
 * @param thresholdsPtr f32[2][4]
 * @returns whether a score exceeds its query's threshold
 */
export function scoreTwoTiles2(
  scoresPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  depth: u32,
  thresholdsPtr: usize,
): bool {
  let q = queriesPtr, k = keysPtr, l = keysPtr + (<usize>depth << 5);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0), c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0), d1 = f32x4.splat(0);
  const end = l;
  do {
    const v = v128.load(q), w = v128.load(q, 16);
    let x = v128.load(k);
    a0 = madd(x, v, a0);
    a1 = madd(x, w, a1);
    x = v128.load(k, 16);
    b0 = madd(x, v, b0);
    b1 = madd(x, w, b1);
    x = v128.load(l);
    c0 = madd(x, v, c0);
    c1 = madd(x, w, c1);
    x = v128.load(l, 16);
    d0 = madd(x, v, d0);
    d1 = madd(x, w, d1);
    q += 32;
    k += 32;
    l += 32;
  } while (k < end);
  let any = exceeds(scoresPtr, a0, b0, thresholdsPtr);
  any = v128.or(any, exceeds(scoresPtr + 32, a1, b1, thresholdsPtr + 16));
  any = v128.or(any, exceeds(scoresPtr + 64, c0, d0, thresholdsPtr));
  any = v128.or(any, exceeds(scoresPtr + 96, c1, d1, thresholdsPtr + 16));
  return v128.any_true(any);
}

/** Four queries and a tile of keys. */
export function scoreTile4(
  scoresPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  depth: u32,
  thresholdsPtr: usize,
): bool {
  let q = queriesPtr, k = keysPtr;
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
  const end = k + (<usize>depth << 5);
  do {
    const x = v128.load(k), y = v128.load(k, 16);
    let w = v128.load(q);
    a0 = madd(x, w, a0);
    b0 = madd(y, w, b0);
    w = v128.load(q, 16);
    a1 = madd(x, w, a1);
    b1 = madd(y, w, b1);
    w = v128.load(q, 32);
    a2 = madd(x, w, a2);
    b2 = madd(y, w, b2);
    w = v128.load(q, 48);
    a3 = madd(x, w, a3);
    b3 = madd(y, w, b3);
    q += 64;
    k += 32;
  } while (k < end);
  let any = exceeds(scoresPtr, a0, b0, thresholdsPtr);
  any = v128.or(any, exceeds(scoresPtr + 32, a1, b1, thresholdsPtr + 16));
  any = v128.or(any, exceeds(scoresPtr + 64, a2, b2, thresholdsPtr + 32));
  any = v128.or(any, exceeds(scoresPtr + 96, a3, b3, thresholdsPtr + 48));
  return v128.any_true(any);
}

/** Six queries and a tile of keys. */
export function scoreTile6(
  scoresPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  depth: u32,
  thresholdsPtr: usize,
): bool {
  let q = queriesPtr, k = keysPtr;
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0);
  let b3 = f32x4.splat(0), b4 = f32x4.splat(0), b5 = f32x4.splat(0);
  let x: v128, y: v128, w: v128;
  const end = k + (<usize>depth << 5);
  // Two dimensions at a time; the depth is even.
  do {
    x = v128.load(k);
    y = v128.load(k, 16);
    w = v128.load(q);
    a0 = madd(x, w, a0);
    b0 = madd(y, w, b0);
    w = v128.load(q, 16);
    a1 = madd(x, w, a1);
    b1 = madd(y, w, b1);
    w = v128.load(q, 32);
    a2 = madd(x, w, a2);
    b2 = madd(y, w, b2);
    w = v128.load(q, 48);
    a3 = madd(x, w, a3);
    b3 = madd(y, w, b3);
    w = v128.load(q, 64);
    a4 = madd(x, w, a4);
    b4 = madd(y, w, b4);
    w = v128.load(q, 80);
    a5 = madd(x, w, a5);
    b5 = madd(y, w, b5);
    x = v128.load(k, 32);
    y = v128.load(k, 48);
    w = v128.load(q, 96);
    a0 = madd(x, w, a0);
    b0 = madd(y, w, b0);
    w = v128.load(q, 112);
    a1 = madd(x, w, a1);
    b1 = madd(y, w, b1);
    w = v128.load(q, 128);
    a2 = madd(x, w, a2);
    b2 = madd(y, w, b2);
    w = v128.load(q, 144);
    a3 = madd(x, w, a3);
    b3 = madd(y, w, b3);
    w = v128.load(q, 160);
    a4 = madd(x, w, a4);
    b4 = madd(y, w, b4);
    w = v128.load(q, 176);
    a5 = madd(x, w, a5);
    b5 = madd(y, w, b5);
    q += 192;
    k += 64;
  } while (k < end);
  let any = exceeds(scoresPtr, a0, b0, thresholdsPtr);
  any = v128.or(any, exceeds(scoresPtr + 32, a1, b1, thresholdsPtr + 16));
  any = v128.or(any, exceeds(scoresPtr + 64, a2, b2, thresholdsPtr + 32));
  any = v128.or(any, exceeds(scoresPtr + 96, a3, b3, thresholdsPtr + 48));
  any = v128.or(any, exceeds(scoresPtr + 128, a4, b4, thresholdsPtr + 64));
  any = v128.or(any, exceeds(scoresPtr + 160, a5, b5, thresholdsPtr + 80));
  return v128.any_true(any);
}
