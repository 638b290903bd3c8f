/**
 * Queries as a scan reads them, per KV head:
 *
 *     f32[padded][3][4]           a, b, c: scan_tile.ts, each in all lanes
 *     f32[padded][4 * quads]      what an exact score multiplies with
 *     u8[tiles][quads][6][16]     eight bits of each query, the last tile maybe narrower
 *
 * With key n = 256 * high + low - 16384 (kv_layout.ts) and query ~ step * query8, a score over its key's scale
 * is sum query * n. Of that, 256 * high - 16256 is at most 128 off, 16384 is the most that |n| can be, hence
 *
 *     sum query * n <= 256 * step * sum query8 * high + b
 *     b = -16256 * step * sum query8 + 128 * sum |query| + 16384 * sum |query - step * query8|
 *
 * and a little more for what f32 rounds. No key's score is above its bound: a scan needs no second look.
 */
import { kvQuads } from "./kv_layout";
import { CONSTANT_BYTES, paddedQueries, TILE_QUERIES, tileWidth } from "./scan_tile";
import { sumLanes } from "./simd";

/** Bytes of the packed queries of one KV head. */
export function packedQueryBytes(queries: u32, quads: u32): usize {
  return tilesOffset(paddedQueries(queries), quads) + <usize>(paddedQueries(queries) * quads << 4);
}

/** Where the exact rows begin. */
// @ts-ignore: decorator
@inline
export function rowsOffset(padded: u32): usize {
  return <usize>padded * CONSTANT_BYTES;
}

/** Where the tiles begin. */
// @ts-ignore: decorator
@inline
export function tilesOffset(padded: u32, quads: u32): usize {
  return rowsOffset(padded) + <usize>(padded * quads << 4);
}

/**
 * Packs the queries of one KV head, row by row and within a row head by head.
 *
 * @param outPtr      {@link packedQueryBytes}
 * @param queryPtr    f32[rows, ...], rows `stride` bytes apart, at the group's first head
 * @param layoutPtr   kv_layout.ts
 * @param channelsPtr of the KV head
 */
export function packQueries(
  outPtr: usize,
  queryPtr: usize,
  stride: usize,
  layoutPtr: usize,
  channelsPtr: usize,
  headDim: u32,
  group: u32,
  rows: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const rowBytes = <usize>quads << 4;
  const count = rows * group;
  const padded = paddedQueries(count);
  memory.fill(outPtr, 0, packedQueryBytes(count, quads));
  let tile = outPtr + tilesOffset(padded, quads);
  for (let first: u32 = 0; first < count; first += TILE_QUERIES) {
    const width = tileWidth(count - first);
    for (let i: u32 = 0; i < min(width, count - first); i++) {
      const q = first + i;
      const from = queryPtr + <usize>(q / group) * stride + (<usize>(q % group * headDim) << 2);
      const row = outPtr + rowsOffset(padded) + <usize>q * rowBytes;
      const constants = outPtr + <usize>q * CONSTANT_BYTES;
      memory.copy(row, from, <usize>headDim << 2);
      v128.store(constants, f32x4.splat(scalar(row, channelsPtr, rowBytes)), 32);
      weigh(row, channelsPtr + 2 * rowBytes, rowBytes);
      quantise(tile + (<usize>i << 4), constants, row, quads, width);
    }
    tile += rowBytes * <usize>width;
  }
}

/** The dot of two rows. */
function scalar(aPtr: usize, bPtr: usize, rowBytes: usize): f32 {
  let sum = f32x4.splat(0);
  for (let i: usize = 0; i < rowBytes; i += 16) {
    sum = f32x4.add(sum, f32x4.mul(v128.load(aPtr + i), v128.load(bPtr + i)));
  }
  return sumLanes(sum);
}

/** row *= factors */
function weigh(rowPtr: usize, factorsPtr: usize, rowBytes: usize): void {
  for (let i: usize = 0; i < rowBytes; i += 16) {
    v128.store(rowPtr + i, f32x4.mul(v128.load(rowPtr + i), v128.load(factorsPtr + i)));
  }
}

/** A row's place in a tile, and its first two constants. */
function quantise(tilePtr: usize, constantsPtr: usize, rowPtr: usize, quads: u32, width: u32): void {
  const rowBytes = <usize>quads << 4;
  let largest = f32x4.splat(0), magnitudes = f32x4.splat(0);
  for (let i: usize = 0; i < rowBytes; i += 16) {
    const magnitude = f32x4.abs(v128.load(rowPtr + i));
    largest = f32x4.max(largest, magnitude);
    magnitudes = f32x4.add(magnitudes, magnitude);
  }
  const most = max(
    max(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  );
  const step = most / 127;
  const factors = f32x4.splat(most > 0 ? 127 / most : 0);
  const steps = f32x4.splat(step);
  let sums = f32x4.splat(0), errors = f32x4.splat(0);
  for (let i: usize = 0; i < rowBytes; i += 16) {
    const x = v128.load(rowPtr + i);
    const n = f32x4.nearest(f32x4.mul(x, factors));
    sums = f32x4.add(sums, n);
    errors = f32x4.add(errors, f32x4.abs(f32x4.sub(x, f32x4.mul(n, steps))));
    const words = i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(0));
    const bytes = i8x16.narrow_i16x8_s(words, words);
    v128.store(tilePtr, i32x4.splat(i32x4.extract_lane(bytes, 0)));
    tilePtr += <usize>width << 4;
  }
  const rounding = <f32>130 + <f32>quads / 64;
  const b = <f32>-16256 * step * sumLanes(sums) + rounding * sumLanes(magnitudes) +
    <f32>16384 * sumLanes(errors);
  v128.store(constantsPtr, f32x4.splat(<f32>256 * step));
  v128.store(constantsPtr, f32x4.splat(b), 16);
}
