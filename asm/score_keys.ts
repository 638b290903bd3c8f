import { decodeF16 } from "./convert";
import { multiplyPanels } from "./matmul";
import {
  SEGMENT_BYTES,
  segmentCount,
  segmentEndsRun,
  segmentFirst,
  segmentKeys,
} from "./segment";
import { sumLanes } from "./simd";
import { PANEL } from "./tile";
import { clearTopK, offerBest, updateBest, updateTopK } from "./top_k";

/** Keys that are decoded, scored and ranked before the next: 16 KB of them at headDim 64. */
const TILE: u32 = 64;

/** What multiplies a score. The same values as in src/backend/wasm/select.ts. */
const enum Weighting {
  NONE = 0,
  L1 = 1,
  L2 = 2,
}

/** Quads that hold one number per query. */
// @ts-ignore: decorator
@inline
function queryQuads(queries: u32): u32 {
  return ((queries + PANEL - 1) / PANEL * PANEL + 3) >> 2;
}

/** scores[t] *= norm(values[t]) */
function weigh(
  scoresPtr: usize,
  valuesPtr: usize,
  keys: u32,
  quads: u32,
  scoreQuads: u32,
  weighting: i32,
): void {
  for (let t: u32 = 0; t < keys; t++) {
    let sum = f32x4.splat(0);
    for (let i: u32 = 0; i < quads; i++) {
      const v = v128.load(valuesPtr);
      sum = f32x4.add(sum, weighting == Weighting.L1 ? f32x4.abs(v) : f32x4.mul(v, v));
      valuesPtr += 16;
    }
    const total = sumLanes(sum);
    const norm = f32x4.splat(weighting == Weighting.L1 ? total : sqrt<f32>(total));
    for (let i: u32 = 0; i < scoreQuads; i++) {
      v128.store(scoresPtr, f32x4.mul(v128.load(scoresPtr), norm));
      scoresPtr += 16;
    }
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
 * @param listsPtr    per item f32[4 * quads] thresholds, f32[queries, topK] values,
 *                    u32[queries, topK] tokens: {@link listBytes}
 * @param queriesPtr  per KV head f32[ceil(queries / 6)][quads][6][4]
 * @param segmentsPtr segments of all parts, ascending
 * @param partsPtr    u32[parts + 1], the segments where the parts begin
 * @param scratchPtr  {@link scoreScratchBytes}
 * @param headStride  bytes from a KV head to the next in a chunk
 * @param valueOffset bytes from a key to its value
 * @param quads       of a head
 * @param half        whether keys and values are f16
 * @param queries     per KV head
 * @param blocks      whether only the best key of each run counts
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
  blocks: bool,
  parts: u32,
  start: u32,
  end: u32,
): void {
  const panels = (queries + PANEL - 1) / PANEL;
  const scoreQuads = queryQuads(queries);
  const stride = <usize>scoreQuads << 4;
  const rowBytes = <usize>quads << (half ? 3 : 4);
  const scores = scratchPtr;
  const decoded = scores + <usize>TILE * stride;
  const best = decoded + <usize>TILE * (<usize>quads << 4);
  const bestTokens = best + stride;
  for (let item = start; item < end; item++) {
    const head = <usize>(item / parts);
    const part = partsPtr + (<usize>(item % parts) << 2);
    const packed = queriesPtr + head * <usize>panels * quads * 96;
    const thresholds = listsPtr + <usize>item * listBytes(queries, topK);
    const values = thresholds + stride;
    const tokens = values + (<usize>queries * topK << 2);
    clearTopK(thresholds, values, tokens, queries, scoreQuads, topK);
    for (let q: u32 = 0; q < scoreQuads; q++) {
      v128.store(best + (<usize>q << 4), f32x4.splat(-Infinity));
    }
    const last = segmentsPtr + <usize>load<u32>(part, 4) * SEGMENT_BYTES;
    let segment = segmentsPtr + <usize>load<u32>(part) * SEGMENT_BYTES;
    for (; segment < last; segment += SEGMENT_BYTES) {
      let keys = segmentKeys(segment) + head * headStride;
      let token = segmentFirst(segment);
      const stop = token + segmentCount(segment);
      while (token < stop) {
        const count = min(TILE, stop - token);
        let rows = keys;
        if (half) {
          decodeF16(decoded, keys, count * quads);
          rows = decoded;
        }
        multiplyPanels(scores, stride, rows, <usize>quads << 4, packed, quads, count, panels);
        if (weighting != Weighting.NONE) {
          let v = keys + valueOffset;
          if (half) {
            decodeF16(decoded, v, count * quads);
            v = decoded;
          }
          weigh(scores, v, count, quads, scoreQuads, weighting);
        }
        if (blocks) updateBest(best, bestTokens, scores, stride, scoreQuads, token, count);
        else updateTopK(thresholds, values, tokens, scores, stride, scoreQuads, topK, token, count);
        keys += <usize>count * rowBytes;
        token += count;
      }
      if (blocks && segmentEndsRun(segment)) {
        offerBest(thresholds, values, tokens, best, bestTokens, queries, topK);
      }
    }
  }
}

/** Bytes of one item's list. */
export function listBytes(queries: u32, topK: u32): usize {
  return (<usize>queryQuads(queries) << 4) + (<usize>queries * topK << 3);
}

/** What {@link selectKeys} needs as scratch, in bytes. */
export function scoreScratchBytes(queries: u32, quads: u32): usize {
  return (<usize>queryQuads(queries) << 4) * (TILE + 2) + <usize>TILE * (<usize>quads << 4);
}
