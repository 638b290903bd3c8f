/**
 * Attention of many queries: keys and values of a block are decoded, rotated and transposed once for
 * all of them.
 */
import { consecutive, CURSOR_BYTES, cursorPosition, gather, openCursor } from "./gather";
import { clearKeyTails, placeKeys, score } from "./key_panels";
import { anglesAt, rotate } from "./rope";
import { madd } from "./simd";
import { LOWEST, softmax } from "./softmax";
import { dot1, dot2, PANEL } from "./tile";
import { placeValues, sumQuads, valueBytes, valuePanelBytes } from "./value_panels";

/**
 * Keys that are gathered and attended to before the next: 48 KB of them at headDim 64, and as much of
 * values. Longer blocks sum up their lanes less often: 192 is 14 % faster than 48, from L2 (measured).
 */
const BLOCK: u32 = 192;

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
  const outputBytes = <usize>sumQuads(headDim) << 4;
  const weightBytes: usize = BLOCK << 2;
  score(weightsPtr, weightBytes, queryPtr, queryBytes, keysPtr, queries, panels, quads);
  const factor0 = softmax(weightsPtr, statePtr, visible0, weightQuads);
  let factor1: f32 = 1;
  if (queries == 2) {
    factor1 = softmax(weightsPtr + weightBytes, statePtr + 8, visible1, weightQuads);
  }
  let sums = sumsPtr;
  const last = valuesPtr + valueBytes(BLOCK, headDim);
  for (let values = valuesPtr; values < last; values += valuePanelBytes(BLOCK)) {
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
 * Attention over a scope given as segments, keys rotated on the way, softmax as it goes: nothing
 * grows with the scope.
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
 * @param headStride    bytes from a KV head to the next in a chunk
 * @param valueOffset   bytes from a key to its value
 * @param half          whether keys and values are f16
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
  stride: usize,
  segmentsStride: usize,
  endsStride: usize,
  headStride: usize,
  valueOffset: usize,
  headDim: u32,
  half: bool,
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
  const outputBytes = <usize>sumQuads(headDim) << 4;
  const most = <usize>(partRows * group);
  // Scores are powers of two.
  const scale = <f32>(Math.LOG2E / sqrt<f64>(<f64>headDim));
  // The layout of attendScratchBytes.
  const keyCursor = scratchPtr;
  const valueCursor = keyCursor + CURSOR_BYTES;
  const rotated = valueCursor + CURSOR_BYTES;
  const outputs = rotated + most * queryBytes;
  const states = outputs + most * outputBytes;
  const weights = states + ((most << 3) + 15 & ~15);
  const sums = weights + (BLOCK << 3);
  const keyPanels = sums + (outputBytes << 1);
  const values = keyPanels + <usize>BLOCK * queryBytes;
  const gathered = values + valueBytes(BLOCK, headDim);
  const angles = gathered + <usize>BLOCK * queryBytes;
  if (headDim & 3) clearKeyTails(keyPanels, quads, BLOCK);
  // Dimensions that only fill the last panel: read, multiplied by finite weights, never used.
  memory.fill(values, 0, valueBytes(BLOCK, headDim));

  for (let item = start; item < end; item++) {
    const head = item / parts;
    const firstRow = item % parts * partRows;
    const lastRow = min(rows, firstRow + partRows);
    const queries = (lastRow - firstRow) * group;
    const ends = endsPtr + <usize>head * endsStride;
    const queryPosition = load<u32>(ends) - rows;
    const tokens = load<u32>(ends, 4);
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
    const headOffset = <usize>head * headStride;
    openCursor(keyCursor, segmentsPtr + <usize>head * segmentsStride, 0);
    memory.copy(valueCursor, keyCursor, CURSOR_BYTES);
    for (let first: u32 = 0; first < needed; first += BLOCK) {
      const count = min(BLOCK, needed - first);
      for (let at: u32 = 0; at < count;) {
        const position = cursorPosition(keyCursor);
        const run = consecutive(keyCursor, count - at);
        const table = anglesAt(ropePtr, angles, pairs, position, run);
        gather(gathered, keyCursor, headOffset, 0, run, quads, half, false);
        placeKeys(keyPanels, gathered, table, quads, pairs, at, run);
        at += run;
      }
      gather(gathered, valueCursor, headOffset, valueOffset, count, quads, half, true);
      const tail = <usize>((4 - (count & 3)) & 3);
      memory.fill(gathered + <usize>count * queryBytes, 0, tail * queryBytes);
      placeValues(values, gathered, quads, count, valuePanelBytes(BLOCK));

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
          values,
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
  const outputBytes = <usize>sumQuads(headDim) << 4;
  return 2 * CURSOR_BYTES + most * (queryBytes + outputBytes) + ((most << 3) + 15 & ~15) + (BLOCK << 3) +
    (outputBytes << 1) + 2 * <usize>BLOCK * queryBytes + valueBytes(BLOCK, headDim) +
    <usize>BLOCK * (<usize>headDim << 2);
}
