import { bf16, F16_FACTOR, F16_MASK, Format, scaledF16 } from "./convert";
import { dotPairs } from "./pairs";
import { maxLanes } from "./simd";
import { dot1, dot1Bf16, dot1F16, dotRows, PANEL, QUAD_BYTES } from "./tile";

/** Rows that are multiplied with one panel before the next: those that stay in the L2 cache. */
// @ts-ignore: decorator
@inline
function rowsAtOnce(quads: u32): u32 {
  return max<u32>(32, (<u32>(512 << 10) / (quads << 4)) & ~1);
}

/** Some rows times one panel of f32: in pairs, packed or not, and the last of an odd number alone. */
// @ts-ignore: decorator
@inline
function panelRows(
  outPtr: usize,
  outStride: usize,
  rowsPtr: usize,
  rowStride: usize,
  pairsPtr: usize,
  panelPtr: usize,
  quads: u32,
  rows: u32,
): void {
  if (pairsPtr) dotPairs(outPtr, outStride, pairsPtr, panelPtr, quads, rows >> 1);
  else dotRows(outPtr, outStride, rowsPtr, rowStride, panelPtr, quads, rows >> 1);
  if (rows & 1) {
    const last = <usize>rows - 1;
    dot1(outPtr + last * outStride, rowsPtr + last * rowStride, panelPtr, quads);
  }
}

/**
 * A panel of 16-bit numbers to f32. f16 infinities become 2^16: weights have none.
 *
 * Constants are loaded before the loop, and eight numbers at once: a panel that 64 rows share takes
 * 5 % of their time so, and 7 % otherwise.
 */
function decodePanel(outPtr: usize, panelPtr: usize, quads: u32, format: i32): void {
  const end = outPtr + <usize>quads * QUAD_BYTES;
  let v: v128;
  if (format == Format.F16) {
    const mask = v128.load(F16_MASK);
    const factor = v128.load(F16_FACTOR);
    while (outPtr < end) {
      v = v128.load(panelPtr);
      v128.store(outPtr, f32x4.mul(scaledF16(i32x4.extend_low_i16x8_s(v), mask), factor));
      v128.store(outPtr, f32x4.mul(scaledF16(i32x4.extend_high_i16x8_s(v), mask), factor), 16);
      v = v128.load(panelPtr, 16);
      v128.store(outPtr, f32x4.mul(scaledF16(i32x4.extend_low_i16x8_s(v), mask), factor), 32);
      v128.store(outPtr, f32x4.mul(scaledF16(i32x4.extend_high_i16x8_s(v), mask), factor), 48);
      v = v128.load(panelPtr, 32);
      v128.store(outPtr, f32x4.mul(scaledF16(i32x4.extend_low_i16x8_s(v), mask), factor), 64);
      v128.store(outPtr, f32x4.mul(scaledF16(i32x4.extend_high_i16x8_s(v), mask), factor), 80);
      outPtr += QUAD_BYTES;
      panelPtr += QUAD_BYTES >> 1;
    }
  } else {
    while (outPtr < end) {
      v = v128.load(panelPtr);
      v128.store(outPtr, bf16(i32x4.extend_low_i16x8_u(v)));
      v128.store(outPtr, bf16(i32x4.extend_high_i16x8_u(v)), 16);
      outPtr += 32;
      panelPtr += 16;
    }
  }
}

/**
 * x * 2^112, so that f16 weights need no multiplication to become f32: a product is the same number
 * and so the same bits.
 *
 * @returns whether that stays finite; if not, the weights are to be decoded
 */
function scaleRow(outPtr: usize, xPtr: usize, quads: u32): bool {
  const factor = f32x4.splat(<f32>5.192296858534828e33);
  let largest = f32x4.splat(0);
  const end = outPtr + (<usize>quads << 4);
  while (outPtr < end) {
    const x = v128.load(xPtr);
    largest = f32x4.pmax(largest, f32x4.abs(x));
    v128.store(outPtr, f32x4.mul(x, factor));
    outPtr += 16;
    xPtr += 16;
  }
  return maxLanes(largest) < 32768;
}

/**
 * Linear layer.
 *
 *     out[r, o] = sum_i x[r, i] * weight[o, i]          for o in panels [start, end)
 *
 * @param outPtr     f32[rows, outputs], rows `outStride` bytes apart
 * @param xPtr       f32[rows, 4 * quads], rows `xStride` bytes apart
 * @param pairsPtr   f32[floor(rows / 2)][quads][2][4]: the same, from packPairs; or 0
 * @param weightPtr  [ceil(outputs / 6)][quads][6][4] of `format`
 * @param scratchPtr f32[quads][6][4], f32[rows at once, 8], f32[4 * quads]: {@link matmulScratchBytes}
 */
export function matmul(
  outPtr: usize,
  xPtr: usize,
  pairsPtr: usize,
  weightPtr: usize,
  scratchPtr: usize,
  outStride: usize,
  xStride: usize,
  rows: u32,
  outputs: u32,
  quads: u32,
  format: i32,
  start: u32,
  end: u32,
): void {
  const wide = format == Format.F32;
  const panelBytes = wide ? <usize>quads * QUAD_BYTES : <usize>quads * (QUAD_BYTES >> 1);
  const edgePtr = scratchPtr + <usize>quads * QUAD_BYTES;
  const scaledPtr = edgePtr + 32;
  const group = rowsAtOnce(quads);
  // One row of f16 weights: see scaleRow.
  const scaled = rows == 1 && format == Format.F16 && scaleRow(scaledPtr, xPtr, quads);
  for (let first: u32 = 0; first < rows; first += group) {
    const last = min(rows, first + group);
    for (let p = start; p < end; p++) {
      const column = p * PANEL;
      const width = min(PANEL, outputs - column);
      let panel = weightPtr + <usize>p * panelBytes;
      // The last panel may be wider than the output: through the scratch, then.
      const whole = width == PANEL;
      const out = whole
        ? outPtr + <usize>first * outStride + (<usize>column << 2)
        : edgePtr;
      const stride: usize = whole ? outStride : 32;
      const x = xPtr + <usize>first * xStride;
      const pairs: usize = pairsPtr ? pairsPtr + (<usize>first * quads << 4) : 0;
      if (wide) panelRows(out, stride, x, xStride, pairs, panel, quads, last - first);
      else if (last - first == 1 && format == Format.BF16) dot1Bf16(out, x, panel, quads);
      else if (scaled && last - first == 1) dot1F16(out, scaledPtr, panel, quads);
      else {
        decodePanel(scratchPtr, panel, quads, format);
        panelRows(out, stride, x, xStride, pairs, scratchPtr, quads, last - first);
      }
      if (!whole) {
        for (let r = first; r < last; r++) {
          memory.copy(
            outPtr + <usize>r * outStride + (<usize>column << 2),
            edgePtr + (<usize>(r - first) << 5),
            <usize>width << 2,
          );
        }
      }
    }
  }
}

/** What {@link matmul} needs as scratch, in bytes. */
export function matmulScratchBytes(quads: u32, rows: u32): usize {
  return <usize>quads * (QUAD_BYTES + 16) + (<usize>min(rows, rowsAtOnce(quads)) << 5);
}
