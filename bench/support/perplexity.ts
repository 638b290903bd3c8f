/**
 * Perplexity within the trained length: what a model expects that never reads further than it was trained to.
 *
 * @module
 */

import { mean } from "../../src/eval/statistics.ts";
import { negativeLogLikelihoods } from "../../src/llama/likelihood.ts";
import type { Model } from "../../src/llama/load.ts";
import { FULL_ATTENTION } from "../../src/reattention/scope.ts";

/**
 * The last `scored` tokens of a text by ordinary attention, in windows of the trained length of which the second
 * half is scored: each token is expected from those before it, half the trained length at least.
 *
 * @param tokens Without a beginning-of-text token; one is put before each window.
 */
export async function perplexityWithin(
  model: Model,
  tokens: Uint32Array,
  scored: number,
): Promise<number> {
  const { config: { trainedLength }, tokenizer: { bosToken } } = model;
  const opening = bosToken === null ? [] : [bosToken];
  const half = trainedLength >> 1;
  const losses: number[] = [];
  for (let at = tokens.length - scored; at < tokens.length; at += half) {
    const end = Math.min(tokens.length, at + half);
    const start = Math.max(0, end - trainedLength + opening.length);
    const window = Uint32Array.from([...opening, ...tokens.subarray(start, end)]);
    losses.push(
      ...await negativeLogLikelihoods(model, window, window.length - (end - at), {
        scope: FULL_ATTENTION,
        stepSize: trainedLength,
      }),
    );
  }
  return Math.exp(mean(losses));
}
