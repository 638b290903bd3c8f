import { F16_MASK, loadF16x4, scaledF16 } from "./convert";
import {
  paddedQueries,
  scoreTwoTiles2,
  scoreTile4,
  scoreTile6,
  TILE_KEYS,
  TILE_QUERIES,
  tileWidth,
  weighTile,
} from "./score_tile";
import {
  SEGMENT_BYTES,
  segmentCount,
  segmentEndsRun,
  segmentFirst,
  segmentKeys,
} from "./segment";
import { sumLanes } from "./simd";
import { clearTopK, endRun, offerTile, offerTileToRun } from "./top_k";

/** Keys that are laid out and scored before the next: 16 KB of them at headDim 64. */
const BATCH: u32 = 64;

/** What multiplies a score. The same values as in src/backend/wasm/select.ts. */
const enum Weighting {
  NONE = 0,
  L1 = 1,
  L2 = 2,
}

/**
 * 2^96: f16 keys are read as 2^-112 of themselves, so scores are 2^-16 of what they are; only their
 * order matters.
 */
const F16_QUERY_SCALE: f32 = 7.922816251426434e28;

/**
 * Query rows of one KV head, row by row and within a row head by head, as score tiles read them.
 *
 * @param outPtr   f32[tiles][4 * quads][6][4], the last tile maybe narrower: {@link packedQueryBytes}
 * @param queryPtr f32[rows, ...], rows `stride` bytes apart, at the group's first head
 * @param headDim  quads = ceil(headDim / 4)
 * @param half     whether the keys are f16
 */
export function packQueries(
  outPtr: usize,
  queryPtr: usize,
  stride: usize,
  headDim: u32,
  group: u32,
  rows: u32,
  half: bool,
): void {
  const count = rows * group;
  const depth = (headDim + 3) & ~3;
  const scale: f32 = half ? F16_QUERY_SCALE : 1;
  memory.fill(outPtr, 0, packedQueryBytes(count, depth >> 2));
  for (let first: u32 = 0; first < count; first += TILE_QUERIES) {
    const width = tileWidth(count - first);
    for (let i: u32 = 0; i < min(width, count - first); i++) {
      const q = first + i;
      const from = queryPtr + <usize>(q / group) * stride + (<usize>(q % group * headDim) << 2);
      const to = outPtr + (<usize>i << 4);
      for (let d: u32 = 0; d < headDim; d++) {
        const x = load<f32>(from + (<usize>d << 2)) * scale;
        v128.store(to + (<usize>(d * width) << 4), f32x4.splat(x));
      }
    }
    outPtr += <usize>(depth * width) << 4;
  }
}

/** Four rows of keys as columns: out[d][lane] = keys[lane][d]; rows from `count` on repeat the last. */
function transposeKeys(
  outPtr: usize,
  keysPtr: usize,
  rowBytes: usize,
  quads: u32,
  half: bool,
  first: u32,
  count: u32,
): void {
  const last = count - 1;
  let a = keysPtr + <usize>min(first, last) * rowBytes;
  let b = keysPtr + <usize>min(first + 1, last) * rowBytes;
  let c = keysPtr + <usize>min(first + 2, last) * rowBytes;
  let d = keysPtr + <usize>min(first + 3, last) * rowBytes;
  const mask = v128.load(F16_MASK);
  const step: usize = half ? 8 : 16;
  for (let i: u32 = 0; i < quads; i++) {
    let x: v128, y: v128, z: v128, w: v128;
    if (half) {
      x = scaledF16(v128.load_ext<i16>(a), mask);
      y = scaledF16(v128.load_ext<i16>(b), mask);
      z = scaledF16(v128.load_ext<i16>(c), mask);
      w = scaledF16(v128.load_ext<i16>(d), mask);
    } else {
      x = v128.load(a);
      y = v128.load(b);
      z = v128.load(c);
      w = v128.load(d);
    }
    const xy = v128.shuffle<f32>(x, y, 0, 4, 1, 5), zw = v128.shuffle<f32>(z, w, 0, 4, 1, 5);
    x = v128.shuffle<f32>(x, y, 2, 6, 3, 7);
    z = v128.shuffle<f32>(z, w, 2, 6, 3, 7);
    v128.store(outPtr, v128.shuffle<f32>(xy, zw, 0, 1, 4, 5));
    v128.store(outPtr, v128.shuffle<f32>(xy, zw, 2, 3, 6, 7), 32);
    v128.store(outPtr, v128.shuffle<f32>(x, z, 0, 1, 4, 5), 64);
    v128.store(outPtr, v128.shuffle<f32>(x, z, 2, 3, 6, 7), 96);
    a += step;
    b += step;
    c += step;
    d += step;
    outPtr += 128;
  }
}

/** norms[t] = |values[t]|, by its absolute values or its squares. */
function normsOf(
  outPtr: usize,
  valuesPtr: usize,
  quads: u32,
  half: bool,
  weighting: i32,
  count: u32,
): void {
  const step: usize = half ? 8 : 16;
  for (let t: u32 = 0; t < count; t++) {
    let sum = f32x4.splat(0);
    for (let i: u32 = 0; i < quads; i++) {
      const v = half ? loadF16x4(valuesPtr) : v128.load(valuesPtr);
      sum = f32x4.add(sum, weighting == Weighting.L1 ? f32x4.abs(v) : f32x4.mul(v, v));
      valuesPtr += step;
    }
    const total = sumLanes(sum);
    store<f32>(outPtr, weighting == Weighting.L1 ? total : sqrt<f32>(total));
    outPtr += 4;
  }
}

/**
 * Position-agnostic relevance of cached keys, *neither rotated*, unscaled because only the order
 * matters; each query keeps its best.
 *
 *     score[q, t] = sum_d query[q, d] * key[t, d]   (times a norm of value[t])
 *
 * Item i is part i % parts of the segments, for KV head i / parts; it fills list i.
 *
 * @param listsPtr    per item f32[queries, topK] values, u32[queries, topK] tokens, then thresholds and
 *                    bests (top_k.ts): {@link listBytes}
 * @param queriesPtr  per KV head what {@link packQueries} makes
 * @param segmentsPtr segments of all parts, ascending
 * @param partsPtr    u32[parts + 1], the segments where the parts begin
 * @param scratchPtr  {@link scoreScratchBytes}
 * @param headStride  bytes from a KV head to the next in a chunk
 * @param valueOffset bytes from a key to its value
 * @param quads       of a head
 * @param half        whether keys and values are f16
 * @param queries     per KV head
 * @param runs        whether only the best key of each run counts
 */
export function selectKeys(
  listsPtr: usize,
  queriesPtr: usize,
  segmentsPtr: usize,
  partsPtr: usize,
  scratchPtr: usize,
  headStride: usize,
  valueOffset: usize,
  quads: u32,
  half: bool,
  queries: u32,
  topK: u32,
  weighting: i32,
  runs: bool,
  parts: u32,
  start: u32,
  end: u32,
): void {
  const padded = paddedQueries(queries);
  const rowBytes = <usize>quads << (half ? 3 : 4);
  const keysPtr = scratchPtr;
  const normsPtr = keysPtr + <usize>BATCH * (<usize>quads << 4);
  const scoresPtr = normsPtr + (BATCH << 2);
  for (let item = start; item < end; item++) {
    const head = <usize>(item / parts);
    const part = partsPtr + (<usize>(item % parts) << 2);
    const packed = queriesPtr + head * packedQueryBytes(queries, quads);
    const values = listsPtr + <usize>item * listBytes(queries, topK);
    const tokens = values + (<usize>queries * topK << 2);
    const thresholds = values + entryBytes(queries, topK);
    const bests = thresholds + (<usize>padded << 4);
    clearTopK(thresholds, values, tokens, bests, queries, padded, topK);
    const last = segmentsPtr + <usize>load<u32>(part, 4) * SEGMENT_BYTES;
    let segment = segmentsPtr + <usize>load<u32>(part) * SEGMENT_BYTES;
    for (; segment < last; segment += SEGMENT_BYTES) {
      let keys = segmentKeys(segment) + head * headStride;
      let token = segmentFirst(segment);
      const stop = token + segmentCount(segment);
      while (token < stop) {
        const count = min(BATCH, stop - token);
        let panel = keysPtr;
        for (let t: u32 = 0; t < count; t += TILE_KEYS) {
          transposeKeys(panel, keys, rowBytes, quads, half, t, count);
          transposeKeys(panel + 16, keys, rowBytes, quads, half, t + 4, count);
          panel += <usize>quads << 7;
        }
        const weighs = weighting != Weighting.NONE;
        if (weighs) normsOf(normsPtr, keys + valueOffset, quads, half, weighting, count);
        scoreBatch(
          thresholds, bests, values, tokens, packed, keysPtr,
          scoresPtr, weighs ? normsPtr : 0, quads, queries, topK, runs, token, count,
        );
        keys += <usize>count * rowBytes;
        token += count;
      }
      if (runs && segmentEndsRun(segment)) {
        endRun(thresholds, values, tokens, bests, queries, topK);
      }
    }
  }
}

/** Scores a batch of keys for all queries and offers what exceeds a threshold. */
function scoreBatch(
  thresholdsPtr: usize,
  bestsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  queriesPtr: usize,
  keysPtr: usize,
  scoresPtr: usize,
  normsPtr: usize,
  quads: u32,
  queries: u32,
  topK: u32,
  runs: bool,
  token: u32,
  count: u32,
): void {
  const depth = quads << 2;
  for (let first: u32 = 0; first < queries; first += TILE_QUERIES) {
    const width = tileWidth(queries - first);
    const real = min(width, queries - first);
    const tiles: u32 = width == 2 ? 2 : 1;
    let keys = keysPtr;
    for (let t: u32 = 0; t < count; t += tiles * TILE_KEYS) {
      const exceeds = width == 6
        ? scoreTile6(scoresPtr, queriesPtr, keys, depth, thresholdsPtr)
        : width == 4
        ? scoreTile4(scoresPtr, queriesPtr, keys, depth, thresholdsPtr)
        : scoreTwoTiles2(scoresPtr, queriesPtr, keys, depth, thresholdsPtr);
      if (exceeds || normsPtr) {
        let scores = scoresPtr;
        for (let u = t; u < min(count, t + tiles * TILE_KEYS); u += TILE_KEYS) {
          if (
            !normsPtr || weighTile(scores, normsPtr + (<usize>u << 2), thresholdsPtr, width)
          ) {
            const valid = min(TILE_KEYS, count - u);
            if (runs) offerTileToRun(thresholdsPtr, bestsPtr, scores, real, token + u, valid);
            else {
              offerTile(
                thresholdsPtr, valuesPtr, tokensPtr, scores, real, topK, token + u, valid,
              );
            }
          }
          scores += <usize>width << 5;
        }
      }
      keys += <usize>(tiles * depth) << 5;
    }
    queriesPtr += <usize>(depth * width) << 4;
    thresholdsPtr += <usize>width << 4;
    bestsPtr += <usize>width << 2;
    valuesPtr += <usize>(width * topK) << 2;
    tokensPtr += <usize>(width * topK) << 2;
  }
}

/** Bytes of an item's values and tokens, in whole vectors. */
// @ts-ignore: decorator
@inline
function entryBytes(queries: u32, topK: u32): usize {
  return ((<usize>queries * topK << 3) + 15) & ~15;
}

/** Bytes of one item's list. */
export function listBytes(queries: u32, topK: u32): usize {
  return entryBytes(queries, topK) + ((<usize>paddedQueries(queries) * 20 + 15) & ~15);
}

/** Bytes of the packed queries of one KV head. */
export function packedQueryBytes(queries: u32, quads: u32): usize {
  return <usize>paddedQueries(queries) * (<usize>quads << 6);
}

/** What {@link selectKeys} needs as scratch, in bytes. */
export function scoreScratchBytes(quads: u32): usize {
  return <usize>BATCH * (<usize>quads << 4) + (BATCH << 2) + 32 * TILE_QUERIES;
}
