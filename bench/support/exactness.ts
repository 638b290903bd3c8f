/**
 * Whether selection picks what sums in float64 over all keys pick, for the queries that a model really asks.
 *
 * @module
 */

import { loadModel, type Model } from "../../mod.ts";
import type { Backend, KvStore, Selection, Tensor } from "../../src/backend/backend.ts";
import { ReferenceBackend } from "../../src/backend/reference/backend.ts";
import type { ReferenceKvStore } from "../../src/backend/reference/kv_store.ts";
import { KvCache } from "../../src/reattention/kv_cache.ts";
import { fitScope, type Scope, type ScopeConfig } from "../../src/reattention/scope.ts";

/** What was compared. A query is one row of one KV head: the picks of its query heads together. */
export interface Exactness {
  readonly queries: number;
  /** Those whose picks were the same to the last token. */
  readonly equal: number;
  /** Of the others, those where float64 has the last pick and the next key closer than f32 can tell. */
  readonly tied: number;
  /** The most keys that a query saw. */
  readonly keys: number;
}

/** Relative to sum |q * k|: what sums of f32 products can be off. */
const TIE = 2 ** -20;

/** Selects with nothing pooled: each row and KV head for itself, every pick kept. */
const APART = { maxSpans: Infinity, spanSize: 2, sharing: "kvHead" } as const;

/** Which text, and which of its steps are looked at. */
export interface ExactnessOptions {
  readonly tokens: (model: Model) => Uint32Array;
  /** Every so many steps one is compared. */
  readonly stride: number;
}

/**
 * Reads with the embedded model, selecting in every step, and compares what the queries of some steps pick in
 * each selecting layer.
 *
 * @param backend What is checked.
 */
export async function checkSelection(
  backend: Backend,
  options: ExactnessOptions,
): Promise<Exactness> {
  using oracle = new ReferenceBackend();
  let checks = false;
  let pending: (() => Promise<void>)[] = [];
  const found = { queries: 0, equal: 0, tied: 0, keys: 0 };

  const tensor = (rows: number, cols: number, values: Float32Array) => {
    const made = oracle.tensor(rows, cols);
    oracle.write(made, values);
    return made;
  };
  const watched = new Proxy(backend, {
    get(target, name) {
      if (name === "append") return append;
      if (name === "select") return select;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  using model = await loadModel(undefined, { backend: watched });
  const { numLayers, numHeads, numKvHeads, headDim } = model.config;
  const shape = { numLayers, numHeads, numKvHeads, headDim };
  const scope = model.profile?.scope ?? fitScope(model.config.trainedLength);
  const stepSize = model.profile?.stepSize ?? 64;
  const tokens = options.tokens(model);
  using store = oracle.kvStore(shape) as ReferenceKvStore;
  using cache = new KvCache(backend.kvStore(shape));
  function append(to: KvStore, layer: number, start: number, key: Tensor, value: Tensor): void {
    backend.append(to, layer, start, key, value);
    const [keys, values] = [backend.read(key), backend.read(value)];
    const { rows, cols } = key;
    pending.push(async () => {
      store.reserve(start + rows);
      using k = tensor(rows, cols, await keys);
      using v = tensor(rows, cols, await values);
      oracle.append(store, layer, start, k, v);
    });
  }
  function select(
    from: KvStore,
    layer: number,
    query: Tensor,
    where: Scope,
    config: ScopeConfig,
  ): Selection {
    if (checks) {
      const apart = { ...config, ...APART };
      for (let r = 0; r < query.rows; r++) {
        const row = backend.rows(query, r, r + 1);
        const [asked, picked] = [
          backend.read(row),
          backend.select(from, layer, row, where, apart).tokens(),
        ];
        pending.push(async () => {
          using q = tensor(1, query.cols, await asked);
          const expected = await oracle.select(store, layer, q, where, apart).tokens();
          const actual = await picked;
          for (let head = 0; head < numKvHeads; head++) {
            found.queries++;
            found.keys = Math.max(found.keys, where.localStart - where.globalEnd);
            if (same(actual[head]!, expected[head]!)) found.equal++;
            else if (ties(await asked, layer, head, where, config.topK)) found.tied++;
          }
        });
      }
    }
    return backend.select(from, layer, query, where, config);
  }
  /** Whether a query head of a KV head has its last pick and the next key too close to tell apart. */
  function ties(query: Float32Array, layer: number, head: number, where: Scope, k: number) {
    const group = numHeads / numKvHeads;
    for (let h = head * group; h < (head + 1) * group; h++) {
      const q = query.subarray(h * headDim, (h + 1) * headDim);
      const scored: { score: number; size: number }[] = [];
      const key = new Float64Array(headDim);
      for (let t = where.globalEnd; t < where.localStart; t++) {
        store.readKey(key, layer, t, head);
        let [score, size] = [0, 0];
        for (let d = 0; d < headDim; d++) {
          score += q[d]! * key[d]!;
          size += Math.abs(q[d]! * key[d]!);
        }
        scored.push({ score, size });
      }
      scored.sort((a, b) => b.score - a.score);
      const [last, next] = [scored[k - 1], scored[k]];
      if (last && next && last.score - next.score <= TIE * last.size) return true;
    }
    return false;
  }

  const layers = model.profile?.selectLayers ?? Array.from({ length: numLayers }, (_, i) => i);
  for (let start = 0, i = 0; start + stepSize <= tokens.length; start += stepSize, i++) {
    checks = i % options.stride === options.stride - 1;
    const step = { scope, selects: true, selectLayers: layers, wantsHidden: true };
    await model.llama.forward(tokens.subarray(start, start + stepSize), cache, step);
    for (const each of pending) await each();
    pending = [];
  }
  return found;
}

function same(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((token, i) => token === b[i]);
}
