/**
 * Whether we and native llama.cpp expect the same of the same file.
 *
 * @module
 */

import type { LlamaCpp } from "../../bench/peers/llama_cpp.ts";
import type { Format } from "../../bench/support/quantize.ts";
import { type NamedShape, writeSyntheticModel } from "../../bench/synthetic_model.ts";
import { argmax } from "../../src/llama/sampler.ts";
import { divergence, logitsOf } from "./logits.ts";
import { integers } from "./random.ts";

/** Positions that are compared: the last ones of a text. */
export const POSITIONS = 200;
/** Tokens of a text five times as long as what positions are scaled from. */
export const LONG_TEXT = 700;

/** The formats that are compared. */
export const FORMATS: readonly Format[] = [
  "f16",
  "bf16",
  "q8_0",
  "q6_k",
  "q5_k",
  "q5_1",
  "q5_0",
  "q4_k",
  "q4_1",
  "q4_0",
];

/**
 * The most nats by which the two may be apart on the average: with f16 both multiply what was rounded
 * to half precision, with blocks what was rounded to int8, in other groups.
 */
export function mostDivergence(format: Format): number {
  return format === "f16" ? 1e-4 : 1e-3;
}

/** How near two expectations are, at {@linkcode POSITIONS} positions. */
export interface Agreement {
  /** Kullback and Leibler's divergence, in nats: its mean, and the largest. */
  readonly mean: number;
  readonly largest: number;
  /** Positions at which the likeliest token is the same. */
  readonly same: number;
  /**
   * Positions whose likeliest token leads by more than rounding can make up for, and those of them at
   * which it is the same. A divergence is half of the variance of the logits' differences; the lead is
   * four deviations of the difference of two.
   */
  readonly clear: number;
  readonly sameOfClear: number;
}

/** Writes a model of a shape in a format, and lets both read a text of as many tokens. */
export async function agreementOf(
  llamaCpp: LlamaCpp,
  shape: NamedShape,
  format: Format,
  { folder, length }: { readonly folder: string; readonly length: number },
): Promise<Agreement> {
  const path = await writeSyntheticModel({
    shape,
    format,
    container: "gguf",
    folder,
    outputNorm: 1,
  });
  await llamaCpp.load(path);
  const tokens = Array.from(integers(length, length, 150), (x) => 150 + x);
  const theirs = await llamaCpp.logits(tokens, POSITIONS);
  const ours = await logitsOf(path, tokens, POSITIONS);
  const lead = 4 * Math.SQRT2 * Math.sqrt(2 * mostDivergence(format));
  let [sum, largest, same, clear, sameOfClear] = [0, 0, 0, 0, 0];
  for (const [i, expected] of theirs.entries()) {
    const apart = divergence(expected, ours[i]!);
    sum += apart;
    largest = Math.max(largest, apart);
    const isSame = argmax(expected) === argmax(ours[i]!);
    same += +isSame;
    const [first, second] = [...expected].sort((a, b) => b - a);
    if (first! - second! < lead) continue;
    clear++;
    sameOfClear += +isSame;
  }
  return { mean: sum / theirs.length, largest, same, clear, sameOfClear };
}
