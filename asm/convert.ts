/**
 * 16-bit floats in memory, f32 in registers.
 */

/** How numbers are stored. The same values as in src/backend/wasm/memory.ts. */
export const enum Format {
  F32 = 0,
  F16 = 1,
  BF16 = 2,
}

// [0] sign, exponent and mantissa of an f16 that was sign-extended to 32 bits and shifted left by 13
// [1] 2^112: what is missing in the exponent then   [2] the first f32 beyond f16   [3] infinity's bits
const DECODE: usize = memory.data<u32>([
  0x8fffe000, 0x8fffe000, 0x8fffe000, 0x8fffe000,
  0x77800000, 0x77800000, 0x77800000, 0x77800000,
  0x47800000, 0x47800000, 0x47800000, 0x47800000,
  0x7f800000, 0x7f800000, 0x7f800000, 0x7f800000,
], 16);

/** Where the mask of {@link scaledF16} is, to be loaded once outside a loop. */
export const F16_MASK: usize = DECODE;

/** Where 2^112 is, which makes that the number itself. */
export const F16_FACTOR: usize = DECODE + 16;

/**
 * Four f16, sign-extended to lanes, as f32 times 2^-112, subnormals included; infinities and NaN come
 * out as if the numbers went on.
 */
// @ts-ignore: decorator
@inline
export function scaledF16(lanes: v128, mask: v128): v128 {
  return v128.and(i32x4.shl(lanes, 13), mask);
}

/** Four bf16, extended to lanes, as f32. */
// @ts-ignore: decorator
@inline
export function bf16(lanes: v128): v128 {
  return i32x4.shl(lanes, 16);
}

/** Four f16 at `ptr` as f32, subnormals included; infinities and NaN come out as 2^16 and more. */
// @ts-ignore: decorator
@inline
function loadFiniteF16x4(ptr: usize): v128 {
  return f32x4.mul(scaledF16(v128.load_ext<i16>(ptr), v128.load(DECODE)), v128.load(DECODE, 16));
}

/** Four f16 at `ptr` as f32, exactly. */
// @ts-ignore: decorator
@inline
export function loadF16x4(ptr: usize): v128 {
  const x = loadFiniteF16x4(ptr);
  const beyond = f32x4.ge(f32x4.abs(x), v128.load(DECODE, 32));
  return v128.or(x, v128.and(beyond, v128.load(DECODE, 48)));
}

/** Four bf16 at `ptr` as f32, exactly. */
// @ts-ignore: decorator
@inline
export function loadBf16x4(ptr: usize): v128 {
  return bf16(v128.load_ext<u16>(ptr));
}

/** Four f32 as f16 in the low halves of the lanes: nearest, ties to even; overflow is infinity. */
// @ts-ignore: decorator
@inline
function toF16x4(x: v128): v128 {
  const magnitude = v128.and(x, i32x4.splat(0x7fffffff));
  const sign = v128.xor(x, magnitude);
  // Below 2^-14: adding 0.5 leaves the subnormal's bits, rounded by the FPU, at the bottom.
  const half = i32x4.splat(0x3f000000);
  const subnormal = i32x4.sub(f32x4.add(magnitude, half), half);
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(
    i32x4.add(i32x4.add(magnitude, i32x4.splat(<i32>0xc8000fff)), odd),
    13,
  );
  let bits = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  const infinite = v128.bitselect(
    i32x4.splat(0x7e00),
    i32x4.splat(0x7c00),
    i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)),
  );
  bits = v128.bitselect(infinite, bits, i32x4.ge_s(magnitude, i32x4.splat(0x47800000)));
  return v128.or(bits, i32x4.shr_u(sign, 16));
}

/** Stores four f32 as f16 at `ptr`. */
// @ts-ignore: decorator
@inline
export function storeF16x4(ptr: usize, x: v128): void {
  const bits = toF16x4(x);
  v128.store64_lane(ptr, i16x8.narrow_i32x4_u(bits, bits), 0);
}

/**
 * f16 to f32, exactly.
 *
 * @param outPtr  f32[4 * quads]
 * @param halfPtr u16[4 * quads]
 */
export function decodeF16(outPtr: usize, halfPtr: usize, quads: u32): void {
  const mask = v128.load(DECODE), up = v128.load(DECODE, 16);
  const end = outPtr + (<usize>quads << 4);
  const pairsEnd = outPtr + (<usize>(quads & ~1) << 4);
  let out = outPtr, from = halfPtr;
  // Infinities and NaN are looked for eight at a time, since there are none: 1.8 times as fast.
  let largest = i16x8.splat(0);
  while (out < pairsEnd) {
    largest = i16x8.max_u(largest, i16x8.shl(v128.load(from), 1));
    v128.store(out, f32x4.mul(scaledF16(v128.load_ext<i16>(from), mask), up));
    v128.store(out, f32x4.mul(scaledF16(v128.load_ext<i16>(from, 8), mask), up), 16);
    out += 32;
    from += 16;
  }
  if (out < end) v128.store(out, loadF16x4(from));
  if (!v128.any_true(i16x8.ge_u(largest, i16x8.splat(<i16>0xf800)))) return;
  for (out = outPtr, from = halfPtr; out < end; out += 16, from += 8) {
    v128.store(out, loadF16x4(from));
  }
}

/** Four numbers of any format at `ptr`, as f32. */
// @ts-ignore: decorator
@inline
export function load4(ptr: usize, format: i32): v128 {
  if (format == Format.F16) return loadF16x4(ptr);
  if (format == Format.BF16) return loadBf16x4(ptr);
  return v128.load(ptr);
}

/** Bytes of one number. */
// @ts-ignore: decorator
@inline
export function widthOf(format: i32): usize {
  return format == Format.F32 ? 4 : 2;
}
