/**
 * Attention of many queries: keys and values of a block are decoded, rotated and transposed once for
 * all of them.
 */
import {
  consecutive,
  CURSOR_BYTES,
  cursorPosition,
  openCursor,
  takeKeys,
  takeValues,
} from "./cursor";
import {
  placeKeyTiles,
  placeQuery,
  queryTileBytes,
  rotateRows,
  scoreTile,
  TILE_KEYS,
  TILE_QUERIES,
} from "./key_tiles";
import { anglesAt, rotate } from "./rope";
import { madd } from "./simd";
import { LOWEST, softmax } from "./softmax";
import { dot1, dot2, PANEL } from "./tile";
import { placeValues, sumQuads, valueBytes, valuePanelBytes } from "./value_panels";

/**
 * Keys that are gathered and attended to before the next: 96 KB of them at headDim 64, and as much of
 * values. Longer blocks sum up their lanes less often: 384 is 3 % faster than 192, from L2 (measured).
 */
const BLOCK: u32 = 384;

/** Bytes of u32[6], in whole vectors. */
const VISIBLE_BYTES: usize = 32;

/** Tiles of queries. */
// @ts-ignore: decorator
@inline
function tilesOf(queries: u32): usize {
  return <usize>((queries + TILE_QUERIES - 1) / TILE_QUERIES);
}

/**
 * A tile of queries attends to a block.
 *
 * @param outputsPtr f32[queries][4 * sumQuads]: sums of weighted values so far
 * @param statesPtr  f32[queries][2], see softmax
 * @param tilePtr    the queries
 * @param weightsPtr f32[6][BLOCK], scratch
 * @param sumsPtr    f32[2][4 * sumQuads], scratch
 * @param visiblePtr u32[queries]: how many of the block's tokens each sees; the last sees most
 */
function attendTile(
  outputsPtr: usize,
  statesPtr: usize,
  tilePtr: usize,
  keysPtr: usize,
  valuesPtr: usize,
  weightsPtr: usize,
  sumsPtr: usize,
  visiblePtr: usize,
  headDim: u32,
  queries: u32,
): void {
  const most = load<u32>(visiblePtr + (<usize>(queries - 1) << 2));
  const weightQuads = (most + 3) >> 2;
  const weightBytes: usize = BLOCK << 2;
  const outputBytes = <usize>sumQuads(headDim) << 4;
  const keyTileBytes = <usize>((headDim + 3) >> 2) << 7;
  for (let t: u32 = 0; t < most; t += TILE_KEYS) {
    scoreTile(weightsPtr + (<usize>t << 2), weightBytes, tilePtr, keysPtr, headDim);
    keysPtr += keyTileBytes;
  }
  for (let q: u32 = 0; q < queries; q += 2) {
    const weights = weightsPtr + <usize>q * weightBytes;
    const state = statesPtr + (<usize>q << 3);
    const output = outputsPtr + <usize>q * outputBytes;
    const both = q + 1 < queries;
    const factor0 = softmax(weights, state, load<u32>(visiblePtr + (<usize>q << 2)), weightQuads);
    let factor1: f32 = 1;
    if (both) {
      const visible = load<u32>(visiblePtr + (<usize>q << 2), 4);
      factor1 = softmax(weights + weightBytes, state + 8, visible, weightQuads);
    }
    let sums = sumsPtr;
    const last = valuesPtr + valueBytes(BLOCK, headDim);
    for (let values = valuesPtr; values < last; values += valuePanelBytes(BLOCK)) {
      if (both) dot2(sums, outputBytes, weights, weightBytes, values, weightQuads);
      else dot1(sums, weights, values, weightQuads);
      sums += PANEL << 2;
    }
    rescale(output, sumsPtr, factor0, outputBytes);
    if (both) rescale(output + outputBytes, sumsPtr + outputBytes, factor1, outputBytes);
  }
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
  const rowBytes = <usize>quads << 4;
  const outputBytes = <usize>sumQuads(headDim) << 4;
  const most = partRows * group;
  // Scores are powers of two.
  const scale = <f32>(Math.LOG2E / sqrt<f64>(<f64>headDim));
  // The layout of attendScratchBytes.
  const keyCursor = scratchPtr;
  const valueCursor = keyCursor + CURSOR_BYTES;
  const visible = valueCursor + CURSOR_BYTES;
  const rotated = visible + VISIBLE_BYTES;
  const queryTiles = rotated + rowBytes;
  const outputs = queryTiles + tilesOf(most) * queryTileBytes(headDim);
  const states = outputs + <usize>most * outputBytes;
  const weights = states + <usize>((most << 3) + 15 & ~15);
  const sums = weights + TILE_QUERIES * (BLOCK << 2);
  const keyTiles = sums + (outputBytes << 1);
  const values = keyTiles + <usize>BLOCK * rowBytes;
  const gathered = values + valueBytes(BLOCK, headDim);
  const angles = gathered + <usize>BLOCK * rowBytes;
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
      rotate(rotated, 16, from, anglesAt(ropePtr, angles, pairs, queryPosition + row, 1), pairs);
      const tile = queryTiles + <usize>(q / TILE_QUERIES) * queryTileBytes(headDim);
      placeQuery(tile + (<usize>(q % TILE_QUERIES) << 4), rotated, scale, headDim);
      store<f32>(states + (<usize>q << 3), LOWEST);
      store<f32>(states + (<usize>q << 3), 0, 4);
    }
    memory.fill(outputs, 0, <usize>queries * outputBytes);

    // Row r sees tokens [0, tokens - rows + r] of the scope: no row of this part sees more than these.
    const needed = tokens - rows + lastRow;
    openCursor(keyCursor, segmentsPtr + <usize>head * segmentsStride, 0);
    memory.copy(valueCursor, keyCursor, CURSOR_BYTES);
    for (let first: u32 = 0; first < needed; first += BLOCK) {
      const count = min(BLOCK, needed - first);
      for (let at: u32 = 0; at < count;) {
        const position = cursorPosition(keyCursor);
        const run = consecutive(keyCursor, count - at);
        const table = anglesAt(ropePtr, angles, pairs, position, run);
        const rowsPtr = gathered + <usize>at * rowBytes;
        takeKeys(rowsPtr, keyCursor, layoutPtr, channelsPtr, head, run);
        rotateRows(rowsPtr, table, quads, pairs, run);
        at += run;
      }
      placeKeyTiles(keyTiles, gathered, quads, (count + TILE_KEYS - 1) / TILE_KEYS);
      takeValues(gathered, valueCursor, layoutPtr, head, count);
      const tail = <usize>((4 - (count & 3)) & 3);
      memory.fill(gathered + <usize>count * rowBytes, 0, tail * rowBytes);
      placeValues(values, gathered, quads, count, valuePanelBytes(BLOCK));

      for (let q: u32 = 0; q < queries; q += TILE_QUERIES) {
        const some = min(TILE_QUERIES, queries - q);
        // Signed: negative where the block lies wholly behind a row's own token.
        let sees: i32 = 0;
        for (let i: u32 = 0; i < some; i++) {
          sees = <i32>(tokens - rows + firstRow + (q + i) / group + 1 - first);
          store<u32>(visible + (<usize>i << 2), min(count, <u32>max(sees, 0)));
        }
        if (sees <= 0) continue;
        attendTile(
          outputs + <usize>q * outputBytes,
          states + (<usize>q << 3),
          queryTiles + <usize>(q / TILE_QUERIES) * queryTileBytes(headDim),
          keyTiles,
          values,
          weights,
          sums,
          visible,
          headDim,
          some,
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
  const most = partRows * group;
  const rowBytes = <usize>((headDim + 3) >> 2) << 4;
  const outputBytes = <usize>sumQuads(headDim) << 4;
  return 2 * CURSOR_BYTES + VISIBLE_BYTES + rowBytes + tilesOf(most) * queryTileBytes(headDim) +
    <usize>most * outputBytes + <usize>((most << 3) + 15 & ~15) + TILE_QUERIES * (BLOCK << 2) +
    (outputBytes << 1) + 2 * <usize>BLOCK * rowBytes + valueBytes(BLOCK, headDim) +
    <usize>BLOCK * (<usize>headDim << 2);
}
