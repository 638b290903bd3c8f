/**
 * Rotary position embedding: one table of inverse frequencies for all backends, and how models
 * stretch it to texts beyond those they were first trained on.
 *
 * Keys are cached unrotated, so a scaling is never stored with them: it is data of the
 * {@linkcode Rope} that a call rotates with. linear, llama3 and yarn change the table once and for
 * all; their models were trained with it, and it holds for a renumbered scope as for a whole text.
 * Dynamic NTK leaves the table as it was trained and bends it only while more positions are in use
 * than the training had: see {@linkcode ropeFor}.
 *
 * @module
 */

/**
 * Inverse frequencies of the rotation. Pair `i` is (x[i], x[i + headDim / 2]), the half-split order
 * of Hugging Face's Llama; position `p` turns it by the angle `p * inverseFrequencies[i]`.
 */
export interface Rope {
  /** f32[headDim / 2] */
  readonly inverseFrequencies: Float32Array;
  /**
   * What rotated queries and rotated keys are both multiplied by: yarn's temperature. Selection
   * compares what is not rotated, and only by order, so that it is the same with any. Default 1.
   */
  readonly attentionFactor?: number;
  /** What bends the table when positions pass the trained length. Absent: nothing does. */
  readonly dynamic?: DynamicNtk;
}

/** Dynamic NTK, as in Hugging Face's library: the base grows with the positions in use. */
export interface DynamicNtk {
  readonly theta: number;
  readonly factor: number;
  /** Positions up to which nothing is bent. */
  readonly originalLength: number;
}

/** How a model's rotary frequencies differ from the plain table. Lengths are tokens. */
export type RopeScaling =
  /** All frequencies divided by `factor`. Chen et al. 2023 (arXiv 2306.15595). */
  | { readonly type: "linear"; readonly factor: number }
  /** Llama 3.1's: low frequencies are divided, high ones kept, those between are blended. */
  | {
    readonly type: "llama3";
    readonly factor: number;
    /** Turns in `originalLength` below which a frequency is low. */
    readonly lowFrequencyFactor: number;
    /** Turns in `originalLength` above which a frequency is high. */
    readonly highFrequencyFactor: number;
    readonly originalLength: number;
  }
  /** Peng et al. 2023 (arXiv 2309.00071): blended by dimension, and a temperature. */
  | {
    readonly type: "yarn";
    readonly factor: number;
    readonly originalLength: number;
    /** Turns in `originalLength` above which a frequency is kept. Default 32. */
    readonly betaFast?: number;
    /** Turns in `originalLength` below which a frequency is divided. Default 1. */
    readonly betaSlow?: number;
    /** Default 0.1 ln(factor) + 1. */
    readonly attentionFactor?: number;
  }
  /** Dynamic NTK: {@linkcode DynamicNtk}. */
  | { readonly type: "dynamic"; readonly factor: number; readonly originalLength: number }
  /** A divisor for each frequency, [headDim / 2]: GGUF's tensor `rope_freqs.weight`. */
  | { readonly type: "factors"; readonly factors: readonly number[] };

/**
 * The table `theta ^ (-2 i / headDim)`, Su et al. 2021 (arXiv 2104.09864), section 3.4.2; scaled if
 * the model's is.
 *
 * @param theta The base, e.g. 10000.
 * @param headDim Values per head; even.
 * @throws {RangeError} If `factors` are not one for each pair.
 *
 * @example Usage
 * ```ts
 * import { createRope } from "./rope.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(createRope(10000, 4).inverseFrequencies, new Float32Array([1, 0.01]));
 * const halved = createRope(10000, 4, { type: "linear", factor: 2 });
 * deepEqual(halved.inverseFrequencies, new Float32Array([0.5, 0.005]));
 * ```
 */
export function createRope(theta: number, headDim: number, scaling?: RopeScaling): Rope {
  const plain = Array.from({ length: headDim >> 1 }, (_, i) => theta ** (-2 * i / headDim));
  const inverseFrequencies = Float32Array.from(scale(plain, theta, headDim, scaling));
  if (scaling?.type === "yarn") {
    const { factor, attentionFactor = yarnTemperature(factor) } = scaling;
    return { inverseFrequencies, attentionFactor };
  }
  if (scaling?.type === "dynamic") {
    const { factor, originalLength } = scaling;
    return { inverseFrequencies, dynamic: { theta, factor, originalLength } };
  }
  return { inverseFrequencies };
}

/** What yarn multiplies rotated queries and keys by where the model does not say: 0.1 ln(s) + 1. */
export function yarnTemperature(factor: number): number {
  return factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1;
}

/**
 * The rope of a call that has so many positions: `rope` itself, unless dynamic NTK is in force.
 *
 * It is in force only for full attention (or a window at true positions) beyond the trained length.
 * A renumbered scope of at most the trained length never has a position that the training had not,
 * however long the text is, and the training was with the plain table: so there ReAttention reads
 * with that, and a model with dynamic NTK is read as one without. Since cached keys are unrotated,
 * a call beyond rotates all of them with its own base; it is what the makers' code computes for a
 * text that is read in one step. (Read in several, theirs keeps keys rotated with older bases.)
 *
 * @param positions Positions are 0..positions - 1.
 */
export function ropeFor(rope: Rope, positions: number): Rope {
  const { dynamic } = rope;
  if (dynamic === undefined || positions <= dynamic.originalLength) return rope;
  const { theta, factor, originalLength } = dynamic;
  const headDim = rope.inverseFrequencies.length * 2;
  const stretch = factor * positions / originalLength - (factor - 1);
  // The lowest frequency is divided by `stretch`, the highest is kept. One pair alone is both.
  const base = headDim === 2 ? theta : theta * stretch ** (headDim / (headDim - 2));
  return createRope(base, headDim);
}

function scale(
  plain: readonly number[],
  theta: number,
  headDim: number,
  scaling: RopeScaling | undefined,
): readonly number[] {
  switch (scaling?.type) {
    case undefined:
    case "dynamic":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "factors": {
      const { factors } = scaling;
      if (factors.length !== plain.length) {
        throw new RangeError(
          `Cannot scale the rope: there must be a factor for each of ${plain.length} pairs, got ${factors.length}`,
        );
      }
      return plain.map((frequency, i) => frequency / factors[i]!);
    }
    case "llama3": {
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
      return plain.map((frequency) => {
        const turns = scaling.originalLength * frequency / (2 * Math.PI);
        const kept = clamp((turns - low) / (high - low));
        return kept * frequency + (1 - kept) * frequency / factor;
      });
    }
    case "yarn": {
      const { factor, originalLength, betaFast = 32, betaSlow = 1 } = scaling;
      // The pair whose frequency makes so many turns in the original length.
      const pairOf = (turns: number) =>
        headDim * Math.log(originalLength / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
      const first = Math.max(0, Math.floor(pairOf(betaFast)));
      const last = Math.min(headDim - 1, Math.ceil(pairOf(betaSlow)));
      return plain.map((frequency, i) => {
        const divided = clamp((i - first) / Math.max(0.001, last - first));
        return (1 - divided) * frequency + divided * frequency / factor;
      });
    }
  }
}

function clamp(x: number): number {
  return Math.min(1, Math.max(0, x));
}
