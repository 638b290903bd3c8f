/**
 * Perplexity by position: how well tokens are expected that stand far into a text, by methods side by
 * side, over the same tokens.
 *
 * @module
 */

import { negativeLogLikelihoods } from "../llama/likelihood.ts";
import type { Model } from "../llama/load.ts";
import type { Answered, Answerer, AnswerOptions } from "./answerer.ts";
import type { EvalCase } from "./case.ts";
import type { HaystackSource } from "./haystack_source.ts";
import type { Method } from "./methods.ts";
import { concatenate, encodeOpening } from "./prompt.ts";
import { type CacheOptions, costOf, openSequence, readTokens, withoutUnfelt } from "./sequence.ts";
import { mean } from "./statistics.ts";

/** Which tokens count. */
export interface PerplexityPlan {
  /** Positions from which tokens count. */
  readonly positions: readonly number[];
  /** Tokens that count at each. */
  readonly scored: number;
  /** Stretches of the text, each from another place where it is long enough. */
  readonly repeats: number;
  readonly seed: number;
}

/** A position of a stretch; the text that it stands in is as long as the whole plan needs. */
interface PerplexityCase extends EvalCase {
  readonly at: { readonly length: number; readonly scored: number; readonly repeat: number };
}

/** Tokens of a stretch: what a row depends on besides its id and the seed. */
export function stretchLength({ positions, scored }: PerplexityPlan): number {
  return Math.max(...positions) + scored;
}

/** A case for each position of each stretch, positions ascending: one reading passes them all. */
export function createPerplexityCases(plan: PerplexityPlan): PerplexityCase[] {
  const positions = [...new Set(plan.positions)].sort((a, b) => a - b);
  return Array.from(
    { length: plan.repeats },
    (_, repeat) =>
      positions.map((position): PerplexityCase => ({
        id: `perplexity/${position}/${repeat}`,
        task: "perplexity",
        at: { length: position, scored: plan.scored, repeat },
        context: () => [],
        question: "",
        answerPrefix: "",
        maxTokens: 0,
        expected: [],
        score: () => 0,
      })),
  ).flat();
}

/**
 * A model that measures its own expectations by a method.
 *
 * One that selects for questions alone reads by global and local tokens up to a position and selects
 * for the tokens that count; from there it reads on as if these had not been. One that always
 * selects, or never, reads all in one way. Rows have `nll`, the mean of -ln p in nats a token, and
 * `perplexity`; their score is 1 / perplexity.
 *
 * @param model Stays the caller's.
 */
export function perplexityAnswerer(
  model: Model,
  method: Method,
  source: HaystackSource,
  plan: PerplexityPlan,
  options: CacheOptions,
): Answerer {
  const opening = encodeOpening(model, true);
  const { scope, stepSize, select, selectLayers, rope } = method;
  const { numLayers } = model.config;
  let reading: (ReturnType<typeof openSequence> & { readonly repeat: number }) | null = null;
  let text: Uint32Array = new Uint32Array(0);
  const close = () => {
    reading?.[Symbol.dispose]();
    reading = null;
  };
  return {
    name: method.name,
    isFull: scope.globalSize === Infinity,
    cost: (task, before) => costOf(method, task, before),
    async answer(task: EvalCase, { signal, onRead }: AnswerOptions = {}): Promise<Answered> {
      const { length: position, scored, repeat } = (task as PerplexityCase).at;
      // Whole steps, so that reading is the same whatever the positions are.
      const start = Math.floor((opening.length + position) / stepSize) * stepSize;
      const from = Math.max(1, opening.length + position - start);
      const end = opening.length + position + scored;
      if (reading?.repeat !== repeat) {
        const seed = plan.seed + repeat;
        text = concatenate([opening, await source.tokens(stretchLength(plan), seed)]);
      }
      const before = text.subarray(0, start);
      const felt = withoutUnfelt(before, method, numLayers);
      const goesOn = reading?.repeat === repeat && reading.cache.length <= start &&
        felt.length === start;
      if (!goesOn) {
        close();
        reading = Object.assign(openSequence(model, method, options), { repeat });
      }
      const { cache } = reading!;
      await readTokens(model, method, cache, felt.subarray(cache.length), { signal, onRead });
      using fork = cache.fork();
      const losses = await negativeLogLikelihoods(model, text.subarray(start, end), from, {
        scope,
        stepSize,
        selectLayers,
        selects: select !== "never",
        rope,
        cache: fork,
        signal,
      });
      const nll = mean(losses);
      return {
        prediction: "",
        tokens: end,
        score: Math.exp(-nll),
        more: { nll, perplexity: Math.exp(nll) },
      };
    },
    [Symbol.dispose]: close,
  };
}
