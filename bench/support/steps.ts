/**
 * Forward steps of a loaded model at a length of text, to be timed and taken apart.
 *
 * @module
 */

import type { Model } from "../../mod.ts";
import type { ScopeConfig } from "../../src/reattention/scope.ts";
import { KvCache } from "../../src/reattention/kv_cache.ts";
import { layerWeights, matrixSize, type Shape } from "../shapes.ts";
import type { Contestant } from "./contest.ts";
import { mulberry32 } from "../../src/llama/random.ts";
import type { Figure } from "./suite.ts";
import type { ProfiledBackend } from "./profile.ts";

/** One step. */
export interface Step {
  /** New tokens. */
  readonly tokens: number;
  readonly scope: ScopeConfig;
  readonly selects: boolean;
  /** Whether the next token's logits are computed and read, as when a token is generated. */
  readonly wantsLogits: boolean;
}

/** A model that has read so many tokens, all of them at random. */
export interface ReadModel extends Disposable {
  readonly model: Model;
  readonly cache: KvCache;
}

/** Reads a random text, without selection. */
export async function readTokens(
  model: Model,
  length: number,
  scope: ScopeConfig,
): Promise<ReadModel> {
  const { backend, llama, config } = model;
  const { numLayers, numHeads, numKvHeads, headDim } = config;
  const cache = new KvCache(backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }));
  const stepSize = 64;
  for (let start = 0; start < length; start += stepSize) {
    const tokens = randomTokens(model, Math.min(stepSize, length - start), start);
    await llama.forward(tokens, cache, { scope, selects: false, wantsHidden: false });
  }
  return { model, cache, [Symbol.dispose]: () => cache[Symbol.dispose]() };
}

/** Ids below the vocabulary's size. */
export function randomTokens(model: Model, count: number, seed: number): Uint32Array {
  const random = mulberry32(seed);
  return Uint32Array.from({ length: count }, () => Math.floor(random() * model.config.vocabSize));
}

/** A step from the same state each time: what it added is forgotten again. */
export function stepContestant(read: ReadModel, step: Step, name: string): Contestant {
  const { model: { backend, llama, config }, cache } = read;
  const { length } = cache;
  const tokens = randomTokens(read.model, step.tokens, 7);
  const out = backend.tensor(1, config.vocabSize);
  backend.write(out, new Float32Array(config.vocabSize).fill(NaN));
  let logits: Float32Array | null = null;
  return {
    name,
    async run() {
      const hidden = await llama.forward(tokens, cache, {
        scope: step.scope,
        selects: step.selects,
        wantsHidden: step.wantsLogits,
      });
      if (step.wantsLogits) {
        llama.logits(out, backend.rows(hidden, step.tokens - 1, step.tokens));
        logits = await backend.read(out);
      } else await backend.sync();
      cache.truncate(length);
    },
    check() {
      if (logits?.some(Number.isNaN)) {
        throw new Error("a logit is not a number");
      }
    },
    dispose: () => out[Symbol.dispose](),
  };
}

/** Floating-point operations of a step's matrices; attention's are left out. */
export function matmulOperations(shape: Shape, step: Omit<Step, "scope" | "selects">): number {
  // A step that is only read ends with the keys and values of the last layer.
  const { rows, cols } = matrixSize(shape, "k");
  const layers = step.wantsLogits
    ? shape.numLayers * layerWeights(shape)
    : (shape.numLayers - 1) * layerWeights(shape) + 2 * rows * cols;
  const head = step.wantsLogits ? shape.vocabSize * shape.hiddenSize : 0;
  return 2 * (layers * step.tokens + head);
}

/** Each verb's share of a step's time, the largest first, and what is left beside them. */
export async function profileStep(
  { milliseconds, reset }: ProfiledBackend,
  contestant: Contestant,
  name: string,
  threads: number,
): Promise<Figure[]> {
  const repeat = async (atLeast: number) => {
    const start = performance.now();
    let calls = 0;
    while (performance.now() - start < atLeast || calls < 1) {
      await contestant.run();
      calls++;
    }
    return performance.now() - start;
  };
  await repeat(100);
  reset();
  const total = await repeat(300);
  const verbs = [...milliseconds].sort(([, a], [, b]) => b - a);
  const rest = verbs.reduce((left, [, ms]) => left - ms, total);
  return [...verbs, ["between the verbs", rest] as const].map(([part, ms]) => ({
    name: `${name}: ${part}`,
    threads,
    value: 100 * ms / total,
    unit: "%",
    share: { of: name, part },
  }));
}
