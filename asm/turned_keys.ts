/**
 * Keys from their bytes into panels, rotated on the way: what gather.ts and key_panels.ts do
 * one after the other, to the same bits, without rows in between.
 */
import { zipHigh, zipLow } from "./gather";
import { kvExact, kvQuads, kvScales, planeOffset } from "./kv_layout";
import { madd, nmadd } from "./simd";
import { PANEL, QUAD_BYTES } from "./tile";

/** 16384 in lanes of 16 bits: kv_layout.ts. */
const OFFSET: usize = memory.data<u32>([0x40004000, 0x40004000, 0x40004000, 0x40004000], 16);

/** Where key `at` is in its panels. */
// @ts-ignore: decorator
@inline
function placeOf(panelsPtr: usize, at: u32, quads: u32): usize {
  return panelsPtr + <usize>(at / PANEL) * quads * QUAD_BYTES + (<usize>(at % PANEL) << 4);
}

/** Bytes of eight numbers, less the offset. */
// @ts-ignore: decorator
@inline
function lowPairs(low: v128, high: v128, offset: v128): v128 {
  return i16x8.sub(zipLow(low, high), offset);
}

// @ts-ignore: decorator
@inline
function highPairs(low: v128, high: v128, offset: v128): v128 {
  return i16x8.sub(zipHigh(low, high), offset);
}

/** Four numbers of the first key of two, as they were. */
// @ts-ignore: decorator
@inline
function first(pairs: v128, scale: v128, inverse: v128, centre: v128): v128 {
  const n = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(pairs));
  return madd(f32x4.mul(n, scale), inverse, centre);
}

// @ts-ignore: decorator
@inline
function second(pairs: v128, scale: v128, inverse: v128, centre: v128): v128 {
  const n = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(pairs));
  return madd(f32x4.mul(n, scale), inverse, centre);
}

/** Four pairs, turned. */
// @ts-ignore: decorator
@inline
function turn(
  outPtr: usize,
  farOut: usize,
  x: v128,
  y: v128,
  cosPtr: usize,
  halfBytes: usize,
): void {
  const cos = v128.load(cosPtr), sin = v128.load(cosPtr + halfBytes);
  v128.store(outPtr, nmadd(y, sin, f32x4.mul(x, cos)));
  v128.store(outPtr + farOut, madd(x, sin, f32x4.mul(y, cos)));
}

/**
 * Keys of consecutive tokens of a chunk, i16.
 *
 * @param panelsPtr  the panel with key `at` is panel at / 6 of these
 * @param chunkPtr   the chunk's tokens of the layer and KV head
 * @param centresPtr the KV head's channels
 * @param anglePtr   f32[count][2 * pairs]: each key's cosines, then its sines
 * @param pairs      multiple of 4
 * @param row        the first token's
 */
export function turnKeys(
  panelsPtr: usize,
  chunkPtr: usize,
  layoutPtr: usize,
  centresPtr: usize,
  anglePtr: usize,
  pairs: u32,
  at: u32,
  row: u32,
  count: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const exact = chunkPtr + kvExact(layoutPtr);
  const scales = chunkPtr + kvScales(layoutPtr);
  const angleBytes = <usize>pairs << 3;
  for (const end = row + count; row < end;) {
    const plane = planeOffset(row, quads);
    const high = chunkPtr + plane, low = exact + plane;
    const scale = scales + (<usize>row << 2);
    const out = placeOf(panelsPtr, at, quads);
    if ((row & 3) == 0 && row + 4 <= end) {
      const b = placeOf(panelsPtr, at + 1, quads);
      const c = placeOf(panelsPtr, at + 2, quads);
      const d = placeOf(panelsPtr, at + 3, quads);
      turnFour(out, b, c, d, high, low, scale, centresPtr, anglePtr, pairs);
      row += 4;
      at += 4;
      anglePtr += angleBytes << 2;
    } else {
      turnOne(out, high, low, scale, centresPtr, anglePtr, pairs);
      row++;
      at++;
      anglePtr += angleBytes;
    }
  }
}

function turnOne(
  outPtr: usize,
  highPtr: usize,
  lowPtr: usize,
  scalePtr: usize,
  centresPtr: usize,
  anglePtr: usize,
  pairs: u32,
): void {
  const offset = v128.load(OFFSET);
  const scale = v128.load32_splat(scalePtr);
  const halfBytes = <usize>pairs << 2;
  const inverses = halfBytes << 2;
  const farPlane = halfBytes << 1;
  const farOut = <usize>(pairs >> 2) * QUAD_BYTES;
  for (const end = centresPtr + halfBytes; centresPtr < end; centresPtr += 16) {
    const p = lowPairs(v128.load32_zero(lowPtr), v128.load32_zero(highPtr), offset);
    const x = first(p, scale, v128.load(centresPtr + inverses), v128.load(centresPtr));
    const q = lowPairs(
      v128.load32_zero(lowPtr + farPlane),
      v128.load32_zero(highPtr + farPlane),
      offset,
    );
    const far = centresPtr + halfBytes;
    const y = first(q, scale, v128.load(far + inverses), v128.load(far));
    turn(outPtr, farOut, x, y, anglePtr, halfBytes);
    highPtr += 32;
    lowPtr += 32;
    anglePtr += 16;
    outPtr += QUAD_BYTES;
  }
}

/** Four keys whose bytes are side by side. */
function turnFour(
  aPtr: usize,
  bPtr: usize,
  cPtr: usize,
  dPtr: usize,
  highPtr: usize,
  lowPtr: usize,
  scalePtr: usize,
  centresPtr: usize,
  anglePtr: usize,
  pairs: u32,
): void {
  const offset = v128.load(OFFSET);
  const s0 = v128.load32_splat(scalePtr), s1 = v128.load32_splat(scalePtr, 4);
  const s2 = v128.load32_splat(scalePtr, 8), s3 = v128.load32_splat(scalePtr, 12);
  const halfBytes = <usize>pairs << 2;
  const angleBytes = halfBytes << 1;
  const inverses = halfBytes << 2;
  const farPlane = halfBytes << 1;
  const farOut = <usize>(pairs >> 2) * QUAD_BYTES;
  let b = anglePtr + angleBytes, c = b + angleBytes, d = c + angleBytes;
  for (const end = centresPtr + halfBytes; centresPtr < end; centresPtr += 16) {
    const far = centresPtr + halfBytes;
    const e = v128.load(centresPtr + inverses), f = v128.load(centresPtr);
    const g = v128.load(far + inverses), h = v128.load(far);
    const low = v128.load(lowPtr), high = v128.load(highPtr);
    const lowFar = v128.load(lowPtr + farPlane), highFar = v128.load(highPtr + farPlane);
    let p = lowPairs(low, high, offset), q = lowPairs(lowFar, highFar, offset);
    turn(aPtr, farOut, first(p, s0, e, f), first(q, s0, g, h), anglePtr, halfBytes);
    turn(bPtr, farOut, second(p, s1, e, f), second(q, s1, g, h), b, halfBytes);
    p = highPairs(low, high, offset), q = highPairs(lowFar, highFar, offset);
    turn(cPtr, farOut, first(p, s2, e, f), first(q, s2, g, h), c, halfBytes);
    turn(dPtr, farOut, second(p, s3, e, f), second(q, s3, g, h), d, halfBytes);
    highPtr += 32;
    lowPtr += 32;
    anglePtr += 16, b += 16, c += 16, d += 16;
    aPtr += QUAD_BYTES, bPtr += QUAD_BYTES, cPtr += QUAD_BYTES, dPtr += QUAD_BYTES;
  }
}
