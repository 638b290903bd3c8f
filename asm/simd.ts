/**
 * The few vector idioms that all kernels share. The only file that asks which build this is.
 */

/** Whether this build has relaxed SIMD. */
export const RELAXED: bool = ASC_FEATURE_RELAXED_SIMD;

/** a * b + c: fused where the engine's relaxed SIMD fuses, rounded twice otherwise. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

// [0] 1 + 2^-12   [1] -(1 + 2^-11): what is left of the square is below the last bit of a product
const SQUARE: usize = memory.data<u32>([
  0x3f800800, 0x3f800800, 0x3f800800, 0x3f800800,
  0xbf801000, 0xbf801000, 0xbf801000, 0xbf801000,
], 16);

/** Whether {@link madd} is fused here. */
// @ts-ignore: decorator
@inline
export function fuses(): bool {
  const root = v128.load(SQUARE);
  return v128.any_true(madd(root, root, v128.load(SQUARE, 16)));
}

/** c - a * b: fused where {@link madd} is. */
// @ts-ignore: decorator
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}

/** (v0 + v2) + (v1 + v3): the same order as {@link sumLanes4}, so that both give the same bits. */
// @ts-ignore: decorator
@inline
export function sumLanes(v: v128): f32 {
  const t = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(t, 0) + f32x4.extract_lane(t, 1);
}

/** The lane sums of four vectors. */
// @ts-ignore: decorator
@inline
export function sumLanes4(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 1, 4, 5), v128.shuffle<f32>(a, b, 2, 3, 6, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 1, 4, 5), v128.shuffle<f32>(c, d, 2, 3, 6, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 2, 4, 6), v128.shuffle<f32>(ab, cd, 1, 3, 5, 7));
}

/** The largest lane. */
// @ts-ignore: decorator
@inline
export function maxLanes(v: v128): f32 {
  const t = f32x4.pmax(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return max(f32x4.extract_lane(t, 0), f32x4.extract_lane(t, 1));
}
