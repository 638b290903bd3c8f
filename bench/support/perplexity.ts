/**
 * Negative log-likelihoods of a text's tokens by several methods, over the same tokens.
 *
 * @module
 */

import type { Model } from "../../src/llama/load.ts";
import { KvCache } from "../../src/reattention/kv_cache.ts";
import { fitScope, FULL_ATTENTION, type ScopeConfig } from "../../src/reattention/scope.ts";

/** A method's result. */
export interface Perplexity {
  readonly method: string;
  /** What each scored token could read. */
  readonly context: string;
  readonly perplexity: number;
}

/** -ln p of each token from `from` on, after reading those before it. */
export async function negativeLogLikelihoods(
  model: Model,
  tokens: Uint32Array,
  from: number,
  options: { readonly scope: ScopeConfig; readonly stepSize: number },
): Promise<number[]> {
  const { backend, llama, config } = model;
  const { numLayers, numHeads, numKvHeads, headDim, vocabSize } = config;
  using cache = new KvCache(
    backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }),
  );
  using out = backend.tensor(options.stepSize, vocabSize);
  const losses: number[] = [];
  for (let start = 0; start < tokens.length - 1; start += options.stepSize) {
    const end = Math.min(tokens.length - 1, start + options.stepSize);
    const wantsHidden = end >= from;
    const hidden = llama.forward(tokens.slice(start, end), cache, {
      scope: options.scope,
      selects: true,
      wantsHidden,
    });
    if (!wantsHidden) continue;
    const logits = backend.rows(out, 0, end - start);
    llama.logits(logits, hidden);
    const values = await backend.read(logits);
    for (let t = Math.max(from, start + 1); t <= end; t++) {
      const row = values.subarray(
        (t - 1 - start) * vocabSize,
        (t - start) * vocabSize,
      );
      let greatest = -Infinity;
      for (const value of row) greatest = Math.max(greatest, value);
      let sum = 0;
      for (const value of row) sum += Math.exp(value - greatest);
      losses.push(Math.log(sum) + greatest - row[tokens[t]!]!);
    }
  }
  return losses;
}

/**
 * The last `scored` tokens of a text by four methods.
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
  const methods: readonly (readonly [string, ScopeConfig, number, Uint32Array])[] = [
    ["ReAttention, selection always", scope, stepSize, whole],
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
  ];
  for (const [method, scope, stepSize, context] of methods) {
    const count = Math.min(scored, context.length >> 1);
    const losses = await negativeLogLikelihoods(
      model,
      context,
      context.length - count,
      {
        scope,
        stepSize,
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
