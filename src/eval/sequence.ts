/**
 * Reading and writing by a method, token by token: what a session does, on a cache that evaluations
 * may also share, skip in and patch.
 *
 * @module
 */

import type { Tensor } from "../backend/backend.ts";
import { breathe } from "../llama/breath.ts";
import type { Model } from "../llama/load.ts";
import { nextToken } from "../llama/next_token.ts";
import { createSampler } from "../llama/sampler.ts";
import { openCache } from "../llama/session_memory.ts";
import type { SessionOptions } from "../llama/session_options.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import { type EvalCase, lengthOf } from "./case.ts";
import type { Method } from "./methods.ts";
import { concatenate } from "./prompt.ts";

/** How reading is watched and ended. */
export interface ReadOptions {
  readonly signal?: AbortSignal;
  /** Told as the reading goes on: tokens so far. */
  readonly onRead?: (tokens: number) => Promise<void>;
}

/** What a cache may hold, as for sessions. */
export type CacheOptions = Pick<SessionOptions, "kvFormat" | "cacheBytes" | "spill" | "forget">;

/** The likeliest token. */
const greedy = createSampler();

/** An empty cache, and what goes with it. */
export function openSequence(
  model: Model,
  method: Method,
  options: CacheOptions,
): { readonly cache: KvCache } & Disposable {
  const { cache, spill } = openCache(model, options, method.scope);
  return {
    cache,
    [Symbol.dispose]() {
      cache[Symbol.dispose]();
      spill?.[Symbol.dispose]();
    },
  };
}

/**
 * Reads tokens, in steps; selects in each where the method always does.
 *
 * @param tokens At least none; the last step may be shorter.
 * @throws {OutOfMemoryError} If the cache cannot grow.
 */
export async function readTokens(
  model: Model,
  method: Method,
  cache: KvCache,
  tokens: Uint32Array,
  { signal, onRead }: ReadOptions = {},
): Promise<void> {
  const { stepSize } = method;
  const selects = method.select === "always";
  for (let at = 0; at < tokens.length; at += stepSize) {
    await step(model, method, cache, tokens.subarray(at, at + stepSize), selects);
    await model.backend.sync();
    await breathe(signal);
    await onRead?.(cache.length);
  }
}

/**
 * Reads a question in a step of its own, its last token in another, and writes on: the likeliest
 * token each time, until one that ends a text.
 *
 * A question longer than the local region would not see its own beginning: what is too much of it is
 * read as text.
 */
export async function* writeAnswer(
  model: Model,
  method: Method,
  cache: KvCache,
  question: Uint32Array,
  { maxTokens, signal }: { readonly maxTokens: number; readonly signal?: AbortSignal },
): AsyncGenerator<number> {
  const { backend, llama } = model;
  const { scope, stepSize, select } = method;
  const selects = select !== "never";
  const most = scope.globalSize === Infinity
    ? question.length
    : Math.max(scope.localSize, stepSize);
  const early = Math.max(0, question.length - most);
  await readTokens(model, method, cache, question.subarray(0, early), { signal });
  const last = question.length - 1;
  if (last > early) {
    await step(model, method, cache, question.subarray(early, last), selects);
    await backend.sync();
  }
  using logits = backend.tensor(1, llama.config.vocabSize);
  let token = question[last]!;
  for (let written = 0; written < maxTokens; written++) {
    signal?.throwIfAborted();
    await step(model, method, cache, Uint32Array.of(token), selects, logits);
    token = await nextToken(backend, logits, greedy);
    if (model.endTokens.includes(token)) return;
    await breathe(signal);
    yield token;
  }
}

/** Of the embedded model's, what a case costs that shares the text of the one before. */
const SHARED_COST = 0.02;
/** Tokens with which a read of everything costs twice as much each, and a selection at each step. */
const FULL_DOUBLES = 4096;
const ALWAYS_DOUBLES = 32_768;

/** In tokens that are read with a finite scope; what is not known has one. */
export function costOf({ scope, select }: Method, task: EvalCase, before: EvalCase | null): number {
  const length = lengthOf(task);
  if (scope.globalSize === Infinity) return length * (1 + length / FULL_DOUBLES);
  if (select === "always") return length * (1 + length / ALWAYS_DOUBLES);
  const base = task.shared?.base;
  const isShared = base !== undefined && base === before?.shared?.base;
  return isShared || select === "never" ? SHARED_COST * length : length;
}

/**
 * What of a text a window can feel at its end: the global tokens and the last ones, `layers` local
 * regions of them. Positions are renumbered, so that the answer is, to the last bit, the one after
 * reading everything; steps are cut where they would be. All of it by any other method.
 */
export function withoutUnfelt(
  tokens: Uint32Array,
  { scope, stepSize, select }: Method,
  numLayers: number,
): Uint32Array {
  const isWindow = select === "never" && scope.globalSize !== Infinity &&
    scope.positions === "scope";
  const steps = (count: number) => Math.ceil(count / stepSize) * stepSize;
  const first = steps(Math.max(1, scope.globalSize));
  const reach = steps(numLayers * Math.max(scope.localSize, stepSize) + stepSize);
  const from = Math.floor((tokens.length - reach) / stepSize) * stepSize;
  if (!isWindow || from <= first) return tokens;
  return concatenate([tokens.subarray(0, first), tokens.subarray(from)]);
}

/** @param logits What the model expects after the last token, [1, vocabSize]; null if nobody wants it. */
async function step(
  { llama }: Model,
  { scope, selectLayers, rope }: Method,
  cache: KvCache,
  tokens: Uint32Array,
  selects: boolean,
  logits: Tensor | null = null,
): Promise<void> {
  await llama.inTurn(async () => {
    const wantsHidden = logits !== null;
    const options = { scope, selects, selectLayers, wantsHidden, rope };
    const hidden = await llama.forward(tokens, cache, options);
    if (logits) llama.logits(logits, hidden);
  });
}
