/**
 * Rotary positions. Su et al. 2021 (arXiv 2104.09864); pair i is (x[i], x[i + headDim / 2]).
 *
 * The angle of position p is split, p = 256 c + f, so that two small tables in f64 serve any length:
 *
 *     cos(a + b) = cos a cos b - sin a sin b,   sin(a + b) = sin a cos b + cos a sin b
 */
import { madd, nmadd } from "./simd";


/** Positions per coarse row. The same value as in src/backend/wasm/rotary.ts. */
const FINE_BITS: u32 = 8;

/**
 * Cosines and sines of consecutive positions.
 *
 * @param outPtr    f32[count][2 * half]: the cosines of a position, then its sines
 * @param coarsePtr f64[...][half][2], row c for position 256 c; cosine and sine of each pair
 * @param finePtr   f64[256][half][2]
 */
export function ropeAngles(
  outPtr: usize,
  coarsePtr: usize,
  finePtr: usize,
  half: u32,
  position: u32,
  count: u32,
): void {
  const rowBytes = <usize>half << 4;
  const halfBytes = <usize>half << 2;
  for (let i: u32 = 0; i < count; i++) {
    const p = position + i;
    const coarse = coarsePtr + <usize>(p >> FINE_BITS) * rowBytes;
    const fine = finePtr + <usize>(p & ((1 << FINE_BITS) - 1)) * rowBytes;
    for (let j: u32 = 0; j < half; j++) {
      const cosA = load<f64>(coarse + (<usize>j << 4)), sinA = load<f64>(coarse + (<usize>j << 4), 8);
      const cosB = load<f64>(fine + (<usize>j << 4)), sinB = load<f64>(fine + (<usize>j << 4), 8);
      store<f32>(outPtr + (<usize>j << 2), <f32>(cosA * cosB - sinA * sinB));
      store<f32>(outPtr + halfBytes + (<usize>j << 2), <f32>(sinA * cosB + cosA * sinB));
    }
    outPtr += halfBytes << 1;
  }
}

/**
 * Turns one head by its angles; quads of the result lie `outStep` bytes apart (16 = a plain row).
 *
 *     out[i] = x[i] cos - x[i + half] sin,   out[i + half] = x[i] sin + x[i + half] cos
 *
 * @param outPtr   f32[2 * half]; x itself only where quads lie 16 bytes apart
 * @param xPtr     f32[2 * half]
 * @param anglePtr f32[2 * half]: cosines, sines
 */
// @ts-ignore: decorator
@inline
export function rotate(
  outPtr: usize,
  outStep: usize,
  xPtr: usize,
  anglePtr: usize,
  half: u32,
): void {
  const halfBytes = <usize>half << 2;
  if (half & 3) {
    for (let i: u32 = 0; i < half; i++) {
      const j = i + half;
      const at = <usize>i << 2;
      const x = load<f32>(xPtr + at), y = load<f32>(xPtr + halfBytes + at);
      const cos = load<f32>(anglePtr + at), sin = load<f32>(anglePtr + halfBytes + at);
      store<f32>(outPtr + <usize>(i >> 2) * outStep + (<usize>(i & 3) << 2), x * cos - y * sin);
      store<f32>(outPtr + <usize>(j >> 2) * outStep + (<usize>(j & 3) << 2), x * sin + y * cos);
    }
    return;
  }
  let yPtr = xPtr + halfBytes, sinPtr = anglePtr + halfBytes;
  let farPtr = outPtr + <usize>(half >> 2) * outStep;
  const end = yPtr;
  if (half & 4) {
    turn(outPtr, farPtr, xPtr, yPtr, anglePtr, sinPtr);
    xPtr += 16, yPtr += 16, anglePtr += 16, sinPtr += 16, outPtr += outStep, farPtr += outStep;
  }
  while (xPtr < end) {
    turn(outPtr, farPtr, xPtr, yPtr, anglePtr, sinPtr);
    turn(outPtr + outStep, farPtr + outStep, xPtr + 16, yPtr + 16, anglePtr + 16, sinPtr + 16);
    xPtr += 32, yPtr += 32, anglePtr += 32, sinPtr += 32;
    outPtr += 2 * outStep, farPtr += 2 * outStep;
  }
}

/** Four pairs. */
// @ts-ignore: decorator
@inline
function turn(
  outPtr: usize,
  farPtr: usize,
  xPtr: usize,
  yPtr: usize,
  cosPtr: usize,
  sinPtr: usize,
): void {
  const x = v128.load(xPtr), y = v128.load(yPtr);
  const cos = v128.load(cosPtr), sin = v128.load(sinPtr);
  v128.store(outPtr, nmadd(y, sin, f32x4.mul(x, cos)));
  v128.store(farPtr, madd(x, sin, f32x4.mul(y, cos)));
}

/**
 * Where the angles of consecutive positions are: in the table as far as it goes, else computed.
 *
 * @param ropePtr usize[4]: f32 table of angles, its positions, coarse table, fine table
 * @param tempPtr f32[count][2 * half], written if need be
 */
export function anglesAt(
  ropePtr: usize,
  tempPtr: usize,
  half: u32,
  position: u32,
  count: u32,
): usize {
  if (position + count <= load<u32>(ropePtr, 4)) {
    return load<usize>(ropePtr) + (<usize>position * half << 3);
  }
  ropeAngles(tempPtr, load<usize>(ropePtr, 8), load<usize>(ropePtr, 12), half, position, count);
  return tempPtr;
}
