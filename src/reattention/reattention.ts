/**
 * ReAttention: append, select, attend. Liu et al. 2024 (arXiv 2407.15176), section 3.
 *
 * @module
 */

import type { Backend, KvFormat, Selection, Tensor } from "../backend/backend.ts";
import { KvCache } from "./kv_cache.ts";
import { createRope, type Rope, ropeFor, type RopeScaling } from "./rope.ts";
import { fitScope, planScope, resolveScope, type Scope, type ScopeConfig } from "./scope.ts";

/** Where one attention call happens and by which rules. */
export interface AttentionCall {
  readonly cache: KvCache;
  readonly layer: number;
  readonly rope: Rope;
  readonly config: ScopeConfig;
  /**
   * Whether this call may select; `config.topK` must be positive as well. Without, the call reads
   * the global and the local region: a plain window.
   */
  readonly selects: boolean;
  /** Pins the start of the local region instead of planning it. The new tokens stay local. */
  readonly localStart?: number;
}

/** What one attention call read. */
export interface AttentionScope {
  readonly scope: Scope;
  /** Null where nothing was selected: no middle, or no wish. */
  readonly selection: Selection | null;
  /** To be awaited before the next verb, where spilled values must come back to a device. */
  readonly waits: void | Promise<void>;
}

/**
 * The whole operator, for one layer and one step: the new keys and values join the cache, then the
 * new queries read a finite scope of it. Advancing the cache is the caller's, after its last layer.
 *
 * @param out f32[queries, numHeads * headDim]
 * @param query the same shape, unrotated
 * @param key f32[queries, numKvHeads * headDim], unrotated
 * @param value the shape of `key`
 */
export function reattend(
  backend: Backend,
  out: Tensor,
  query: Tensor,
  key: Tensor,
  value: Tensor,
  call: AttentionCall,
): AttentionScope {
  const { cache, layer, config } = call;
  backend.append(cache.store, layer, cache.length, key, value);
  const planned = planScope(config, cache.length + key.rows, key.rows);
  const scope = call.localStart === undefined ? planned : {
    ...planned,
    // The new tokens stay local, also while the sequence is shorter than the global region.
    localStart: Math.max(planned.globalEnd, Math.min(call.localStart, cache.length)),
  };
  const selection = call.selects && config.topK > 0 && scope.globalEnd < scope.localStart
    ? backend.select(cache.store, layer, query, scope, config)
    : null;
  const rope = ropeFor(call.rope, mostPositions(config, scope, selection !== null));
  const { positions } = config;
  const waits = backend.attend(out, query, cache.store, layer, scope, selection, rope, positions);
  return { scope, selection, waits };
}

/** How many positions a call has, at most: what was selected may be less than may be. */
function mostPositions(config: ScopeConfig, scope: Scope, selects: boolean): number {
  const { globalEnd, localStart, length } = scope;
  if (config.positions === "sequence") return length;
  const spans = selects ? Math.min(config.maxSpans * config.spanSize, localStart - globalEnd) : 0;
  return globalEnd + spans + length - localStart;
}

/** Options of {@linkcode ReAttention}. */
export interface ReAttentionOptions {
  /** Query heads. */
  readonly numHeads: number;
  /** Key and value heads; divides `numHeads`. */
  readonly numKvHeads: number;
  /** Values per head; even. */
  readonly headDim: number;
  /** Base of the rotary frequencies. Default 10000. */
  readonly ropeTheta?: number;
  /** How the model's rotary frequencies are scaled. Default: they are not. */
  readonly ropeScaling?: RopeScaling;
  /** Default: {@linkcode fitScope}(8192), the paper's. */
  readonly scope?: Partial<ScopeConfig>;
  /** Short for `scope.scores`. */
  readonly scores?: ScopeConfig["scores"];
  /** Short for `scope.selector`. */
  readonly selector?: ScopeConfig["selector"];
  /** Where to compute, from {@linkcode openBackend}. Stays the caller's. */
  readonly backend: Backend;
  /** How keys and values are kept. Default `"f32"`: nothing is rounded. */
  readonly kvFormat?: KvFormat;
}

/** What {@linkcode ReAttention.step} gives back. */
export interface AttentionStep {
  /** f32[tokens, numHeads, headDim] */
  readonly output: Float32Array;
  /** The tokens of the sequence that were in the scope, ascending; of any KV head's scope. */
  readonly positions: Uint32Array;
}

/**
 * The operator alone: one attention layer with an endless cache, for those who bring their own
 * model.
 *
 * @example Usage
 * ```ts
 * import { openBackend, ReAttention } from "../../mod.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * using backend = await openBackend("wasm");
 * using attention = new ReAttention({
 *   numHeads: 2,
 *   numKvHeads: 1,
 *   headDim: 8,
 *   scope: { globalSize: 4, localSize: 32, topK: 1, maxSpans: 2, spanSize: 4 },
 *   backend,
 * });
 * const random = (length: number) => Float32Array.from({ length }, Math.random);
 * for (let step = 0; step < 10; step++) {
 *   const { output, positions } = await attention.step(random(32 * 16), random(32 * 8), random(32 * 8));
 *   deepEqual(output.length, 32 * 16);
 *   deepEqual(positions.length <= 4 + 2 * 4 + 32, true);
 * }
 * ```
 */
export class ReAttention implements Disposable {
  /** The rules in force. */
  readonly scope: ScopeConfig;
  readonly #backend: Backend;
  readonly #cache: KvCache;
  readonly #rope: Rope;

  /**
   * @throws {RangeError} If the shape is not one: `numKvHeads` must divide `numHeads`, `headDim` must be even.
   */
  constructor(options: ReAttentionOptions) {
    const { numHeads, numKvHeads, headDim, backend } = options;
    for (const [name, value] of Object.entries({ numHeads, numKvHeads, headDim })) {
      if (!Number.isSafeInteger(value) || value < 1) {
        throw new RangeError(
          `Cannot build ReAttention: ${name} must be a positive integer, got ${value}`,
        );
      }
    }
    if (numHeads % numKvHeads !== 0) {
      throw new RangeError(
        `Cannot build ReAttention: numKvHeads must divide numHeads ${numHeads}, got ${numKvHeads}`,
      );
    }
    if (headDim % 2 !== 0) {
      throw new RangeError(`Cannot build ReAttention: headDim must be even, got ${headDim}`);
    }
    this.scope = resolveScope(
      { ...options.scope, ...pick(options, "scores"), ...pick(options, "selector") },
      fitScope(8192),
    );
    this.#backend = backend;
    this.#rope = createRope(options.ropeTheta ?? 10000, headDim, options.ropeScaling);
    this.#cache = new KvCache(
      backend.kvStore({ numLayers: 1, numHeads, numKvHeads, headDim }, {
        format: options.kvFormat ?? "f32",
      }),
    );
  }

  /** Tokens read so far. */
  get length(): number {
    return this.#cache.length;
  }

  /**
   * Reads some more tokens and attends from each of them.
   *
   * @param query f32[tokens, numHeads, headDim], unrotated
   * @param key f32[tokens, numKvHeads, headDim], unrotated
   * @param value f32[tokens, numKvHeads, headDim]
   * @param options `localStart` pins the local region (a token index): at `globalSize` or below,
   * everything is in the scope.
   * @throws {TypeError} If the three do not hold the same number of whole tokens, at least one.
   * @throws {RangeError} If `localStart` is behind both the global region and the first new token.
   */
  async step(
    query: Float32Array,
    key: Float32Array,
    value: Float32Array,
    options: { readonly localStart?: number } = {},
  ): Promise<AttentionStep> {
    const { numHeads, numKvHeads, headDim } = this.#cache.store.shape;
    const queryCols = numHeads * headDim;
    const keyCols = numKvHeads * headDim;
    const tokens = query.length / queryCols;
    if (
      !Number.isInteger(tokens) || tokens < 1 || key.length !== tokens * keyCols ||
      value.length !== key.length
    ) {
      throw new TypeError(
        `Cannot attend: query, key and value must hold the same number of tokens (${queryCols}, ` +
          `${keyCols} and ${keyCols} values each), got ${query.length}, ${key.length} and ${value.length} values`,
      );
    }
    const { localStart } = options;
    const latest = Math.max(this.length, this.scope.globalSize);
    if (
      localStart !== undefined &&
      !(Number.isSafeInteger(localStart) && localStart >= 0 && localStart <= latest)
    ) {
      throw new RangeError(
        `Cannot attend: localStart must be a token index from 0 to ${latest}, got ${localStart}`,
      );
    }
    const backend = this.#backend;
    using q = backend.tensor(tokens, queryCols);
    using k = backend.tensor(tokens, keyCols);
    using v = backend.tensor(tokens, keyCols);
    using out = backend.tensor(tokens, queryCols);
    // Nothing is spilled, so that nothing waits before the output is read: steps may follow one another at once.
    this.#cache.reserve(tokens);
    backend.write(q, query);
    backend.write(k, key);
    backend.write(v, value);
    const { scope, selection } = reattend(backend, out, q, k, v, {
      cache: this.#cache,
      layer: 0,
      rope: this.#rope,
      config: this.scope,
      selects: true,
      localStart,
    });
    this.#cache.advance(tokens);
    const selected = await selection?.tokens() ?? [];
    return { output: await backend.read(out), positions: positionsOf(scope, selected) };
  }

  /** Frees the cache; the backend stays open. */
  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
  }
}

/** The field alone, or nothing where it is undefined. */
function pick<T, K extends keyof T>(object: T, name: K): Partial<Pick<T, K>> {
  return object[name] === undefined ? {} : { [name]: object[name] } as Pick<T, K>;
}

/** global | union of the selected | local, as token indices. */
function positionsOf(scope: Scope, selected: readonly Uint32Array[]): Uint32Array {
  const middle = selected.length === 1
    ? selected[0]!
    : Uint32Array.from(new Set(selected.flatMap((tokens) => [...tokens]))).sort();
  const { globalEnd, localStart, length } = scope;
  const positions = new Uint32Array(globalEnd + middle.length + length - localStart);
  for (let t = 0; t < globalEnd; t++) positions[t] = t;
  positions.set(middle, globalEnd);
  for (let t = localStart, i = globalEnd + middle.length; t < length; t++) positions[i++] = t;
  return positions;
}
