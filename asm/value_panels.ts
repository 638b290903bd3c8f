/**
 * Values, transposed, as the panels of tile.ts, with dimensions for rows and `block` tokens for
 * columns: f32[ceil(4 * quads / 6)][block / 4][6][4].
 */
import { PANEL, QUAD_BYTES } from "./tile";

/** Panels of a head. */
// @ts-ignore: decorator
@inline
function valuePanels(headDim: u32): u32 {
  // Whole quads are transposed, so the last quad must fit, not just the last dimension.
  return (((headDim + 3) & ~3) + PANEL - 1) / PANEL;
}

/** Bytes of a panel. */
// @ts-ignore: decorator
@inline
export function valuePanelBytes(block: u32): usize {
  return <usize>(block >> 2) * QUAD_BYTES;
}

/** Bytes of a block's values. */
// @ts-ignore: decorator
@inline
export function valueBytes(block: u32, headDim: u32): usize {
  return <usize>valuePanels(headDim) * valuePanelBytes(block);
}

/** Vectors of a row of sums: whole panels, whole quads. */
// @ts-ignore: decorator
@inline
export function sumQuads(headDim: u32): u32 {
  return (valuePanels(headDim) * PANEL + 3) >> 2;
}

/**
 * Transposes a block's values.
 *
 * @param panelsPtr  the block's
 * @param valuesPtr  f32[count, 4 * quads], zero from `count` to the next multiple of four
 */
export function placeValues(
  panelsPtr: usize,
  valuesPtr: usize,
  quads: u32,
  count: u32,
  panelBytes: usize,
): void {
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
      if (lane == 64) next = to + panel + panelBytes;
      v128.store(next, v128.shuffle<f32>(ef, gh, 0, 1, 4, 5));
      v128.store(next, v128.shuffle<f32>(ef, gh, 2, 3, 6, 7), 16);
      lane += 64;
      if (lane >= QUAD_BYTES) {
        lane -= QUAD_BYTES;
        panel += panelBytes;
      }
    }
    valuesPtr += rowBytes << 2;
  }
}

