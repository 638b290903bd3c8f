/** Keys, rotated, as the panels of tile.ts: f32[ceil(tokens / 6)][quads][6][4]. */
import { rotate } from "./rope";
import { dot1, dot2, PANEL, QUAD_BYTES } from "./tile";

/**
 * Rotates keys into their panels.
 *
 * @param panelsPtr the panel with key `at` is panel at / 6 of these
 * @param keysPtr   f32[count, 4 * quads]
 * @param anglePtr  f32[count][2 * half]: each key's cosines, then its sines
 */
export function placeKeys(
  panelsPtr: usize,
  keysPtr: usize,
  anglePtr: usize,
  quads: u32,
  half: u32,
  at: u32,
  count: u32,
): void {
  const panelBytes = <usize>quads * QUAD_BYTES;
  let lane = at % PANEL;
  let to = panelsPtr + <usize>(at / PANEL) * panelBytes + (<usize>lane << 4);
  for (let i: u32 = 0; i < count; i++) {
    rotate(to, QUAD_BYTES, keysPtr, anglePtr, half);
    keysPtr += <usize>quads << 4;
    anglePtr += <usize>half << 3;
    to += 16;
    if (++lane == PANEL) {
      lane = 0;
      to += panelBytes - QUAD_BYTES;
    }
  }
}

/** Zeros what rotation leaves out: the last lanes of a head whose size is no multiple of four. */
export function clearKeyTails(panelsPtr: usize, quads: u32, tokens: u32): void {
  for (let t: u32 = 0; t < tokens; t++) {
    const row = panelsPtr + <usize>(t / PANEL) * quads * QUAD_BYTES + (<usize>(t % PANEL) << 4);
    v128.store(row + <usize>(quads - 1) * QUAD_BYTES, f32x4.splat(0));
  }
}

/** Scores of one or two queries and `panels` panels of keys. */
export function score(
  scoresPtr: usize,
  scoreStride: usize,
  queryPtr: usize,
  queryStride: usize,
  panelsPtr: usize,
  queries: u32,
  panels: u32,
  quads: u32,
): void {
  for (let p: u32 = 0; p < panels; p++) {
    if (queries == 2) dot2(scoresPtr, scoreStride, queryPtr, queryStride, panelsPtr, quads);
    else dot1(scoresPtr, queryPtr, panelsPtr, quads);
    panelsPtr += <usize>quads * QUAD_BYTES;
    scoresPtr += PANEL << 2;
  }
}
