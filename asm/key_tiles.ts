/**
 * Rotated keys as many queries read them: tiles of eight tokens, f32[4 * quads][8], against tiles of
 * six queries, f32[headDim][6][4], each number in all four lanes, because engines differ in how fast
 * they splat. A score then is one lane, and nothing is summed across lanes.
 */
import { rotate } from "./rope";
import { madd } from "./simd";

/** Tokens of a tile of keys. */
export const TILE_KEYS: u32 = 8;

/** Queries of a tile: 6 x 2 sums, two vectors of keys and a query's are 15 live vectors. */
export const TILE_QUERIES: u32 = 6;

/** Bytes of one dimension of a tile of queries. */
const QUERY_BYTES: usize = 96;

/** Two quads of four rows to columns 0-3 of a tile's eight lines. */
// @ts-ignore: decorator
@inline
function transpose(tilePtr: usize, rowsPtr: usize, rowBytes: usize): void {
  const a = v128.load(rowsPtr), b = v128.load(rowsPtr + rowBytes);
  const c = v128.load(rowsPtr + 2 * rowBytes), d = v128.load(rowsPtr + 3 * rowBytes);
  const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  const ef = v128.shuffle<f32>(a, b, 2, 6, 3, 7), gh = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(tilePtr, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(tilePtr, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7), 32);
  v128.store(tilePtr, v128.shuffle<f32>(ef, gh, 0, 1, 4, 5), 64);
  v128.store(tilePtr, v128.shuffle<f32>(ef, gh, 2, 3, 6, 7), 96);
}

/**
 * Rotates rows where they are.
 *
 * @param rowsPtr  f32[count, 4 * quads]
 * @param anglePtr f32[count][2 * half]: each row's cosines, then its sines
 */
export function rotateRows(
  rowsPtr: usize,
  anglePtr: usize,
  quads: u32,
  half: u32,
  count: u32,
): void {
  for (let i: u32 = 0; i < count; i++) {
    rotate(rowsPtr, 16, rowsPtr, anglePtr, half);
    rowsPtr += <usize>quads << 4;
    anglePtr += <usize>half << 3;
  }
}

/**
 * Rows to tiles.
 *
 * @param tilesPtr f32[tiles][4 * quads][8]
 * @param rowsPtr  f32[8 * tiles, 4 * quads]
 */
export function placeKeyTiles(tilesPtr: usize, rowsPtr: usize, quads: u32, tiles: u32): void {
  const rowBytes = <usize>quads << 4;
  for (let t: u32 = 0; t < tiles; t++) {
    for (let i: usize = 0; i < rowBytes; i += 16) {
      transpose(tilesPtr, rowsPtr + i, rowBytes);
      transpose(tilesPtr + 16, rowsPtr + 4 * rowBytes + i, rowBytes);
      tilesPtr += 128;
    }
    rowsPtr += rowBytes << 3;
  }
}

/**
 * One query into its tile.
 *
 * @param tilePtr f32[headDim][6][4], the query's place in the first line
 * @param rowPtr  f32[headDim]
 */
export function placeQuery(tilePtr: usize, rowPtr: usize, scale: f32, headDim: u32): void {
  for (let d: u32 = 0; d < headDim; d++) {
    v128.store(tilePtr, f32x4.splat(load<f32>(rowPtr + (<usize>d << 2)) * scale));
    tilePtr += QUERY_BYTES;
  }
}

/** Bytes of a tile of queries. */
// @ts-ignore: decorator
@inline
export function queryTileBytes(headDim: u32): usize {
  return <usize>headDim * QUERY_BYTES;
}

/**
 * Scores of six queries and eight keys.
 *
 *     scores[q, t] = sum_d query[q, d] * key[t, d]        in order of d
 *
 * @param scoresPtr  f32[6, 8], rows `stride` bytes apart
 * @param queriesPtr f32[headDim][6][4]
 * @param keysPtr    f32[headDim][8]
 * @param headDim    even
 */
export function scoreTile(
  scoresPtr: usize,
  stride: usize,
  queriesPtr: usize,
  keysPtr: usize,
  headDim: u32,
): void {
  let q = queriesPtr, k = keysPtr;
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0), a4 = f32x4.splat(0), a5 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0);
  let b3 = f32x4.splat(0), b4 = f32x4.splat(0), b5 = f32x4.splat(0);
  let x: v128, y: v128, w: v128;
  const end = k + (<usize>headDim << 5);
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
  v128.store(scoresPtr, a0);
  v128.store(scoresPtr, b0, 16);
  scoresPtr += stride;
  v128.store(scoresPtr, a1);
  v128.store(scoresPtr, b1, 16);
  scoresPtr += stride;
  v128.store(scoresPtr, a2);
  v128.store(scoresPtr, b2, 16);
  scoresPtr += stride;
  v128.store(scoresPtr, a3);
  v128.store(scoresPtr, b3, 16);
  scoresPtr += stride;
  v128.store(scoresPtr, a4);
  v128.store(scoresPtr, b4, 16);
  scoresPtr += stride;
  v128.store(scoresPtr, a5);
  v128.store(scoresPtr, b5, 16);
}
