/**
 * The Llama decoder: RMSNorm, grouped-query attention, SwiGLU. Touvron et al. 2023
 * (arXiv 2302.13971), with ReAttention in attention's place; and its relatives, which add biases to
 * projections or norms to the heads of queries and keys.
 *
 * @module
 */

import type { Backend, Tensor, Weight } from "../backend/backend.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import { type AttentionScope, reattend } from "../reattention/reattention.ts";
import type { Rope } from "../reattention/rope.ts";
import type { ScopeConfig } from "../reattention/scope.ts";
import type { LlamaConfig } from "./config.ts";
import { disposeWeights, type LlamaWeights } from "./weights.ts";

/** How one step is to be read. */
export interface StepOptions {
  readonly scope: ScopeConfig;
  /** Whether this step selects. */
  readonly selects: boolean;
  /** The layers that do, then; the others read their global and local tokens. Default: all. */
  readonly selectLayers?: readonly number[];
  /**
   * Whether the last layer's output is wanted. If not, that layer stores its keys and values and
   * stops: a step that is only read costs that much less.
   */
  readonly wantsHidden: boolean;
  /** How keys and queries are rotated, where that is not the model's own way: for baselines. */
  readonly rope?: Rope;
  /** Told after each layer's attention what it read. */
  readonly onAttention?: (layer: number, attention: AttentionScope) => void;
}

/** A step's activations, allocated for the longest step so far and reused by all. */
interface Activations {
  readonly rows: number;
  readonly hidden: Tensor; // [rows, hiddenSize]
  readonly normed: Tensor; // [rows, hiddenSize]
  readonly query: Tensor; // [rows, numHeads * headDim]
  readonly key: Tensor; // [rows, numKvHeads * headDim]
  readonly value: Tensor; // [rows, numKvHeads * headDim]
  readonly attended: Tensor; // [rows, numHeads * headDim]
  readonly gate: Tensor; // [rows, intermediateSize]
  readonly up: Tensor; // [rows, intermediateSize]
}

/** A model's weights on a backend. Sequences live in the {@linkcode KvCache}s that are handed in. */
export class Llama implements Disposable {
  /** The model's shape. */
  readonly config: LlamaConfig;
  readonly #backend: Backend;
  readonly #weights: LlamaWeights;
  readonly #rope: Rope;
  #activations: Activations | null = null;
  #lastTurn: Promise<unknown> = Promise.resolve();

  /** Takes over the weights; the backend stays the caller's. */
  constructor(backend: Backend, config: LlamaConfig, weights: LlamaWeights, rope: Rope) {
    this.#backend = backend;
    this.config = config;
    this.#weights = weights;
    this.#rope = rope;
  }

  /**
   * Does some work once all that came before it here is done: steps share the model's activations, and may wait, so
   * that sequences which are read side by side take turns.
   */
  async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(work);
    this.#lastTurn = turn.catch(() => {});
    return await turn;
  }

  /**
   * Reads one step of tokens, in all layers, and advances the cache by them. Waits where values are spilled from a
   * device: where others use the model, too, it is for {@linkcode Llama.inTurn}, together with what its output is
   * needed for.
   *
   * @param tokens Ids below `config.vocabSize`, at least one.
   * @returns The last layer's output f32[tokens, hiddenSize], valid until the next `forward`.
   * @throws {OutOfMemoryError} If the cache cannot grow; nothing has been read then.
   * @throws {Error} If the spill file fails; the cache has not advanced then.
   */
  async forward(tokens: Uint32Array, cache: KvCache, options: StepOptions): Promise<Tensor> {
    const backend = this.#backend;
    const { rmsNormEpsilon: epsilon } = this.config;
    // Again after each wait: a fork may have come to share what is to be written.
    for (let waits = cache.reserve(tokens.length); waits; waits = cache.reserve(tokens.length)) {
      await waits;
    }
    const { hidden, normed, query, key, value, attended, gate, up } = this.#step(tokens.length);
    const project = (out: Tensor, x: Tensor, matrix: Weight, bias: Weight | undefined) => {
      backend.matmul(out, x, matrix);
      if (bias) backend.addBias(out, out, bias);
    };

    backend.embed(hidden, this.#weights.embedTokens, tokens);
    const last = this.#weights.layers.length - 1;
    for (const [layer, weights] of this.#weights.layers.entries()) {
      backend.rmsNorm(normed, hidden, weights.inputNorm, epsilon);
      project(key, normed, weights.kProj, weights.kBias);
      if (weights.kNorm) backend.rmsNorm(key, key, weights.kNorm, epsilon);
      project(value, normed, weights.vProj, weights.vBias);
      if (layer === last && !options.wantsHidden) {
        backend.append(cache.store, layer, cache.length, key, value);
        break;
      }
      project(query, normed, weights.qProj, weights.qBias);
      if (weights.qNorm) backend.rmsNorm(query, query, weights.qNorm, epsilon);
      const attention = reattend(backend, attended, query, key, value, {
        cache,
        layer,
        rope: options.rope ?? this.#rope,
        config: options.scope,
        selects: options.selects && (options.selectLayers?.includes(layer) ?? true),
      });
      if (attention.waits) await attention.waits;
      options.onAttention?.(layer, attention);
      project(normed, attended, weights.oProj, weights.oBias);
      backend.add(hidden, hidden, normed);

      backend.rmsNorm(normed, hidden, weights.postAttentionNorm, epsilon);
      backend.matmul(gate, normed, weights.gateProj);
      backend.matmul(up, normed, weights.upProj);
      backend.swiGlu(gate, gate, up);
      backend.matmul(normed, gate, weights.downProj);
      backend.add(hidden, hidden, normed);
    }
    cache.advance(tokens.length);
    return hidden;
  }

  /**
   * What the model expects next after each row.
   *
   * @param out f32[rows, vocabSize]
   * @param hidden f32[rows, hiddenSize], left as it is
   */
  logits(out: Tensor, hidden: Tensor): void {
    // Of one row it needs no turn of its own: nothing is in there while a step waits for its attention.
    const { normed } = this.#step(hidden.rows);
    this.#backend.rmsNorm(normed, hidden, this.#weights.norm, this.config.rmsNormEpsilon);
    this.#backend.matmul(out, normed, this.#weights.lmHead);
  }

  /** Frees weights and activations. */
  [Symbol.dispose](): void {
    this.#free();
    disposeWeights(this.#weights);
  }

  /** The first `rows` rows of the activations. */
  #step(rows: number): Activations {
    if (rows > (this.#activations?.rows ?? 0)) {
      this.#free();
      this.#activations = this.#allocate(rows);
    }
    const whole = this.#activations!;
    if (whole.rows === rows) return whole;
    return mapTensors(whole, rows, (tensor) => this.#backend.rows(tensor, 0, rows));
  }

  #allocate(rows: number): Activations {
    const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = this.config;
    const made: Tensor[] = [];
    const tensor = (cols: number) => {
      made.push(this.#backend.tensor(rows, cols));
      return made.at(-1)!;
    };
    try {
      return {
        rows,
        hidden: tensor(hiddenSize),
        normed: tensor(hiddenSize),
        query: tensor(numHeads * headDim),
        key: tensor(numKvHeads * headDim),
        value: tensor(numKvHeads * headDim),
        attended: tensor(numHeads * headDim),
        gate: tensor(intermediateSize),
        up: tensor(intermediateSize),
      };
    } catch (error) {
      for (const tensor of made) tensor[Symbol.dispose]();
      throw error;
    }
  }

  #free(): void {
    if (!this.#activations) return;
    mapTensors(this.#activations, 0, (tensor) => {
      tensor[Symbol.dispose]();
      return tensor;
    });
    this.#activations = null;
  }
}

/** The same activations, each tensor changed. */
function mapTensors(
  activations: Activations,
  rows: number,
  change: (tensor: Tensor) => Tensor,
): Activations {
  const { hidden, normed, query, key, value, attended, gate, up } = activations;
  return {
    rows,
    hidden: change(hidden),
    normed: change(normed),
    query: change(query),
    key: change(key),
    value: change(value),
    attended: change(attended),
    gate: change(gate),
    up: change(up),
  };
}
