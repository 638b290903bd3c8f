import {
  blockOffset,
  BLOCKS_TOGETHER,
  firstRow,
  Form,
  formOf,
  groupBlockBytes,
  groupsOf,
  PANEL,
  Quantised,
  tileRows,
} from "./quantised";
import { groupOffset } from "./quantize";
import {
  q4kPairs,
  q4kQuads,
  q4kWords,
  q4Pairs,
  q4Quads,
  q4Words,
  q5kQuads,
  q5kWords,
  q5mQuads,
  q5mWords,
  q6kQuads,
  q6kWords,
  q8Digits,
  q8Quads,
  q8Words,
} from "./quantised_tiles.gen";
import { RELAXED } from "./simd";

/** Bytes of a tile's sums: f32[6, 8]. */
const TILE_BYTES: usize = 192;

/** Bytes of a superblock's scales and minima: f32[2, 8]. */
const SUPER_BYTES: usize = 64;

/** Zeros for a tile to add to. */
// @ts-ignore: decorator
@inline
function clear(out: usize, outStride: usize, rows: u32): void {
  for (let r: u32 = 0; r < rows; r++) {
    v128.store(out, f32x4.splat(0));
    v128.store(out, f32x4.splat(0), 16);
    out += outStride;
  }
}

/** The part of rows that an output is wide enough for, to or from a tile of its own. */
// @ts-ignore: decorator
@inline
function copyRows(
  to: usize,
  toStride: usize,
  from: usize,
  fromStride: usize,
  bytes: usize,
  rows: u32,
): void {
  for (let r: u32 = 0; r < rows; r++) {
    memory.copy(to, from, bytes);
    to += toStride;
    from += fromStride;
  }
}

/** One tile. */
// @ts-ignore: decorator
@inline
function multiplyGroup(
  out: usize,
  outStride: usize,
  x: usize,
  panel: usize,
  sums: usize,
  blocks: u32,
  rows: u32,
  format: i32,
  exact: bool,
): void {
  if (!RELAXED) {
    if (format == Quantised.Q8) q8Words(out, outStride, x, panel, blocks, sums, rows);
    else if (format == Quantised.Q4) q4Words(out, outStride, x, panel, blocks, sums, rows);
    else if (format == Quantised.Q4K) q4kWords(out, outStride, x, panel, blocks, sums, rows);
    else if (format == Quantised.Q5K) q5kWords(out, outStride, x, panel, blocks, sums, rows);
    else if (format == Quantised.Q6K) q6kWords(out, outStride, x, panel, blocks, sums, rows);
    else q5mWords(out, outStride, x, panel, blocks, sums, rows);
  } else if (format == Quantised.Q8) {
    if (exact) q8Quads(out, outStride, x, panel, blocks, sums, rows);
    else q8Digits(out, outStride, x, panel, blocks, sums, rows);
  } else if (format == Quantised.Q4) {
    if (exact) q4Quads(out, outStride, x, panel, blocks, sums, rows);
    else q4Pairs(out, outStride, x, panel, blocks, sums, rows);
  } else if (format == Quantised.Q4K) {
    if (exact) q4kQuads(out, outStride, x, panel, blocks, sums, rows);
    else q4kPairs(out, outStride, x, panel, blocks, sums, rows);
  } else if (format == Quantised.Q5K) q5kQuads(out, outStride, x, panel, blocks, sums, rows);
  else if (format == Quantised.Q6K) q6kQuads(out, outStride, x, panel, blocks, sums, rows);
  else q5mQuads(out, outStride, x, panel, blocks, sums, rows);
}

/**
 * Linear layer of quantised weights and activations.
 *
 *     out[r, o] = sum_block scale_x[r, block] * scale_w[o, block] * (x[r, block] . w[o, block])
 *
 * for o in panels [start, end), and the dots in exact integers.
 *
 * @param outPtr     f32[rows, outputs], rows `outStride` bytes apart
 * @param xPtr       what quantizeRows wrote
 * @param weightPtr  what packBlocks wrote of all outputs
 * @param scratchPtr {@link matmulQuantisedScratchBytes} bytes, aligned to 16
 * @param exact      whether dot4 is exact for all bytes: probeDots
 */
export function matmulQuantised(
  outPtr: usize,
  xPtr: usize,
  weightPtr: usize,
  scratchPtr: usize,
  outStride: usize,
  rows: u32,
  outputs: u32,
  blocks: u32,
  format: i32,
  exact: bool,
  start: u32,
  end: u32,
): void {
  const form = formOf(format, exact);
  const tile = tileRows(form);
  const groups = groupsOf(rows, tile);
  const panels = (outputs + PANEL - 1) / PANEL;
  const edge = scratchPtr + TILE_BYTES + SUPER_BYTES;
  // As many groups at once as stay in the L2 cache; a panel's blocks stay in L1 meanwhile.
  const groupBytes = <u32>(<usize>min(blocks, BLOCKS_TOGETHER) * groupBlockBytes(tile, form));
  const atOnce = max<u32>(1, (256 << 10) / groupBytes);
  for (let from: u32 = 0; from < groups; from += atOnce) {
    const to = min(groups, from + atOnce);
    const xStart = xPtr + groupOffset(from, rows, blocks, form);
    for (let b: u32 = 0; b < blocks; b += BLOCKS_TOGETHER) {
      const count = min(BLOCKS_TOGETHER, blocks - b);
      for (let p = start; p < end; p++) {
        const column = p * PANEL;
        const width = min(PANEL, outputs - column);
        const panel = weightPtr + blockOffset(p, b, panels, blocks, format);
        let x = xStart;
        for (let g = from; g < to; g++) {
          const first = firstRow(g, rows, tile);
          const n = firstRow(g + 1, rows, tile) - first;
          const xBlockBytes = groupBlockBytes(n, form);
          const xPart = x + <usize>b * xBlockBytes;
          const out = outPtr + <usize>first * outStride + (<usize>column << 2);
          if (width == PANEL) {
            if (b == 0) clear(out, outStride, n);
            multiplyGroup(out, outStride, xPart, panel, scratchPtr, count, n, format, exact);
          } else {
            // The last panel may be wider than the output.
            const bytes = <usize>width << 2;
            if (b == 0) clear(edge, 4 * PANEL, n);
            else copyRows(edge, 4 * PANEL, out, outStride, bytes, n);
            multiplyGroup(edge, 4 * PANEL, xPart, panel, scratchPtr, count, n, format, exact);
            copyRows(out, outStride, edge, 4 * PANEL, bytes, n);
          }
          x += <usize>blocks * xBlockBytes;
        }
      }
    }
  }
}

/** What {@link matmulQuantised} needs as scratch, in bytes. */
export function matmulQuantisedScratchBytes(): usize {
  return 2 * TILE_BYTES + SUPER_BYTES;
}
