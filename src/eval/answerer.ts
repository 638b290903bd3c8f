/**
 * What answers cases: a model by a method; servers are in `server.ts`.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import { StopStrings } from "../llama/stop_strings.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import { TokenDecoder } from "../text/token_decoder.ts";
import type { EvalCase } from "./case.ts";
import type { Method } from "./methods.ts";
import { concatenate, encodeContext, encodeOpening, encodeQuestion } from "./prompt.ts";
import {
  type CacheOptions,
  costOf,
  openSequence,
  readTokens,
  withoutUnfelt,
  writeAnswer,
} from "./sequence.ts";
import { SharedReading } from "./shared_reading.ts";

/** How an answer is watched and ended. */
export interface AnswerOptions {
  readonly signal?: AbortSignal;
  /** Told as the reading goes on: tokens so far. */
  readonly onRead?: (tokens: number) => Promise<void>;
}

/** What came of a case. */
export interface Answered {
  readonly prediction: string;
  /** Tokens of context and question. */
  readonly tokens: number;
  /** In the place of the case's own. */
  readonly score?: number;
  /** Further fields of the row. */
  readonly more?: Readonly<Record<string, number>>;
}

/** A model by a method, or a server. One case at a time. */
export interface Answerer extends Disposable {
  /** As rows have it. */
  readonly name: string;
  /** Whether every token reads all before it, which takes long. */
  readonly isFull?: boolean;
  /** What a case costs relative to others, for the time left; `before` is the one before it. */
  cost(task: EvalCase, before: EvalCase | null): number;
  /** @throws {Error} If there can be no answer; the row says why. */
  answer(task: EvalCase, options?: AnswerOptions): Promise<Answered>;
}

/** How a model answers. */
export interface ModelAnswererOptions extends CacheOptions {
  /** Leaves question forms and chat template out: prompts are read word for word. */
  readonly raw?: boolean;
}

/**
 * A model that answers by a method. Cases whose texts differ in a few stretches alone are answered
 * from one reading where the method reads locally: see {@linkcode SharedReading}.
 *
 * @param model Stays the caller's.
 */
export function modelAnswerer(
  model: Model,
  method: Method,
  options: ModelAnswererOptions = {},
): Answerer {
  const { raw: allRaw = false, ...cacheOptions } = options;
  const shared = new SharedReading(model, method, cacheOptions);
  const write = async (cache: KvCache, task: EvalCase, signal?: AbortSignal) => {
    const { tokens, stop: rules } = encodeQuestion(model, task, allRaw || task.raw === true);
    const stop = new StopStrings(rules);
    const decoder = new TokenDecoder(model.tokenizer, { continuation: true });
    const { maxTokens } = task;
    let prediction = "";
    let isOver = false;
    for await (const token of writeAnswer(model, method, cache, tokens, { maxTokens, signal })) {
      const { text, stopped } = stop.push(decoder.push(token));
      prediction += text;
      isOver = stopped || (task.settled?.(prediction) ?? false);
      if (isOver) break;
    }
    if (!isOver) {
      const { text, stopped } = stop.push(decoder.flush());
      prediction += stopped ? text : text + stop.flush();
    }
    return { prediction, question: tokens.length };
  };
  return {
    name: method.name,
    isFull: method.scope.globalSize === Infinity,
    cost: (task, before) => costOf(method, task, before),
    async answer(task, { signal, onRead } = {}): Promise<Answered> {
      const opening = encodeOpening(model, allRaw || task.raw === true);
      const fork = task.shared && await shared.open(task.shared, opening, { signal, onRead });
      if (fork) {
        using cache = fork;
        const { prediction, question } = await write(cache, task, signal);
        return { prediction, tokens: shared.length + question };
      }
      if (!task.shared || !shared.holds(task.shared.base)) shared.close();
      using sequence = openSequence(model, method, cacheOptions);
      const text = task.shared
        ? concatenate([opening, await patched(task.shared)])
        : await encodeContext(model, task.context(), allRaw || task.raw === true);
      const felt = withoutUnfelt(text, method, model.config.numLayers);
      await readTokens(model, method, sequence.cache, felt, { signal, onRead });
      const { prediction, question } = await write(sequence.cache, task, signal);
      return { prediction, tokens: text.length + question };
    },
    [Symbol.dispose]: () => shared.close(),
  };
}

/** A shared text's tokens with its patches in them. */
async function patched({ base, patches }: NonNullable<EvalCase["shared"]>): Promise<Uint32Array> {
  const tokens = (await base.tokens()).slice();
  for (const patch of patches(tokens)) tokens.set(patch.tokens, patch.start);
  return tokens;
}
