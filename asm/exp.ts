import { madd } from "./simd";

// Vectors in memory, because V8 builds a constant splat anew at every use (half the speed, measured).
// x = n ln 2 + r, |r| <= ln 2 / 2; exp(x) = 2^n (1 + r + r^2 P(r)). Cephes' expf: 1.1e-7 relative error.
const TABLE: usize = memory.data<f32>([
  -87, -87, -87, -87,
  88, 88, 88, 88,
  1.44269504, 1.44269504, 1.44269504, 1.44269504,
  12582912, 12582912, 12582912, 12582912,
  -0.693359375, -0.693359375, -0.693359375, -0.693359375,
  2.12194440e-4, 2.12194440e-4, 2.12194440e-4, 2.12194440e-4,
  1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4,
  1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3,
  8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3,
  4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2,
  1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1,
  5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1,
  1, 1, 1, 1,
], 16);

/** exp of each lane, for x clamped to [-87, 88]: below, 1.6e-38 stands for 0. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  x = f32x4.pmin(f32x4.pmax(x, v128.load(TABLE)), v128.load(TABLE, 16));
  // Adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits.
  const t = madd(x, v128.load(TABLE, 32), v128.load(TABLE, 48));
  const n = f32x4.sub(t, v128.load(TABLE, 48));
  let r = madd(n, v128.load(TABLE, 64), x);
  r = madd(n, v128.load(TABLE, 80), r);
  let p = madd(v128.load(TABLE, 96), r, v128.load(TABLE, 112));
  p = madd(p, r, v128.load(TABLE, 128));
  p = madd(p, r, v128.load(TABLE, 144));
  p = madd(p, r, v128.load(TABLE, 160));
  p = madd(p, r, v128.load(TABLE, 176));
  p = madd(f32x4.mul(p, r), r, f32x4.add(r, v128.load(TABLE, 192)));
  return i32x4.add(p, i32x4.shl(t, 23));
}

// x = n + r, |r| <= 1/2; 2^x = 2^n (1 + r P(r)): 9.1e-8 relative error (minimax, fitted with c0 = 1).
const TABLE_2: usize = memory.data<f32>([
  -126, -126, -126, -126,
  12582912, 12582912, 12582912, 12582912,
  1.326472731e-3, 1.326472731e-3, 1.326472731e-3, 1.326472731e-3,
  9.671512991e-3, 9.671512991e-3, 9.671512991e-3, 9.671512991e-3,
  5.550733581e-2, 5.550733581e-2, 5.550733581e-2, 5.550733581e-2,
  2.402224243e-1, 2.402224243e-1, 2.402224243e-1, 2.402224243e-1,
  6.931470037e-1, 6.931470037e-1, 6.931470037e-1, 6.931470037e-1,
  1, 1, 1, 1,
], 16);

/** 2^x of each lane, for x <= 127, and clamped to -126: below, 1.2e-38 stands for 0. */
// @ts-ignore: decorator
@inline
export function exp2(x: v128): v128 {
  x = f32x4.pmax(x, v128.load(TABLE_2));
  const t = f32x4.add(x, v128.load(TABLE_2, 16));
  const r = f32x4.sub(x, f32x4.sub(t, v128.load(TABLE_2, 16)));
  let p = madd(v128.load(TABLE_2, 32), r, v128.load(TABLE_2, 48));
  p = madd(p, r, v128.load(TABLE_2, 64));
  p = madd(p, r, v128.load(TABLE_2, 80));
  p = madd(p, r, v128.load(TABLE_2, 96));
  p = madd(p, r, v128.load(TABLE_2, 112));
  return i32x4.add(p, i32x4.shl(t, 23));
}
