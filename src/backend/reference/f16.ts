/**
 * What sixteen bits stand for.
 *
 * @module
 */

/** The value of IEEE 754 binary16 bits: 1 sign, 5 exponent (bias 15), 10 fraction. */
export function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = bits >> 10 & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  // Below the smallest exponent the leading 1 is missing and the scale stays.
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
