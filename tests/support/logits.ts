/**
 * What models expect next, and how far two expectations are apart.
 *
 * @module
 */

import type { Backend } from "../../src/backend/backend.ts";
import { openBackend } from "../../src/backend/open.ts";
import { Llama } from "../../src/llama/llama.ts";
import { type ModelSource, openModelFiles } from "../../src/llama/model_files.ts";
import { loadWeights } from "../../src/llama/weights.ts";
import { KvCache } from "../../src/reattention/kv_cache.ts";
import { createRope } from "../../src/reattention/rope.ts";
import { FULL_ATTENTION, type ScopeConfig } from "../../src/reattention/scope.ts";

/** How a text is read. */
export interface Reading {
  /** Default: full attention. */
  readonly scope?: ScopeConfig;
  /** Tokens a step. Default: all at once. */
  readonly stepSize?: number;
  /** Default: the wasm backend on one thread, opened for the call. */
  readonly backend?: Backend;
}

/** Logits f32[vocabSize] after each of the last tokens of a text. */
export async function logitsOf(
  source: ModelSource,
  tokens: readonly number[],
  last: number,
  reading: Reading = {},
): Promise<Float32Array[]> {
  const { scope = FULL_ATTENTION, stepSize = tokens.length } = reading;
  const files = await openModelFiles(source);
  const backend = reading.backend ?? await openBackend("wasm", { threads: 1 });
  try {
    const { config } = files;
    const weights = await loadWeights(backend, files.tensors, config);
    const rope = createRope(config.ropeTheta, config.headDim, config.ropeScaling);
    using llama = new Llama(backend, config, weights, rope);
    const { numLayers, numHeads, numKvHeads, headDim } = config;
    using cache = new KvCache(
      backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }, { format: "f32" }),
    );
    const rows: Float32Array[] = [];
    for (let start = 0; start < tokens.length; start += stepSize) {
      const step = Uint32Array.from(tokens.slice(start, start + stepSize));
      const hidden = await llama.forward(step, cache, { scope, selects: true, wantsHidden: true });
      using out = backend.tensor(step.length, config.vocabSize);
      llama.logits(out, hidden);
      const logits = await backend.read(out);
      for (let r = 0; r < step.length; r++) {
        rows.push(logits.slice(r * config.vocabSize, (r + 1) * config.vocabSize));
      }
    }
    return rows.slice(-last);
  } finally {
    await files.close();
    if (reading.backend === undefined) backend[Symbol.dispose]();
  }
}

/** Kullback and Leibler's divergence of the softmax of `logits` from that of `expected`, in nats. */
export function divergence(expected: Float32Array, logits: Float32Array): number {
  const normalizer = (values: Float32Array) => {
    const highest = Math.max(...values);
    return highest + Math.log(values.reduce((sum, x) => sum + Math.exp(x - highest), 0));
  };
  const [p, q] = [normalizer(expected), normalizer(logits)];
  return expected.reduce((sum, x, i) => sum + Math.exp(x - p) * (x - p - logits[i]! + q), 0);
}
