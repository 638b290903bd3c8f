/**
 * Weights, from a file's rows to panels (tile.ts) and back. The numbers keep their format.
 */
import { Format, load4, widthOf } from "./convert";
import { PANEL } from "./tile";

/**
 * Packs rows into whole panels; what is missing in the last panel and the last quad becomes zero.
 *
 * @param outPtr  [ceil(rows / 6)][ceil(cols / 4)][6][4]
 * @param rowsPtr [rows, cols], no padding, `width` bytes a number
 */
export function packPanels(outPtr: usize, rowsPtr: usize, rows: u32, cols: u32, width: u32): void {
  const quadBytes: usize = <usize>width << 2;
  const rowBytes = <usize>cols * width;
  const whole = cols >> 2;
  const tail = <usize>(cols & 3) * width;
  const quads = (cols + 3) >> 2;
  for (let first: u32 = 0; first < rows; first += PANEL) {
    for (let j: u32 = 0; j < PANEL; j++) {
      const from = rowsPtr + <usize>(first + j) * rowBytes;
      let to = outPtr + <usize>j * quadBytes;
      if (first + j < rows) {
        let source = from;
        for (let i: u32 = 0; i < whole; i++) {
          if (width == 4) v128.store(to, v128.load(source));
          else store<u64>(to, load<u64>(source));
          source += quadBytes;
          to += quadBytes * PANEL;
        }
        if (tail) {
          memory.fill(to, 0, quadBytes);
          memory.copy(to, source, tail);
        }
      } else {
        for (let i: u32 = 0; i < quads; i++) {
          memory.fill(to, 0, quadBytes);
          to += quadBytes * PANEL;
        }
      }
    }
    outPtr += <usize>quads * quadBytes * PANEL;
  }
}

/**
 * One row of panels, as f32: what an embedding looks up.
 *
 * @param outPtr    f32[4 * quads]
 * @param panelsPtr [panels][quads][6][4] of `format`
 */
export function unpackRow(
  outPtr: usize,
  panelsPtr: usize,
  row: u32,
  quads: u32,
  format: i32,
): void {
  const quadBytes = widthOf(format) << 2;
  let from = panelsPtr + (<usize>(row / PANEL) * quads * PANEL + row % PANEL) * quadBytes;
  const end = outPtr + (<usize>quads << 4);
  while (outPtr < end) {
    v128.store(outPtr, load4(from, format));
    outPtr += 16;
    from += quadBytes * PANEL;
  }
}

/**
 * Numbers of any format to f32.
 *
 * @param outPtr f32[count]; writes up to three more
 * @param fromPtr [count] of `format`; reads up to three more
 */
export function widen(outPtr: usize, fromPtr: usize, count: u32, format: i32): void {
  const step = widthOf(format) << 2;
  for (let i: u32 = 0; i < count; i += 4) {
    v128.store(outPtr, load4(fromPtr, format));
    outPtr += 16;
    fromPtr += step;
  }
}

/**
 * Query rows of one KV head to panels, row by row and within a row head by head.
 *
 * @param outPtr   f32[ceil(rows * group / 6)][quads][6][4]; what is missing becomes zero
 * @param queryPtr f32[rows, ...], rows `stride` bytes apart, at the group's first head
 * @param headDim  quads = ceil(headDim / 4)
 */
export function packQueries(
  outPtr: usize,
  queryPtr: usize,
  stride: usize,
  headDim: u32,
  group: u32,
  rows: u32,
): void {
  const count = rows * group;
  const quads = (headDim + 3) >> 2;
  const panels = (count + PANEL - 1) / PANEL;
  memory.fill(outPtr, 0, <usize>panels * quads * 96);
  for (let q: u32 = 0; q < count; q++) {
    const from = queryPtr + <usize>(q / group) * stride + (<usize>(q % group) * headDim << 2);
    const to = outPtr + <usize>(q / PANEL) * quads * 96 + (<usize>(q % PANEL) << 4);
    for (let d: u32 = 0; d < headDim; d++) {
      store<f32>(to + <usize>(d >> 2) * 96 + (<usize>(d & 3) << 2), load<f32>(from + (<usize>d << 2)));
    }
  }
}
