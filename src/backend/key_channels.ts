/**
 * How the channels of keys are centred and weighed before they are cut to 15 bits: some channels of
 * real models lie far from zero or reach a hundred times farther than others, and one scale for all
 * would leave nothing of the small ones.
 *
 * Any choice is right, only not equally fine; so the first tokens of a sequence decide for all.
 *
 * @module
 */

/** Tokens' worth of the average channel that each channel's spread is mixed with. */
const PRIOR = 4;

/** f32[headDim] each: number = (key - centre) * weight. */
export interface KeyChannels {
  readonly centres: Float32Array;
  readonly weights: Float32Array;
  /** 1 / weight */
  readonly inverses: Float32Array;
}

/**
 * Centres on the mean and weighs by the spread.
 *
 * @param rows The first tokens' keys of one KV head. The very first is left out: it is a sink, unlike
 * all others. With it alone, or where numbers are not finite, channels stay as they are.
 * @param headDim Numbers of a key.
 */
export function channelsOf(rows: readonly Float32Array[], headDim: number): KeyChannels {
  const used = rows.slice(1);
  const means = new Float64Array(headDim);
  const squares = new Float64Array(headDim);
  for (const row of used) for (let d = 0; d < headDim; d++) means[d]! += row[d]! / used.length;
  for (const row of used) {
    for (let d = 0; d < headDim; d++) squares[d]! += (row[d]! - means[d]!) ** 2;
  }
  const average = squares.reduce((sum, square) => sum + square, 0) / headDim / used.length;
  const centres = new Float32Array(headDim);
  const weights = new Float32Array(headDim).fill(1);
  const inverses = new Float32Array(headDim).fill(1);
  if (used.length === 0 || !Number.isFinite(average)) return { centres, weights, inverses };
  centres.set(means);
  if (Math.fround(average) === 0) return { centres, weights, inverses };
  for (let d = 0; d < headDim; d++) {
    const spread = Math.sqrt((squares[d]! + PRIOR * average) / (used.length + PRIOR));
    weights[d] = 1 / spread;
    inverses[d] = 1 / weights[d]!;
  }
  return { centres, weights, inverses };
}

/** f32[3][width]: nothing centred, nothing weighed. */
export function plainChannels(width: number): Float32Array {
  return new Float32Array(3 * width).fill(1, width);
}
