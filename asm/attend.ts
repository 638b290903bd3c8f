import { exp4 } from "./exp";
import { gatherKeys, gatherValues } from "./gather";
import { channelBytes, kvHeadStride } from "./kv_layout";
import { rotate, ropeAngles } from "./rope";
import { SEGMENT_BYTES, segmentCount, segmentFirst, segmentKeys, segmentRow, segmentValues } from "./segment";
import { madd, maxLanes, sumLanes } from "./simd";
import { dot1, dot2, PANEL, QUAD_BYTES } from "./tile";

/**
 * Keys that are gathered and attended to before the next: 48 KB of them at headDim 64, and as much of
 * values. Longer blocks sum up their lanes less often: 192 is 14 % faster than 48, from L2 (measured).
 */
const BLOCK: u32 = 192;

/** Bytes of a quad of keys in a panel of values: f32[BLOCK / 4][6][4] a panel. */
const VALUE_PANEL_BYTES: usize = <usize>(BLOCK >> 2) * QUAD_BYTES;

const LOWEST: f32 = -3.4028234663852886e38;

// @ts-ignore: decorator
@inline
function valuePanels(headDim: u32): u32 {
  // Whole quads are transposed, so the last quad must fit, not just the last dimension.
  return (((headDim + 3) & ~3) + PANEL - 1) / PANEL;
}

/** Bytes of a block's values. */
// @ts-ignore: decorator
@inline
function valueBytes(headDim: u32): usize {
  return <usize>valuePanels(headDim) * VALUE_PANEL_BYTES;
}

/** Floats of an output row: whole panels, whole quads. */
// @ts-ignore: decorator
@inline
function outputQuads(headDim: u32): u32 {
  return (valuePanels(headDim) * PANEL + 3) >> 2;
}

/** Where the angles of a position are: in the table as far as it goes, else computed into `tempPtr`. */
// @ts-ignore: decorator
@inline
function anglesAt(ropePtr: usize, tempPtr: usize, half: u32, position: u32, count: u32): usize {
  if (position + count <= load<u32>(ropePtr, 4)) {
    return load<usize>(ropePtr) + (<usize>position * half << 3);
  }
  ropeAngles(tempPtr, load<usize>(ropePtr, 8), load<usize>(ropePtr, 12), half, position, count);
  return tempPtr;
}

/** Rotates keys [at, at + count) of a block into their panels. */
function placeKeys(
  panelsPtr: usize,
  keysPtr: usize,
  anglePtr: usize,
  quads: u32,
  half: u32,
  at: u32,
  count: u32,
): void {
  for (let i: u32 = 0; i < count; i++) {
    const t = at + i;
    const to = panelsPtr + <usize>(t / PANEL) * quads * QUAD_BYTES + (<usize>(t % PANEL) << 4);
    rotate(to, QUAD_BYTES, keysPtr, anglePtr, half);
    keysPtr += <usize>quads << 4;
    anglePtr += <usize>half << 3;
  }
}

/** Zeros what rotation leaves out: the last lanes of a head whose size is no multiple of four. */
function clearKeyTails(panelsPtr: usize, quads: u32): void {
  for (let t: u32 = 0; t < BLOCK; t++) {
    const row = panelsPtr + <usize>(t / PANEL) * quads * QUAD_BYTES + (<usize>(t % PANEL) << 4);
    v128.store(row + <usize>(quads - 1) * QUAD_BYTES, f32x4.splat(0));
  }
}

/**
 * Transposes a block's values to panels of dimensions.
 *
 * @param panelsPtr f32[ceil(4 * quads / 6)][BLOCK / 4][6][4]
 * @param valuesPtr f32[BLOCK, 4 * quads], zero from `count` to the next multiple of four
 */
function placeValues(panelsPtr: usize, valuesPtr: usize, quads: u32, count: u32): void {
  const rowBytes = <usize>quads << 4;
  for (let t: u32 = 0; t < count; t += 4) {
    const to = panelsPtr + <usize>(t >> 2) * QUAD_BYTES;
    let panel: usize = 0, lane: usize = 0;
    for (let i: usize = 0; i < rowBytes; i += 16) {
      const a = v128.load(valuesPtr + i), b = v128.load(valuesPtr + rowBytes + i);
      const c = v128.load(valuesPtr + 2 * rowBytes + i), d = v128.load(valuesPtr + 3 * rowBytes + i);
      const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
      const ef = v128.shuffle<f32>(a, b, 2, 6, 3, 7), gh = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
      v128.store(to + panel + lane, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
      v128.store(to + panel + lane, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7), 16);
      // Lanes of a panel come in sixes, quads in fours: every other quad crosses a panel's edge.
      let next = to + panel + lane + 32;
      if (lane == 64) next = to + panel + VALUE_PANEL_BYTES;
      v128.store(next, v128.shuffle<f32>(ef, gh, 0, 1, 4, 5));
      v128.store(next, v128.shuffle<f32>(ef, gh, 2, 3, 6, 7), 16);
      lane += 64;
      if (lane >= QUAD_BYTES) {
        lane -= QUAD_BYTES;
        panel += VALUE_PANEL_BYTES;
      }
    }
    valuesPtr += rowBytes << 2;
  }
}

/**
 * Scores of one query to weights, in place: exp(score - the largest so far), zero from `visible` on.
 *
 * @param statePtr f32[2]: the largest score so far, the sum of weights so far
 * @param quads    of weights to write, at least those that `visible` needs
 * @returns what the output so far must be multiplied with
 */
function softmax(rowPtr: usize, statePtr: usize, visible: u32, quads: u32): f32 {
  const end = rowPtr + (<usize>quads << 4);
  for (let p = rowPtr + (<usize>visible << 2); p < end; p += 4) store<f32>(p, LOWEST);
  // Two maxima, so that one need not wait for the other.
  let even = f32x4.splat(LOWEST), odd = even;
  let p = rowPtr;
  for (; p + 16 < end; p += 32) {
    even = f32x4.pmax(even, v128.load(p));
    odd = f32x4.pmax(odd, v128.load(p, 16));
  }
  if (p < end) even = f32x4.pmax(even, v128.load(p));
  const before = load<f32>(statePtr);
  const largest = max(before, maxLanes(f32x4.pmax(even, odd)));
  const shift = f32x4.splat(largest);
  let sum = f32x4.splat(0);
  for (p = rowPtr; p < end; p += 16) {
    const weight = exp4(f32x4.sub(v128.load(p), shift));
    v128.store(p, weight);
    sum = f32x4.add(sum, weight);
  }
  // What is not visible is in the sum by now with 1.6e-38 each; the sum over the scope is at least 1.
  for (p = rowPtr + (<usize>visible << 2); p < end; p += 4) store<f32>(p, 0);
  let factor: f32 = 1;
  if (largest > before) {
    factor = f32x4.extract_lane(exp4(f32x4.splat(before - largest)), 0);
    store<f32>(statePtr, largest);
  }
  store<f32>(statePtr, load<f32>(statePtr, 4) * factor + sumLanes(sum), 4);
  return factor;
}

/** One or two queries attend to a block. */
function attendBlock(
  outputPtr: usize,
  statePtr: usize,
  queryPtr: usize,
  keysPtr: usize,
  valuesPtr: usize,
  weightsPtr: usize,
  sumsPtr: usize,
  headDim: u32,
  queries: u32,
  visible0: u32,
  visible1: u32,
): void {
  const quads = (headDim + 3) >> 2;
  const visible = max(visible0, visible1);
  const panels = (visible + PANEL - 1) / PANEL;
  const weightQuads = (visible + 3) >> 2;
  const queryBytes = <usize>quads << 4;
  const outputBytes = <usize>outputQuads(headDim) << 4;
  const weightBytes: usize = BLOCK << 2;
  let keys = keysPtr;
  let scores = weightsPtr;
  for (let p: u32 = 0; p < panels; p++) {
    if (queries == 2) dot2(scores, weightBytes, queryPtr, queryBytes, keys, quads);
    else dot1(scores, queryPtr, keys, quads);
    keys += <usize>quads * QUAD_BYTES;
    scores += PANEL << 2;
  }
  const factor0 = softmax(weightsPtr, statePtr, visible0, weightQuads);
  let factor1: f32 = 1;
  if (queries == 2) {
    factor1 = softmax(weightsPtr + weightBytes, statePtr + 8, visible1, weightQuads);
  }
  let sums = sumsPtr;
  const last = valuesPtr + valueBytes(headDim);
  for (let values = valuesPtr; values < last; values += VALUE_PANEL_BYTES) {
    if (queries == 2) dot2(sums, outputBytes, weightsPtr, weightBytes, values, weightQuads);
    else dot1(sums, weightsPtr, values, weightQuads);
    sums += PANEL << 2;
  }
  rescale(outputPtr, sumsPtr, factor0, outputBytes);
  if (queries == 2) rescale(outputPtr + outputBytes, sumsPtr + outputBytes, factor1, outputBytes);
}

/** output = output * factor + sums */
function rescale(outputPtr: usize, sumsPtr: usize, factor: f32, bytes: usize): void {
  const f = f32x4.splat(factor);
  for (let i: usize = 0; i < bytes; i += 16) {
    v128.store(outputPtr + i, madd(v128.load(outputPtr + i), f, v128.load(sumsPtr + i)));
  }
}

/**
 * Attention over a scope given as segments, keys rotated on the way, softmax as it goes (Milakov and
 * Gimelshein 2018, arXiv 1805.02867): nothing grows with the scope.
 *
 *     out[r, h] = softmax(rotate(query[r, h]) . rotate(key[t]) / sqrt(headDim)) . value[t]
 *
 * Item i is part i % parts of the queries of KV head i / parts; a part is `partRows` rows with all
 * query heads of the KV head, which share what is gathered.
 *
 * @param outPtr        f32[rows, heads * headDim], rows `stride` bytes apart
 * @param queryPtr      the same shape, unrotated
 * @param segmentsPtr   segments with positions, `segmentsStride` bytes from a KV head's to the next's
 * @param endsPtr       u32[2] per KV head: the position after the last token's, and how many tokens the
 *                      segments hold; `endsStride` bytes apart
 * @param ropePtr       usize[4]: f32 table of angles, its positions, coarse table, fine table
 * @param scratchPtr    {@link attendScratchBytes}
 * @param layoutPtr     kv_layout.ts
 * @param channelsPtr   of KV head 0
 * @param group         query heads per KV head
 * @param rows          the newest tokens: each has the position after the one before, and sees one more
 */
export function attend(
  outPtr: usize,
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
  partRows: u32,
  parts: u32,
  start: u32,
  end: u32,
): void {
  const quads = (headDim + 3) >> 2;
  const pairs = headDim >> 1;
  const queryBytes = <usize>quads << 4;
  const outputBytes = <usize>outputQuads(headDim) << 4;
  const most = <usize>(partRows * group);
  const scale = <f32>(1 / sqrt<f64>(<f64>headDim));
  // The layout of attendScratchBytes.
  const rotated = scratchPtr;
  const outputs = rotated + most * queryBytes;
  const states = outputs + most * outputBytes;
  const weights = states + ((most << 3) + 15 & ~15);
  const sums = weights + (BLOCK << 3);
  const keyPanels = sums + (outputBytes << 1);
  const valuePanelsPtr = keyPanels + <usize>BLOCK * queryBytes;
  const gathered = valuePanelsPtr + valueBytes(headDim);
  const angles = gathered + <usize>BLOCK * queryBytes;
  if (headDim & 3) clearKeyTails(keyPanels, quads);
  // Dimensions that only fill the last panel: read, multiplied by finite weights, never used.
  memory.fill(valuePanelsPtr, 0, valueBytes(headDim));

  for (let item = start; item < end; item++) {
    const head = item / parts;
    const firstRow = item % parts * partRows;
    const lastRow = min(rows, firstRow + partRows);
    const queries = (lastRow - firstRow) * group;
    const ends = endsPtr + <usize>head * endsStride;
    const queryPosition = load<u32>(ends) - rows;
    const tokens = load<u32>(ends, 4);
    const centres = channelsPtr + <usize>head * channelBytes(quads);
    const headBase = <usize>(head * group * headDim) << 2;
    for (let q: u32 = 0; q < queries; q++) {
      const row = firstRow + q / group;
      const from = queryPtr + <usize>row * stride + headBase + (<usize>(q % group * headDim) << 2);
      const to = rotated + <usize>q * queryBytes;
      v128.store(to + queryBytes - 16, f32x4.splat(0));
      rotate(to, 16, from, anglesAt(ropePtr, angles, pairs, queryPosition + row, 1), pairs);
      for (let i: usize = 0; i < queryBytes; i += 16) {
        v128.store(to + i, f32x4.mul(v128.load(to + i), f32x4.splat(scale)));
      }
      store<f32>(states + (<usize>q << 3), LOWEST);
      store<f32>(states + (<usize>q << 3), 0, 4);
    }
    memory.fill(outputs, 0, <usize>queries * outputBytes);

    // Row r sees tokens [0, tokens - rows + r] of the scope: no row of this part sees more than these.
    const needed = tokens - rows + lastRow;
    let segment = segmentsPtr + <usize>head * segmentsStride;
    let used: u32 = 0;
    for (let first: u32 = 0; first < needed; first += BLOCK) {
      const count = min(BLOCK, needed - first);
      // Keys first, then values, from the same segments.
      for (let pass = 0; pass < 2; pass++) {
        let at: u32 = 0;
        let s = segment, u = used;
        while (at < count) {
          const piece = min(count - at, segmentCount(s) - u);
          const row = segmentRow(s) + u;
          const rowsPtr = gathered + <usize>at * queryBytes;
          if (pass) gatherValues(rowsPtr, segmentValues(s), layoutPtr, head, row, piece);
          else {
            const keys = segmentKeys(s) + <usize>head * kvHeadStride(layoutPtr);
            gatherKeys(rowsPtr, keys, layoutPtr, centres, row, piece);
            const table = anglesAt(ropePtr, angles, pairs, segmentFirst(s) + u, piece);
            placeKeys(keyPanels, rowsPtr, table, quads, pairs, at, piece);
          }
          at += piece;
          u += piece;
          if (u == segmentCount(s)) {
            s += SEGMENT_BYTES;
            u = 0;
          }
        }
        if (pass) {
          segment = s;
          used = u;
        }
      }
      if (count & 3) {
        memory.fill(gathered + <usize>count * queryBytes, 0, <usize>(4 - (count & 3)) * queryBytes);
      }
      placeValues(valuePanelsPtr, gathered, quads, count);

      for (let q: u32 = 0; q < queries; q += 2) {
        const both: u32 = q + 1 < queries ? 2 : 1;
        // Signed: negative where the block lies wholly behind a row's own token.
        const sees0 = <i32>(tokens - rows + firstRow + q / group + 1 - first);
        const sees1 = <i32>(tokens - rows + firstRow + (q + both - 1) / group + 1 - first);
        if (sees1 <= 0) continue;
        attendBlock(
          outputs + <usize>q * outputBytes,
          states + (<usize>q << 3),
          rotated + <usize>q * queryBytes,
          keyPanels,
          valuePanelsPtr,
          weights,
          sums,
          headDim,
          both,
          min(count, <u32>max(sees0, 0)),
          min(count, <u32>sees1),
        );
      }
    }

    for (let q: u32 = 0; q < queries; q++) {
      const row = firstRow + q / group;
      const to = outPtr + <usize>row * stride + headBase + (<usize>(q % group * headDim) << 2);
      const from = outputs + <usize>q * outputBytes;
      const share = <f32>1 / load<f32>(states + (<usize>q << 3), 4);
      for (let d: u32 = 0; d < headDim; d++) {
        store<f32>(to + (<usize>d << 2), load<f32>(from + (<usize>d << 2)) * share);
      }
    }
  }
}

/** What {@link attend} needs as scratch, in bytes. */
export function attendScratchBytes(partRows: u32, group: u32, headDim: u32): usize {
  const most = <usize>(partRows * group);
  const queryBytes = <usize>((headDim + 3) >> 2) << 4;
  const outputBytes = <usize>outputQuads(headDim) << 4;
  return most * (queryBytes + outputBytes) + ((most << 3) + 15 & ~15) + (BLOCK << 3) +
    (outputBytes << 1) + 2 * <usize>BLOCK * queryBytes + valueBytes(headDim) +
    <usize>BLOCK * (<usize>headDim << 2);
}
