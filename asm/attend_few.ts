/**
 * Attention of few queries, as in decoding: what is done for each key weighs as much as what is done
 * for each pair of query and key. So a key is turned only by its place in its block, with angles that
 * stay in the cache, and the queries, fewer, by the block's distance; and values are summed up as they
 * are stored, without transposition.
 *
 * The scope is cut into pieces of a fixed size, so that threads can share one KV head, and a result
 * does not depend on how many they are.
 */
import { exp2 } from "./exp";
import {
  consecutive,
  CURSOR_BYTES,
  cursorPosition,
  openCursor,
  takeHalfValues,
  takeKeys,
  takeTurnedKeys,
  takeValues,
  touch,
} from "./cursor";
import {
  addHalves1,
  addHalves2,
  addHalves4,
  decodeHalves,
  halvesBytes,
  RUN,
  SHARERS,
  splatWeights,
  WEIGHT_BYTES,
} from "./half_values";
import { clearKeyTails, placeKeys, score } from "./key_panels";
import { kvHalf } from "./kv_layout";
import { anglesAt, rotate } from "./rope";
import { madd } from "./simd";
import { LOWEST, softmax } from "./softmax";
import { PANEL } from "./tile";

/** Keys that are turned from the same place, and share a step of softmax. */
const BLOCK: u32 = 384;

/** Bytes of a query's scores. */
const SCORE_BYTES: usize = BLOCK << 2;

/** Bytes of a state before its sums: the largest score and the sum of weights, two unused. */
const STATE_BYTES: usize = 16;

/**
 * Adds weighted values to the sums of two queries.
 *
 *     sums[i] += sum_t weights[i, t] * values[t]        i < 2, t < 4 * steps
 */
function addValues2(
  sumsPtr: usize,
  sumStride: usize,
  weightsPtr: usize,
  weightStride: usize,
  valuesPtr: usize,
  quads: u32,
  steps: u32,
): void {
  const rowBytes = <usize>quads << 4;
  const end = sumsPtr + rowBytes;
  let w: v128, e: v128, f: v128;
  for (let s: u32 = 0; s < steps; s++) {
    const x = v128.load(weightsPtr), y = v128.load(weightsPtr + weightStride);
    const x0 = v128.shuffle<f32>(x, x, 0, 0, 0, 0), x1 = v128.shuffle<f32>(x, x, 1, 1, 1, 1);
    const x2 = v128.shuffle<f32>(x, x, 2, 2, 2, 2), x3 = v128.shuffle<f32>(x, x, 3, 3, 3, 3);
    const y0 = v128.shuffle<f32>(y, y, 0, 0, 0, 0), y1 = v128.shuffle<f32>(y, y, 1, 1, 1, 1);
    const y2 = v128.shuffle<f32>(y, y, 2, 2, 2, 2), y3 = v128.shuffle<f32>(y, y, 3, 3, 3, 3);
    let v0 = valuesPtr, v1 = v0 + rowBytes, v2 = v1 + rowBytes, v3 = v2 + rowBytes;
    let p = sumsPtr, q = sumsPtr + sumStride;
    if (quads & 1) {
      w = v128.load(v0), e = madd(x0, w, v128.load(p)), f = madd(y0, w, v128.load(q));
      w = v128.load(v1), e = madd(x1, w, e), f = madd(y1, w, f);
      w = v128.load(v2), e = madd(x2, w, e), f = madd(y2, w, f);
      w = v128.load(v3);
      v128.store(p, madd(x3, w, e));
      v128.store(q, madd(y3, w, f));
      v0 += 16, v1 += 16, v2 += 16, v3 += 16, p += 16, q += 16;
    }
    while (p < end) {
      w = v128.load(v0), e = madd(x0, w, v128.load(p)), f = madd(y0, w, v128.load(q));
      w = v128.load(v1), e = madd(x1, w, e), f = madd(y1, w, f);
      w = v128.load(v2), e = madd(x2, w, e), f = madd(y2, w, f);
      w = v128.load(v3);
      v128.store(p, madd(x3, w, e));
      v128.store(q, madd(y3, w, f));
      w = v128.load(v0, 16), e = madd(x0, w, v128.load(p, 16)), f = madd(y0, w, v128.load(q, 16));
      w = v128.load(v1, 16), e = madd(x1, w, e), f = madd(y1, w, f);
      w = v128.load(v2, 16), e = madd(x2, w, e), f = madd(y2, w, f);
      w = v128.load(v3, 16);
      v128.store(p, madd(x3, w, e), 16);
      v128.store(q, madd(y3, w, f), 16);
      v0 += 32, v1 += 32, v2 += 32, v3 += 32, p += 32, q += 32;
    }
    weightsPtr += 16;
    valuesPtr += rowBytes << 2;
  }
}

/** The same for one query. */
function addValues1(
  sumsPtr: usize,
  weightsPtr: usize,
  valuesPtr: usize,
  quads: u32,
  steps: u32,
): void {
  const rowBytes = <usize>quads << 4;
  const end = sumsPtr + rowBytes;
  for (let s: u32 = 0; s < steps; s++) {
    const x = v128.load(weightsPtr);
    const x0 = v128.shuffle<f32>(x, x, 0, 0, 0, 0), x1 = v128.shuffle<f32>(x, x, 1, 1, 1, 1);
    const x2 = v128.shuffle<f32>(x, x, 2, 2, 2, 2), x3 = v128.shuffle<f32>(x, x, 3, 3, 3, 3);
    let v0 = valuesPtr, v1 = v0 + rowBytes, v2 = v1 + rowBytes, v3 = v2 + rowBytes;
    for (let p = sumsPtr; p < end; p += 16) {
      let e = madd(x0, v128.load(v0), v128.load(p));
      e = madd(x1, v128.load(v1), e);
      e = madd(x2, v128.load(v2), e);
      v128.store(p, madd(x3, v128.load(v3), e));
      v0 += 16, v1 += 16, v2 += 16, v3 += 16;
    }
    weightsPtr += 16;
    valuesPtr += rowBytes << 2;
  }
}

function scaleRow(rowPtr: usize, factor: f32, quads: u32): void {
  const f = f32x4.splat(factor);
  const end = rowPtr + (<usize>quads << 4);
  for (; rowPtr < end; rowPtr += 16) v128.store(rowPtr, f32x4.mul(v128.load(rowPtr), f));
}

/** Adds a run's weighted f16 values to the sums of at most {@link SHARERS} queries. */
function addHalves(
  sumsPtr: usize,
  sumStride: usize,
  weightsPtr: usize,
  splatsPtr: usize,
  panelsPtr: usize,
  panels: u32,
  queries: u32,
  count: u32,
): void {
  const steps = (count + 3) >> 2;
  while (queries) {
    const some: u32 = queries == 3 ? 2 : queries;
    for (let i: u32 = 0; i < some; i++) {
      splatWeights(splatsPtr + (<usize>i << 4), <usize>some << 4, weightsPtr, steps);
      weightsPtr += SCORE_BYTES;
    }
    if (some == 4) addHalves4(sumsPtr, sumStride, splatsPtr, panelsPtr, panels, count);
    else if (some == 2) addHalves2(sumsPtr, sumStride, splatsPtr, panelsPtr, panels, count);
    else addHalves1(sumsPtr, splatsPtr, panelsPtr, panels, count);
    sumsPtr += <usize>some * sumStride;
    queries -= some;
  }
}

/** Adds a run's weighted f32 values, zero from `count` to the next multiple of four. */
function addRows(
  sumsPtr: usize,
  sumStride: usize,
  weightsPtr: usize,
  rowsPtr: usize,
  quads: u32,
  queries: u32,
  count: u32,
): void {
  const rowBytes = <usize>quads << 4;
  const steps = (count + 3) >> 2;
  // Their weights are zero, but zero times what was left there might be NaN.
  memory.fill(rowsPtr + <usize>count * rowBytes, 0, <usize>(4 * steps - count) * rowBytes);
  for (; queries > 1; queries -= 2) {
    addValues2(sumsPtr, sumStride, weightsPtr, SCORE_BYTES, rowsPtr, quads, steps);
    sumsPtr += 2 * sumStride;
    weightsPtr += 2 * SCORE_BYTES;
  }
  if (queries) addValues1(sumsPtr, weightsPtr, rowsPtr, quads, steps);
}

/** Bytes of a query's state: of one piece of the scope, f32[4 + 8 * panels]. */
// @ts-ignore: decorator
@inline
function stateBytes(headDim: u32): usize {
  return STATE_BYTES + (<usize>((headDim + 7) >> 3) << 5);
}

/**
 * Attention of few queries to pieces of the scope; {@link attendMerge} makes one of them.
 *
 * Item i is piece i / heads for KV head i % heads: a token's values for all KV heads lie side by side,
 * so what comes with one head's from far memory is near when the next head's turn is.
 *
 * @param statesPtr     f32[pieces][KV heads][rows * group][4 + 8 * panels]: the largest score, the sum
 *                      of weights, two unused, the sums of weighted values
 * @param queryPtr      f32[rows, heads * headDim], unrotated, rows `stride` bytes apart
 * @param segmentsPtr   segments with positions, `segmentsStride` bytes from a KV head's to the next's
 * @param endsPtr       u32[2] per KV head: the position after the last token's, and how many tokens the
 *                      segments hold; `endsStride` bytes apart
 * @param ropePtr       usize[4]: f32 table of angles, its positions, coarse table, fine table
 * @param scratchPtr    {@link attendFewScratchBytes}
 * @param layoutPtr     kv_layout.ts
 * @param channelsPtr   of KV head 0
 * @param group         query heads per KV head
 * @param rows          the newest tokens: each has the position after the one before, and sees one more
 * @param pieceTokens   tokens of a piece
 * @param heads         KV heads
 */
export function attendFew(
  statesPtr: usize,
  queryPtr: usize,
  segmentsPtr: usize,
  endsPtr: usize,
  ropePtr: usize,
  scratchPtr: usize,
  layoutPtr: usize,
  channelsPtr: usize,
  stride: usize,
  segmentsStride: usize,
  endsStride: usize,
  headDim: u32,
  group: u32,
  rows: u32,
  pieceTokens: u32,
  heads: u32,
  start: u32,
  end: u32,
): void {
  const quads = (headDim + 3) >> 2;
  const pairs = headDim >> 1;
  const half = kvHalf(layoutPtr);
  const valuePanels = (quads + 1) >> 1;
  const queries = rows * group;
  const rowBytes = <usize>quads << 4;
  const stateStride = stateBytes(headDim);
  // Scores are powers of two.
  const scale = <f32>(Math.LOG2E / sqrt<f64>(<f64>headDim));
  // The layout of attendFewScratchBytes.
  const keyCursor = scratchPtr;
  const valueCursor = keyCursor + CURSOR_BYTES;
  const rotated = scratchPtr + 2 * CURSOR_BYTES;
  const scores = rotated + <usize>queries * rowBytes;
  const panels = scores + <usize>queries * SCORE_BYTES;
  const gathered = panels + <usize>RUN * rowBytes;
  const halves = gathered + <usize>RUN * rowBytes;
  const splats = halves + halvesBytes(quads);
  const angles = splats + WEIGHT_BYTES;
  if (headDim & 3) clearKeyTails(panels, quads, RUN);

  for (let item = start; item < end; item++) {
    const head = item % heads;
    let first = item / heads * pieceTokens;
    const ends = endsPtr + <usize>head * endsStride;
    const tokens = load<u32>(ends, 4);
    const queryPosition = load<u32>(ends) - rows;
    const headBase = <usize>(head * group * headDim) << 2;
    const states = statesPtr + <usize>(item * queries) * stateStride;
    memory.fill(states, 0, <usize>queries * stateStride);
    for (let q: u32 = 0; q < queries; q++) store<f32>(states + <usize>q * stateStride, LOWEST);
    // Lists of KV heads may differ in length, and pieces are as many as the longest needs.
    if (first >= tokens) continue;
    const stop = min(tokens, first + pieceTokens);
    openCursor(keyCursor, segmentsPtr + <usize>head * segmentsStride, first);
    memory.copy(valueCursor, keyCursor, CURSOR_BYTES);

    while (first < stop) {
      const position = cursorPosition(keyCursor);
      const count = consecutive(keyCursor, min(BLOCK, stop - first));
      // Row r sees tokens [0, tokens - rows + r] of the scope: earlier rows may see none of these.
      const before = tokens - rows;
      const leastRow = first > before ? first - before : 0;
      const least = leastRow * group;
      for (let row = leastRow; row < rows; row++) {
        const distance = queryPosition + row - position;
        const table = anglesAt(ropePtr, angles, pairs, distance, 1);
        let from = queryPtr + <usize>row * stride + headBase;
        let to = rotated + <usize>(row * group) * rowBytes;
        for (let g: u32 = 0; g < group; g++) {
          v128.store(to + rowBytes - 16, f32x4.splat(0));
          rotate(to, 16, from, table, pairs);
          scaleRow(to, scale, quads);
          from += <usize>headDim << 2;
          to += rowBytes;
        }
      }

      touch(gathered, keyCursor, layoutPtr, head, count);
      const table = anglesAt(ropePtr, angles, pairs, 0, count);
      for (let at: u32 = 0; at < count; at += RUN) {
        const some = min(RUN, count - at);
        const turns = table + (<usize>(at * pairs) << 3);
        if (half && (headDim & 7) == 0) {
          takeTurnedKeys(panels, keyCursor, layoutPtr, channelsPtr, turns, pairs, head, some);
        } else {
          takeKeys(gathered, keyCursor, layoutPtr, channelsPtr, head, some);
          placeKeys(panels, gathered, turns, quads, pairs, 0, some);
        }
        for (let q = least; q < queries; q += 2) {
          const to = scores + <usize>q * SCORE_BYTES + (<usize>at << 2);
          const query = rotated + <usize>q * rowBytes;
          const both: u32 = q + 1 < queries ? 2 : 1;
          score(to, SCORE_BYTES, query, rowBytes, panels, both, (some + PANEL - 1) / PANEL, quads);
        }
      }

      for (let q = least; q < queries; q++) {
        const state = states + <usize>q * stateStride;
        const visible = min(count, before + q / group + 1 - first);
        const factor = softmax(scores + <usize>q * SCORE_BYTES, state, visible, (count + 3) >> 2);
        if (factor != 1) scaleRow(state + STATE_BYTES, factor, quads);
      }

      const sums = states + <usize>least * stateStride + STATE_BYTES;
      for (let at: u32 = 0; at < count; at += RUN) {
        const some = min(RUN, count - at);
        const weights = scores + <usize>least * SCORE_BYTES + (<usize>at << 2);
        const seeing = queries - least;
        // More queries are faster served from rows that are decoded once for all (measured).
        if (half && seeing <= SHARERS) {
          if (takeHalfValues(halves, valueCursor, layoutPtr, head, some)) {
            addHalves(sums, stateStride, weights, splats, halves, valuePanels, seeing, some);
            continue;
          }
          decodeHalves(gathered, halves, quads, some);
        } else takeValues(gathered, valueCursor, layoutPtr, head, some);
        addRows(sums, stateStride, weights, gathered, quads, seeing, some);
      }
      first += count;
    }
  }
}

/** What {@link attendFew} needs as scratch, in bytes. */
export function attendFewScratchBytes(queries: u32, headDim: u32): usize {
  const quads = (headDim + 3) >> 2;
  const rowBytes = <usize>quads << 4;
  return 2 * CURSOR_BYTES + <usize>queries * (rowBytes + SCORE_BYTES) + 2 * <usize>RUN * rowBytes +
    halvesBytes(quads) + WEIGHT_BYTES + <usize>BLOCK * (<usize>headDim << 2);
}

/** What {@link attendFew} writes, in bytes. */
export function attendFewStateBytes(items: u32, queries: u32, headDim: u32): usize {
  return <usize>(items * queries) * stateBytes(headDim);
}

/**
 * Joins what queries saw in the pieces of the scope.
 *
 * @param outPtr    f32[rows, heads * headDim], rows `stride` bytes apart
 * @param statesPtr what {@link attendFew} wrote; the first piece's is overwritten
 * @param heads     KV heads
 */
export function attendMerge(
  outPtr: usize,
  statesPtr: usize,
  stride: usize,
  heads: u32,
  headDim: u32,
  group: u32,
  rows: u32,
  pieces: u32,
): void {
  const queries = rows * group;
  const bytes = stateBytes(headDim);
  const pieceBytes = <usize>(heads * queries) * bytes;
  for (let head: u32 = 0; head < heads; head++) {
    for (let q: u32 = 0; q < queries; q++) {
      const first = statesPtr + <usize>(head * queries + q) * bytes;
      const end = first + <usize>pieces * pieceBytes;
      let largest = LOWEST;
      for (let s = first; s < end; s += pieceBytes) largest = max(largest, load<f32>(s));
      let sum: f32 = 0;
      for (let s = first; s < end; s += pieceBytes) {
        const factor = exp2(f32x4.splat(load<f32>(s) - largest));
        sum += load<f32>(s, 4) * f32x4.extract_lane(factor, 0);
        for (let i = STATE_BYTES; i < bytes; i += 16) {
          const part = f32x4.mul(v128.load(s + i), factor);
          v128.store(first + i, s == first ? part : f32x4.add(v128.load(first + i), part));
        }
      }
      const to = outPtr + <usize>(q / group) * stride +
        (<usize>((head * group + q % group) * headDim) << 2);
      const share = <f32>1 / sum;
      for (let d: u32 = 0; d < headDim; d++) {
        store<f32>(to + (<usize>d << 2), load<f32>(first + STATE_BYTES + (<usize>d << 2)) * share);
      }
    }
  }
}
