import { exp2 } from "./exp";
import { maxLanes, sumLanes } from "./simd";

/** The score of what is not seen, and the largest score before there is any. */
export const LOWEST: f32 = -3.4028234663852886e38;

/**
 * Scores of one query to weights as they come, in place (Milakov and Gimelshein 2018, arXiv
 * 1805.02867): 2^(score - the largest so far), zero from `visible` on.
 *
 * @param rowPtr   f32[4 * quads]: scores, in units of log 2
 * @param statePtr f32[2]: the largest score so far, the sum of weights so far; at first LOWEST and 0
 * @param visible  scores that count; at least 1 where there was none before
 * @param quads    of weights to write, at least those that `visible` needs
 * @returns what the sums of weighted values so far must be multiplied with
 */
export function softmax(rowPtr: usize, statePtr: usize, visible: u32, quads: u32): f32 {
  const end = rowPtr + (<usize>quads << 4);
  for (let p = rowPtr + (<usize>visible << 2); p < end; p += 4) store<f32>(p, LOWEST);
  // Two maxima, so that one need not wait for the other.
  let even = f32x4.splat(LOWEST), odd = even;
  let p = rowPtr;
  for (; p + 16 < end; p += 32) {
    even = f32x4.pmax(even, v128.load(p));
    odd = f32x4.pmax(odd, v128.load(p, 16));
  }
  if (p < end) even = f32x4.pmax(even, v128.load(p));
  const before = load<f32>(statePtr);
  const largest = max(before, maxLanes(f32x4.pmax(even, odd)));
  const shift = f32x4.splat(largest);
  let sum = f32x4.splat(0);
  for (p = rowPtr; p < end; p += 16) {
    const weight = exp2(f32x4.sub(v128.load(p), shift));
    v128.store(p, weight);
    sum = f32x4.add(sum, weight);
  }
  // What is not visible is in the sum by now with 1.2e-38 each; the sum over the scope is at least 1.
  for (p = rowPtr + (<usize>visible << 2); p < end; p += 4) store<f32>(p, 0);
  let factor: f32 = 1;
  if (largest > before) {
    factor = f32x4.extract_lane(exp2(f32x4.splat(before - largest)), 0);
    store<f32>(statePtr, largest);
  }
  store<f32>(statePtr, load<f32>(statePtr, 4) * factor + sumLanes(sum), 4);
  return factor;
}
