/**
 * How sure a mean is: 95 % intervals.
 *
 * @module
 */

import { seededRandom } from "./haystack.ts";

/** A mean of scores and the interval that holds the true one 95 times of 100. */
export interface Share {
  /** From 0 to 1; 0 where there is nothing. */
  readonly score: number;
  readonly n: number;
  readonly interval: readonly [low: number, high: number];
}

/** The two-sided 95 % quantile of the normal distribution. */
const Z = 1.959964;
/** Resamples of the bootstrap: their 2.5 % quantile is then good to a few thousandths of the spread. */
const RESAMPLES = 2000;
const BOOTSTRAP_SEED = 1;

/** Scores from which the bootstrap is used: fewer do not show their spread. */
const ENOUGH = 20;

/**
 * The mean of some scores: Wilson's interval where each is 0 or 1, else the bootstrap's percentiles
 * (seeded, so that the same scores give the same interval). Of fewer than 20 it is Wilson's in any
 * case, which is wide enough: scores between 0 and 1 scatter less than right and wrong do.
 *
 * @param scores From 0 to 1.
 *
 * @example Usage
 * ```ts
 * import { shareOf } from "./statistics.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const { score, interval } = shareOf([1, 1, 1, 1, 1]);
 * deepEqual([score, interval[0].toFixed(2), interval[1]], [1, "0.57", 1]);
 * ```
 */
export function shareOf(scores: readonly number[]): Share {
  const n = scores.length;
  if (n === 0) return { score: 0, n, interval: [0, 1] };
  const score = mean(scores);
  const isBinary = scores.every((value) => value === 0 || value === 1);
  return { score, n, interval: isBinary || n < ENOUGH ? wilson(score, n) : bootstrap(scores) };
}

/** The mean; NaN of nothing. */
export function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
}

/** Wilson 1927: of `n` trials the share `p` succeeded. */
function wilson(p: number, n: number): [number, number] {
  const middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n);
  const half = Z / (1 + Z * Z / n) * Math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
  // The edges are exact where rounding would pass them.
  return [p === 0 ? 0 : Math.max(0, middle - half), p === 1 ? 1 : Math.min(1, middle + half)];
}

/** Efron 1979: percentiles of the means of resamples. */
function bootstrap(scores: readonly number[]): [number, number] {
  const random = seededRandom(BOOTSTRAP_SEED);
  const means = Float64Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < scores.length; i++) sum += scores[random(scores.length)]!;
    return sum / scores.length;
  }).sort();
  return [means[Math.floor(RESAMPLES * 0.025)]!, means[Math.ceil(RESAMPLES * 0.975) - 1]!];
}
