import { loadF16x4 } from "./convert";
import { zipLow } from "./gather";
import {
  KEY_OFFSET,
  kvExact,
  kvHalf,
  kvHeadStride,
  kvQuads,
  kvScales,
  kvValueBytes,
  kvValueStride,
  planeOffset,
} from "./kv_layout";
import { packedQueryBytes, rowsOffset, tilesOffset } from "./scan_queries";
import {
  CONSTANT_BYTES,
  paddedQueries,
  PANEL_KEYS,
  scanPanel4,
  scanPanel6,
  scanTwoPanels2,
  TILE_QUERIES,
  tileWidth,
  weighTile,
} from "./scan_tile";
import {
  SEGMENT_BYTES,
  segmentCount,
  segmentEndsRun,
  segmentFirst,
  segmentKeys,
  segmentRow,
  segmentValues,
} from "./segment";
import { madd, sumLanes } from "./simd";
import { clearTopK, endRun, insert } from "./top_k";

/** Bytes of keys that all queries see before the next come: a quarter of a usual L1 cache. */
const BATCH_BYTES: u32 = 8192;

/** Keys of a batch, at most. */
const MAX_BATCH: u32 = 256;

/** Whole panels. */
// @ts-ignore: decorator
@inline
function batchKeys(quads: u32): u32 {
  return max(PANEL_KEYS, min(MAX_BATCH, BATCH_BYTES / (quads << 2)) & ~(PANEL_KEYS - 1));
}

/** What multiplies a score. The same values as in src/backend/wasm/select.ts. */
const enum Weighting {
  NONE = 0,
  L1 = 1,
  L2 = 2,
}

/** What one item works on. */
// @ts-ignore: decorator
@unmanaged
class Scan {
  quads: u32;
  half: bool;
  runs: bool;
  weighting: i32;
  queries: u32;
  topK: u32;
  /** Offsets in a chunk. */
  scalesAt: usize;
  exactAt: usize;
  valueStride: usize;
  /** scan_queries.ts */
  constants: usize;
  rows: usize;
  tiles: usize;
  /** top_k.ts */
  values: usize;
  tokens: usize;
  thresholds: usize;
  bests: usize;
  /** f32[2 panels][2][8], or f32[6][8] */
  bounds: usize;
  /** f32[MAX_BATCH] */
  norms: usize;
  /** The chunk's keys of the layer and KV head. */
  chunk: usize;
  /** The chunk's first value of the KV head. */
  firstValue: usize;
  touched: u32;
}

const BOUND_BYTES: usize = TILE_QUERIES * PANEL_KEYS * 4;

/**
 * Position-agnostic relevance of cached keys, *neither rotated*, unscaled because only the order
 * matters; each query keeps its best.
 *
 *     score[q, t] = sum_d query[q, d] * key[t, d]   (times a norm of value[t])
 *
 * All keys are looked at through their high bytes alone; a key whose bound (scan_tile.ts) exceeds the worst
 * that the query keeps is scored exactly at once. So what is kept is exact, whatever the keys are, and only
 * the work depends on them. Without weighting the same constant is missing from all scores of a query: what
 * centring took.
 *
 * Item i is part i % parts of the segments, for KV head i / parts; it fills list i.
 *
 * @param listsPtr    per item f32[queries, topK] values, u32[queries, topK] tokens, then thresholds and
 *                    bests (top_k.ts): {@link listBytes}
 * @param queriesPtr  per KV head what `packQueries` makes
 * @param segmentsPtr segments of all parts, ascending
 * @param partsPtr    u32[parts + 1], the segments where the parts begin
 * @param scratchPtr  {@link scanScratchBytes}
 * @param layoutPtr   kv_layout.ts
 * @param queries     per KV head
 * @param runs        whether only the best key of each run counts
 * @param fused       whether the processor sums four products in one step: scan_tile.ts
 */
export function selectKeys(
  listsPtr: usize,
  queriesPtr: usize,
  segmentsPtr: usize,
  partsPtr: usize,
  scratchPtr: usize,
  layoutPtr: usize,
  queries: u32,
  topK: u32,
  weighting: i32,
  runs: bool,
  fused: bool,
  parts: u32,
  start: u32,
  end: u32,
): void {
  const padded = paddedQueries(queries);
  const quads = kvQuads(layoutPtr);
  const batch = batchKeys(quads);
  const scan = changetype<Scan>(scratchPtr + BOUND_BYTES + (MAX_BATCH << 2));
  scan.bounds = scratchPtr;
  scan.norms = scratchPtr + BOUND_BYTES;
  scan.quads = quads;
  scan.half = kvHalf(layoutPtr);
  scan.runs = runs;
  scan.weighting = weighting;
  scan.queries = queries;
  scan.topK = topK;
  scan.scalesAt = kvScales(layoutPtr);
  scan.exactAt = kvExact(layoutPtr);
  scan.valueStride = kvValueStride(layoutPtr);
  for (let item = start; item < end; item++) {
    const head = <usize>(item / parts);
    const part = partsPtr + (<usize>(item % parts) << 2);
    const packed = queriesPtr + head * packedQueryBytes(queries, quads);
    scan.constants = packed;
    scan.rows = packed + rowsOffset(padded);
    scan.tiles = packed + tilesOffset(padded, quads);
    scan.values = listsPtr + <usize>item * listBytes(queries, topK);
    scan.tokens = scan.values + (<usize>queries * topK << 2);
    scan.thresholds = scan.values + entryBytes(queries, topK);
    scan.bests = scan.thresholds + (<usize>padded << 4);
    clearTopK(scan.thresholds, scan.values, scan.tokens, scan.bests, queries, padded, topK);
    const last = segmentsPtr + <usize>load<u32>(part, 4) * SEGMENT_BYTES;
    let segment = segmentsPtr + <usize>load<u32>(part) * SEGMENT_BYTES;
    for (; segment < last; segment += SEGMENT_BYTES) {
      scan.chunk = segmentKeys(segment) + head * kvHeadStride(layoutPtr);
      scan.firstValue = segmentValues(segment) + head * kvValueBytes(layoutPtr);
      let row = segmentRow(segment);
      const stop = row + segmentCount(segment);
      const origin = segmentFirst(segment) - row;
      while (row < stop) {
        const panel = row & ~(PANEL_KEYS - 1);
        const next = min(stop, panel + batch);
        if (weighting != Weighting.NONE) normsOf(scan, panel, next);
        if (fused) scanBatch<i32>(scan, panel, row, next, origin);
        else scanBatch<i16>(scan, panel, row, next, origin);
        row = next;
      }
      if (runs && segmentEndsRun(segment)) {
        endRun(scan.thresholds, scan.values, scan.tokens, scan.bests, queries, topK);
      }
    }
  }
}

/**
 * All queries see some keys; T as in scan_tile.ts.
 *
 * @param panel  the row where the batch begins, a panel's first
 * @param from   the first row that counts
 * @param to     the row after the last that counts
 * @param origin the token of row 0
 */
function scanBatch<T>(scan: Scan, panel: u32, from: u32, to: u32, origin: u32): void {
  const quads = scan.quads;
  const weighs = scan.weighting != Weighting.NONE;
  const keys = scan.chunk + planeOffset(panel, quads);
  scan.touched = touch(keys, scan.chunk + planeOffset(to + PANEL_KEYS - 1, quads));
  let tile = scan.tiles;
  for (let first: u32 = 0; first < scan.queries; first += TILE_QUERIES) {
    const width = tileWidth(scan.queries - first);
    const panels: u32 = width == 2 ? 2 : 1;
    const constants = scan.constants + <usize>first * CONSTANT_BYTES;
    const thresholds = scan.thresholds + (<usize>first << 4);
    for (let row = panel; row < to; row += panels * PANEL_KEYS) {
      const keys = scan.chunk + planeOffset(row, quads);
      const scales = scan.chunk + scan.scalesAt + (<usize>row << 2);
      const exceeds = width == 6
        ? scanPanel6<T>(scan.bounds, tile, keys, scales, constants, thresholds, quads)
        : width == 4
        ? scanPanel4<T>(scan.bounds, tile, keys, scales, constants, thresholds, quads)
        : scanTwoPanels2<T>(scan.bounds, tile, keys, scales, constants, thresholds, quads);
      if (!exceeds && !weighs) continue;
      let bounds = scan.bounds;
      for (let r = row; r < min(to, row + panels * PANEL_KEYS); r += PANEL_KEYS) {
        const norms = scan.norms + (<usize>(r - panel) << 2);
        if (!weighs || weighTile(bounds, norms, constants, thresholds, width)) {
          offer(scan, first, width, bounds, r, norms, max(from, r), min(to, r + PANEL_KEYS), origin);
        }
        bounds += <usize>width << 5;
      }
    }
    tile += <usize>(quads * width) << 4;
  }
}

/**
 * Reads a little of each cache line, all at once: a tile's sums would wait for memory line after line (a quarter
 * of the time of one query over a million keys, measured). The result is to be kept, or the engine would
 * leave out the reads.
 */
function touch(from: usize, to: usize): u32 {
  let sum: u32 = 0;
  for (; from < to; from += 64) sum |= load<u32>(from);
  return sum;
}

/** Scores what may matter of a panel's rows [from, to) exactly, and keeps what does. */
function offer(
  scan: Scan,
  first: u32,
  width: u32,
  boundsPtr: usize,
  panel: u32,
  normsPtr: usize,
  from: u32,
  to: u32,
  origin: u32,
): void {
  const topK = scan.topK;
  for (let q = first; q < min(scan.queries, first + width); q++) {
    const place = scan.thresholds + (<usize>q << 4);
    let threshold = load<f32>(place);
    for (let row = from; row < to; row++) {
      const lane = <usize>(row - panel) << 2;
      if (!(load<f32>(boundsPtr + lane) > threshold)) continue;
      let score = scoreOf(scan, q, row);
      if (scan.weighting != Weighting.NONE) {
        score = (score + load<f32>(scan.constants + <usize>q * CONSTANT_BYTES, 32)) *
          load<f32>(normsPtr + lane);
      }
      if (!(score > threshold)) continue;
      if (scan.runs) {
        threshold = score;
        store<u32>(scan.bests + (<usize>q << 2), origin + row);
      } else {
        const list = <usize>(q * topK) << 2;
        threshold = insert(scan.values + list, scan.tokens + list, topK, score, origin + row);
      }
    }
    v128.store(place, f32x4.splat(threshold));
    boundsPtr += PANEL_KEYS << 2;
  }
}

/** The exact score of a query and the key of a row: the same bits for equal keys, wherever they are. */
function scoreOf(scan: Scan, query: u32, row: u32): f32 {
  const quads = scan.quads;
  const rowBytes = <usize>quads << 4;
  let q = scan.rows + <usize>query * rowBytes;
  const end = q + rowBytes;
  const exact = scan.chunk + scan.exactAt;
  let even = f32x4.splat(0), odd = f32x4.splat(0);
  if (!scan.half) {
    for (let key = exact + <usize>row * rowBytes; q < end; q += 16) {
      even = madd(v128.load(q), v128.load(key), even);
      key += 16;
    }
    return sumLanes(even);
  }
  const plane = planeOffset(row, quads);
  let low = exact + plane, high = scan.chunk + plane;
  for (; q + 16 < end; q += 32) {
    even = madd(v128.load(q), numbers(low, high, 0), even);
    odd = madd(v128.load(q, 16), numbers(low, high, 32), odd);
    low += 64;
    high += 64;
  }
  if (q < end) even = madd(v128.load(q), numbers(low, high, 0), even);
  return sumLanes(f32x4.add(even, odd)) *
    load<f32>(scan.chunk + scan.scalesAt + (<usize>row << 2));
}

/** Four numbers of a key. */
// @ts-ignore: decorator
@inline
function numbers(lowPtr: usize, highPtr: usize, offset: usize): v128 {
  const pairs = zipLow(v128.load32_zero(lowPtr + offset), v128.load32_zero(highPtr + offset));
  return f32x4.sub(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(pairs)), f32x4.splat(KEY_OFFSET));
}

/** norms[i] = |values[panel + i]| up to row `to`, by its absolute values or its squares. */
function normsOf(scan: Scan, panel: u32, to: u32): void {
  const quads = scan.quads;
  const step: usize = scan.half ? 8 : 16;
  let out = scan.norms;
  for (let row = panel; row < to; row++) {
    let sum = f32x4.splat(0);
    let value = scan.firstValue + <usize>row * scan.valueStride;
    for (let i: u32 = 0; i < quads; i++) {
      const v = scan.half ? loadF16x4(value) : v128.load(value);
      sum = f32x4.add(sum, scan.weighting == Weighting.L1 ? f32x4.abs(v) : f32x4.mul(v, v));
      value += step;
    }
    const total = sumLanes(sum);
    store<f32>(out, scan.weighting == Weighting.L1 ? total : sqrt<f32>(total));
    out += 4;
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

/** What {@link selectKeys} needs as scratch, in bytes. */
export function scanScratchBytes(): usize {
  return BOUND_BYTES + (MAX_BATCH << 2) + offsetof<Scan>();
}
