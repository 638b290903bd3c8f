/**
 * Half a word as a number: what every kernel may use.
 *
 * @module
 */

const INTEGER = `
fn fromHalf(bits: u32) -> f32 {
  let magnitude = bits & 0x7fffu;
  // Subnormal numbers are multiples of 2^-24; infinity and NaN keep the largest exponent.
  let small = bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8);
  let normal = (magnitude << 13u) + select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u);
  return bitcast<f32>(select(normal, small, magnitude < 0x400u) | ((bits & 0x8000u) << 16u));
}
`;

/**
 * `fromHalf(bits)` and `fromHalves(word)`. The standard lets `unpack2x16float` take subnormal numbers for
 * zero, so where a device does (or nobody has tried) integers do it.
 */
export const HALVES: Readonly<Record<"native" | "integer", string>> = {
  native: INTEGER + `
fn fromHalves(word: u32) -> vec2<f32> { return unpack2x16float(word); }
`,
  integer: INTEGER + `
fn fromHalves(word: u32) -> vec2<f32> { return vec2<f32>(fromHalf(word & 0xffffu), fromHalf(word >> 16u)); }
`,
};

/**
 * `toHalf(x)`: the binary16 bits nearest to x; halfway goes to the even fraction. In integers, because
 * the standard leaves the rounding of `pack2x16float` open.
 */
export const TO_HALF = `
fn toHalf(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) { return sign | 0x7e00u; }
  if (size >= 0x477ff000u) { return sign | 0x7c00u; } // from 65520 on
  var rest: u32;
  var cut: u32;
  var half: u32;
  if (size < 0x38800000u) {
    // Below 2^-14: a multiple of 2^-24. The fraction with its leading 1, shifted by what is missing.
    let exponent = size >> 23u;
    if (exponent < 102u) { return sign; }
    let fraction = (size & 0x7fffffu) | 0x800000u;
    let shift = 126u - exponent; // 14 for 2^-14's neighbour, 24 for 2^-25
    half = fraction >> shift;
    rest = fraction & ((1u << shift) - 1u);
    cut = 1u << (shift - 1u);
  } else {
    half = (size - 0x38000000u) >> 13u;
    rest = size & 0x1fffu;
    cut = 0x1000u;
  }
  // A fraction that rounds up to the next exponent carries into it by itself.
  if (rest > cut || (rest == cut && (half & 1u) == 1u)) { half += 1u; }
  return sign | half;
}
`;
