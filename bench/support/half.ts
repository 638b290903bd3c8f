/**
 * Sixteen-bit floating point, IEEE 754's binary16.
 *
 * @module
 */

const word = new DataView(new ArrayBuffer(4));

/** The f16 next to a number, ties to even; what is too large is infinite. */
export function toHalf(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  const sign = bits >>> 16 & 0x8000;
  const exponent = (bits >>> 23 & 0xff) - 112;
  const fraction = bits & 0x7fffff;
  if (exponent === 143) return sign | (fraction === 0 ? 0x7c00 : 0x7e00);
  if (exponent >= 31) return sign | 0x7c00;
  // Below the smallest normal number the leading one is written out, and bits fall off its end.
  const shift = exponent > 0 ? 13 : 14 - exponent;
  if (shift > 24) return sign;
  const whole = exponent > 0 ? exponent << 23 | fraction : fraction | 0x800000;
  const half = 1 << shift - 1;
  const rest = whole & (1 << shift) - 1;
  const kept = whole >>> shift;
  return sign |
    kept + (rest > half || rest === half && (kept & 1) === 1 ? 1 : 0);
}

/** The number that an f16 stands for. */
export function fromHalf(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = bits >>> 10 & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign *
    (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
