/**
 * exp within 1.1e-7 of the result: the standard's own may be off by 3 + 2 |x| units.
 *
 * x = n ln 2 + r, |r| <= ln 2 / 2; exp(x) = 2^n (1 + r + r^2 P(r)). Cephes' expf, as in asm/exp.ts.
 *
 * @module
 */

/** `exactExp(x)`, for x clamped to [-87, 88]: below, 1.6e-38 stands for 0. */
export const EXP = `
fn exactExp(value: f32) -> f32 {
  let x = clamp(value, -87.0, 88.0);
  let n = round(x * 1.44269504);
  // The first part of ln 2 has ten bits, so that its product with n is exact.
  var r = fma(n, -0.693359375, x);
  r = fma(n, 2.12194440e-4, r);
  var q = fma(1.9875691500e-4, r, 1.3981999507e-3);
  q = fma(q, r, 8.3334519073e-3);
  q = fma(q, r, 4.1665795894e-2);
  q = fma(q, r, 1.6666665459e-1);
  q = fma(q, r, 5.0000001201e-1);
  q = fma(q * r, r, r + 1.0);
  return bitcast<f32>(bitcast<u32>(q) + (u32(i32(n)) << 23u));
}
`;
