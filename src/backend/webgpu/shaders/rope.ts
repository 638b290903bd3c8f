/**
 * Rotary positions. Pair i is (x[i], x[i + headDim / 2]); the angle of position p is split, p = 256 c + f, so
 * that two small tables serve any length:
 *
 *     cos(a + b) = cos a cos b - sin a sin b,   sin(a + b) = sin a cos b + cos a sin b
 *
 *     angles = f32[256 fine, then coarse ones][headDim / 2]: cosine, sine
 *
 * @module
 */

/** Positions per coarse row: src/backend/webgpu/rotary.ts. */
export const FINE = 256;

/** `angleOf(position, i)`: cosine and sine. Wants `angles` and `p.headDim`. */
export const ANGLE_OF = `
fn angleOf(position: u32, i: u32) -> vec2<f32> {
  let half = p.headDim / 2u;
  let b = angles[(position % ${FINE}u) * half + i];
  if (position < ${FINE}u) { return b; }
  let a = angles[(${FINE}u + position / ${FINE}u) * half + i];
  return vec2<f32>(fma(a.x, b.x, -(a.y * b.y)), fma(a.y, b.x, a.x * b.y));
}`;
