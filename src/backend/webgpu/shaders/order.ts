/**
 * Scores as integers of the same order, so that they can be ranked by their bits. Nothing has 0.
 *
 * @module
 */

/** `ordered(x)`, and `unordered(bits)`, which gives x back. Both zeros are one. */
export const ORDER = `
fn ordered(x: f32) -> u32 {
  let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn unordered(bits: u32) -> f32 {
  return bitcast<f32>(select(~bits, bits & 0x7fffffffu, (bits >> 31u) == 1u));
}`;
