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
