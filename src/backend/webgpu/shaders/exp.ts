/**
 * exp within 2e-7 of the result: the standard's own may be off by 3 + 2 |x| units.
 *
 *     x log2(e) = n + r, |r| <= 0.52;   exp(x) = 2^n (1 + r P(r))
 *
 * with P as in asm/exp.ts. Compilers of shaders may contract and reorder sums, and have no fused products that
 * one could rely on. So x is cut in two by its bits, the larger part of 12, as is the larger part of
 * log2(e): their product is exact. No two products have a factor in common that
 * could be put outside: the second one's is the first one's but for the last bit, which is of no account there.
 *
 * @module
 */

/** `exactExp(x)`, for x clamped to [-87, 88]: below, 1.6e-38 stands for 0. */
export const EXP = `
fn exactExp(value: f32) -> f32 {
  let x = clamp(value, -87.0, 88.0);
  let large = bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
  let y = large * 1.44287109375;
  let n = round(y);
  let r = (y - n) + ((x - large) * 1.44287121 + x * -1.76052861e-4);
  var q = fma(1.326472731e-3, r, 9.671512991e-3);
  q = fma(q, r, 5.550733581e-2);
  q = fma(q, r, 2.402224243e-1);
  q = fma(q, r, 6.931470037e-1);
  q = fma(q, r, 1.0);
  return bitcast<f32>(bitcast<u32>(q) + (u32(i32(n)) << 23u));
}
`;
