/**
 * Perplexity of a text by several methods, over the same tokens.
 *
 * @module
 */

import { negativeLogLikelihoods } from "../../src/llama/likelihood.ts";
import type { Model } from "../../src/llama/load.ts";
import { resolveSelectLayers } from "../../src/llama/select_layers.ts";
import { fitScope, FULL_ATTENTION, type ScopeConfig } from "../../src/reattention/scope.ts";

/** A method's result. */
export interface Perplexity {
  readonly method: string;
  /** What each scored token could read. */
  readonly context: string;
  readonly perplexity: number;
}

/**
 * The last `scored` tokens of a text by five methods.
 *
 * @param tokens Without a beginning-of-text token; one is put before each context.
 */
export async function perplexities(
  model: Model,
  tokens: Uint32Array,
  scored: number,
): Promise<Perplexity[]> {
  const { config, profile, tokenizer } = model;
  const trained = config.trainedLength;
  const scope = profile?.scope ?? fitScope(trained);
  const stepSize = profile?.stepSize ?? 64;
  const bos = tokenizer.bosToken === null ? [] : [tokenizer.bosToken];
  const from = tokens.length - scored;
  const of = (losses: readonly number[]) =>
    Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length);
  const whole = Uint32Array.from([...bos, ...tokens]);

  // Ordinary attention in windows of the trained length, of which the second half is scored.
  const windowed: number[] = [];
  const half = trained >> 1;
  for (let at = from; at < tokens.length; at += half) {
    const end = Math.min(tokens.length, at + half);
    const window = Uint32Array.from([
      ...bos,
      ...tokens.subarray(Math.max(0, end - trained + 1), end),
    ]);
    windowed.push(
      ...await negativeLogLikelihoods(
        model,
        window,
        window.length - (end - at),
        {
          scope: FULL_ATTENTION,
          stepSize: trained,
        },
      ),
    );
  }
  const results: Perplexity[] = [{
    method: "ordinary attention within the trained length",
    context: `${half} to ${trained}`,
    perplexity: of(windowed),
  }];
  const { numLayers } = config;
  const selectLayers = resolveSelectLayers(profile?.selectLayers ?? "all", numLayers);
  const methods: readonly (readonly [string, ScopeConfig, number, Uint32Array, number[]?])[] = [
    [
      `ReAttention, always, ${selectLayers.length} of ${numLayers} layers`,
      scope,
      stepSize,
      whole,
      selectLayers,
    ],
    ["sinks + window (no selection)", { ...scope, topK: 0 }, stepSize, whole],
    [
      "full attention beyond the trained length",
      FULL_ATTENTION,
      stepSize,
      // Its cost grows with the square of the length, and 4096 tokens are far enough.
      Uint32Array.from([
        ...bos,
        ...tokens.subarray(Math.max(0, tokens.length - 4096)),
      ]),
    ],
    // The paper's; the same as the first where the profile does not choose.
    ["ReAttention, always, all layers", scope, stepSize, whole],
  ];
  for (const [method, scope, stepSize, context, selectLayers] of methods) {
    const count = Math.min(scored, context.length >> 1);
    const losses = await negativeLogLikelihoods(
      model,
      context,
      context.length - count,
      {
        scope,
        stepSize,
        selectLayers,
      },
    );
    results.push({
      method,
      context: `${context.length - count} to ${context.length}`,
      perplexity: of(losses),
    });
  }
  return results;
}
