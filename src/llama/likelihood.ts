/**
 * How well a model expects a text: the measure behind perplexity.
 *
 * @module
 */

import { KvCache } from "../reattention/kv_cache.ts";
import type { Rope } from "../reattention/rope.ts";
import type { ScopeConfig } from "../reattention/scope.ts";
import { breathe } from "./breath.ts";
import type { SessionModel } from "./session_model.ts";

/** How the text is read. Every step selects, as in the paper, unless it is said otherwise. */
export interface LikelihoodOptions {
  readonly scope: ScopeConfig;
  /** Tokens read at once. */
  readonly stepSize: number;
  /** The layers that select. Default: all; none is a plain window. */
  readonly selectLayers?: readonly number[];
  /** Whether steps select. Default true. */
  readonly selects?: boolean;
  /** How keys and queries are rotated, where that is not the model's own way: for baselines. */
  readonly rope?: Rope;
  /** What was read before the tokens; they join it. Default: nothing. */
  readonly cache?: KvCache;
  /** Ends the reading after the current step. */
  readonly signal?: AbortSignal;
}

/** The most logits that are held at once: 16 MB, where a step of a large vocabulary would be more. */
const MAX_LOGITS = 1 << 22;

/**
 * -ln p of each token from `from` on, after reading those before it.
 *
 * @param tokens As they are read, with the token that begins a text where the model wants one.
 * @param from Index of the first token that counts, at least 1: nothing foretells the first.
 * @returns One number for each token from `from` on, in nats.
 * @throws {RangeError} If no token would count.
 */
export async function negativeLogLikelihoods(
  model: Pick<SessionModel, "llama" | "backend">,
  tokens: Uint32Array,
  from: number,
  options: LikelihoodOptions,
): Promise<number[]> {
  if (!Number.isSafeInteger(from) || from < 1 || from >= tokens.length) {
    throw new RangeError(
      `Cannot compute likelihoods: the first token that counts must be from 1 to ${
        tokens.length - 1
      } of ${tokens.length} tokens, got ${from}`,
    );
  }
  const { backend, llama } = model;
  const { scope, stepSize, selectLayers, selects = true, rope, signal } = options;
  const { numLayers, numHeads, numKvHeads, headDim, vocabSize } = llama.config;
  const rowsAtOnce = Math.min(stepSize, Math.max(1, Math.floor(MAX_LOGITS / vocabSize)));
  using own = options.cache === undefined
    ? new KvCache(backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }))
    : null;
  const cache = options.cache ?? own!;
  using out = backend.tensor(rowsAtOnce, vocabSize);
  const losses: number[] = [];
  for (let start = 0; start < tokens.length - 1; start += stepSize) {
    signal?.throwIfAborted();
    const end = Math.min(tokens.length - 1, start + stepSize);
    const wantsHidden = end >= from;
    await llama.inTurn(async () => {
      const hidden = await llama.forward(tokens.slice(start, end), cache, {
        scope,
        selects,
        selectLayers,
        wantsHidden,
        rope,
      });
      // Row t - 1 expects token t.
      for (let t = Math.max(from, start + 1); t <= end; t += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, end + 1 - t);
        const logits = backend.rows(out, 0, count);
        llama.logits(logits, backend.rows(hidden, t - 1 - start, t - 1 - start + count));
        const values = await backend.read(logits);
        for (let row = 0; row < count; row++) {
          losses.push(
            lossOf(values.subarray(row * vocabSize, (row + 1) * vocabSize), tokens[t + row]!),
          );
        }
      }
    });
    await breathe();
  }
  return losses;
}

/** -ln of a token's share in the softmax of `logits`, f32[vocabSize]. */
function lossOf(logits: Float32Array, token: number): number {
  let greatest = -Infinity;
  for (const value of logits) greatest = Math.max(greatest, value);
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - greatest);
  return Math.log(sum) + greatest - logits[token]!;
}
