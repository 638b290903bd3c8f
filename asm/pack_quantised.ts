/**
 * Quantised weights, from a GGUF file's rows to panels (quantised.ts) and back.
 */
import { packBits, unpackBits } from "./pack_bits";
import { blockOffset, loadScale, PANEL, Quantised, superBytes } from "./quantised";

/**
 * Packs rows of blocks into whole panels; rows that are missing in the last panel become zero.
 *
 * @param outPtr  the weight, of `outputs` rows
 * @param rowsPtr [rows][blocks] of f16 scale and u8[32] (q8_0) or u8[16] (q4_0), or others, no padding
 * @param offset  what is added to q8_0's numbers: 0 or 128; q4_0's have their 8 in the file
 * @param start   which row of the weight comes first, a multiple of 8
 */
export function packBlocks(
  outPtr: usize,
  rowsPtr: usize,
  rows: u32,
  outputs: u32,
  blocks: u32,
  format: i32,
  offset: u32,
  start: u32,
): void {
  if (format > Quantised.Q4) {
    packBits(outPtr, rowsPtr, rows, outputs, blocks, format, start);
    return;
  }
  const outBytes = superBytes(format);
  const scalesAt = outBytes - 2 * PANEL;
  const quads = <u32>(scalesAt / (4 * PANEL));
  const fileBytes: usize = (<usize>quads << 2) + 2;
  const flip: u32 = format == Quantised.Q8 && offset != 0 ? 0x80808080 : 0;
  const panels = (outputs + PANEL - 1) / PANEL;
  for (let first: u32 = 0; first < rows; first += PANEL) {
    const count = min(PANEL, rows - first);
    const panel = (start + first) / PANEL;
    for (let b: u32 = 0; b < blocks; b++) {
      const out = outPtr + blockOffset(panel, b, panels, blocks, format);
      if (count < PANEL) memory.fill(out, 0, outBytes);
      let from = rowsPtr + (<usize>first * blocks + b) * fileBytes;
      for (let j: usize = 0; j < count; j++) {
        store<u16>(out + scalesAt + (j << 1), load<u16>(from));
        let to = out + (j << 2);
        for (let i: usize = 0; i < <usize>quads << 2; i += 4) {
          store<u32>(to, load<u32>(from + i, 2) ^ flip);
          to += 4 * PANEL;
        }
        from += <usize>blocks * fileBytes;
      }
    }
  }
}

/**
 * One row of a weight, as f32: what an embedding looks up.
 *
 * @param outPtr    f32[32 * blocks]
 * @param weightPtr what {@link packBlocks} wrote of `outputs` rows
 */
export function unpackBlocks(
  outPtr: usize,
  weightPtr: usize,
  row: u32,
  outputs: u32,
  blocks: u32,
  format: i32,
  offset: u32,
): void {
  if (format > Quantised.Q4) {
    unpackBits(outPtr, weightPtr, row, outputs, blocks, format);
    return;
  }
  const scalesAt = superBytes(format) - 2 * PANEL;
  const panels = (outputs + PANEL - 1) / PANEL;
  const j = <usize>(row % PANEL);
  for (let b: u32 = 0; b < blocks; b++) {
    const block = weightPtr + blockOffset(row / PANEL, b, panels, blocks, format);
    const scale = f32x4.splat(loadScale(block + scalesAt + (j << 1)));
    const quads = block + (j << 2);
    if (format == Quantised.Q8) {
      const zero = i32x4.splat(<i32>offset);
      for (let i: usize = 0; i < 8; i++) {
        const bytes = v128.load_zero<u32>(quads + i * 4 * PANEL);
        const words = offset == 0
          ? i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(bytes))
          : i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
        v128.store(
          outPtr + (i << 4),
          f32x4.mul(f32x4.convert_i32x4_s(i32x4.sub(words, zero)), scale),
        );
      }
    } else {
      const eight = i32x4.splat(8);
      const low = i32x4.splat(15);
      for (let i: usize = 0; i < 4; i++) {
        const bytes = v128.load_zero<u32>(quads + i * 4 * PANEL);
        const words = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
        v128.store(
          outPtr + (i << 4),
          f32x4.mul(f32x4.convert_i32x4_s(i32x4.sub(v128.and(words, low), eight)), scale),
        );
        v128.store(
          outPtr + (i << 4),
          f32x4.mul(f32x4.convert_i32x4_s(i32x4.sub(i32x4.shr_u(words, 4), eight)), scale),
          64,
        );
      }
    }
    outPtr += 128;
  }
}
