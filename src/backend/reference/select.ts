/**
 * Which middle tokens join the scope: score, pick, vote, spread. Liu et al. 2024 (arXiv 2407.15176),
 * section 3.1; every step is a loop over all there is.
 *
 * @module
 */

import { BLOCK_SIZE, type Scope, type ScopeConfig } from "../../reattention/scope.ts";
import type { ReferenceKvStore } from "./kv_store.ts";

/**
 * The selected tokens, ascending: one list for the layer, or one per KV head.
 *
 * @param query f32[queries, numHeads * headDim], unrotated
 */
export function select(
  store: ReferenceKvStore,
  layer: number,
  query: Float32Array,
  scope: Scope,
  config: ScopeConfig,
): Uint32Array[] {
  const { numHeads, numKvHeads, headDim } = store.shape;
  const { globalEnd, localStart } = scope;
  const numMiddle = Math.max(0, localStart - globalEnd);
  const shared = new Uint32Array(numMiddle); // votes of the whole layer
  const lists: Uint32Array[] = [];
  for (let kvHead = 0; kvHead < numKvHeads; kvHead++) {
    const votes = config.sharing === "layer" ? shared : new Uint32Array(numMiddle);
    const keys = middleKeys(store, layer, kvHead, scope, config.scores);
    const groupSize = numHeads / numKvHeads;
    for (let at = 0; at < query.length; at += headDim) {
      const h = at / headDim % numHeads;
      if (Math.floor(h / groupSize) !== kvHead) continue;
      const scores = scoreKeys(query.subarray(at, at + headDim), keys);
      for (const t of pick(scores, config)) votes[t]!++;
    }
    if (config.sharing === "kvHead") lists.push(spread(elect(votes, config), scope, config));
  }
  return config.sharing === "kvHead" ? lists : [spread(elect(shared, config), scope, config)];
}

/** What a query is compared with: unrotated keys, and what their scores are multiplied with. */
interface Keys {
  readonly keys: Float64Array; // f64[numMiddle, headDim]
  readonly factors: Float64Array; // f64[numMiddle]
}

function middleKeys(
  store: ReferenceKvStore,
  layer: number,
  kvHead: number,
  { globalEnd, localStart }: Scope,
  scores: ScopeConfig["scores"],
): Keys {
  const { headDim } = store.shape;
  const numMiddle = Math.max(0, localStart - globalEnd);
  const keys = new Float64Array(numMiddle * headDim);
  const factors = new Float64Array(numMiddle).fill(1);
  const value = new Float64Array(headDim);
  for (let t = 0; t < numMiddle; t++) {
    store.readKey(keys.subarray(t * headDim, (t + 1) * headDim), layer, globalEnd + t, kvHead);
    if (scores === "qk") continue;
    store.readValue(value, layer, globalEnd + t, kvHead);
    factors[t] = scores === "qkv1"
      ? value.reduce((sum, x) => sum + Math.abs(x), 0)
      : Math.sqrt(value.reduce((sum, x) => sum + x * x, 0));
  }
  return { keys, factors };
}

/** scores[t] = factors[t] * sum_d query[d] * keys[t, d] */
function scoreKeys(query: Float32Array, { keys, factors }: Keys): Float64Array {
  const headDim = query.length;
  return factors.map((factor, t) => {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += query[d]! * keys[t * headDim + d]!;
    return factor * sum;
  });
}

/** The middle indices of one query head's picks, best first; equal scores: the earlier token first. */
function pick(scores: Float64Array, { topK, selector }: ScopeConfig): number[] {
  if (selector === "exact") return best(scores, Array.from(scores.keys()), topK);
  const winners: number[] = [];
  for (let start = 0; start < scores.length; start += BLOCK_SIZE) {
    const end = Math.min(start + BLOCK_SIZE, scores.length);
    const block = Array.from({ length: end - start }, (_, i) => start + i);
    winners.push(...best(scores, block, 1));
  }
  const picks = best(scores, winners, topK);
  // The authors' kernel starts its result at index 0 and leaves the places without a block so.
  while (picks.length < topK) picks.push(0);
  return picks;
}

/** The up to `count` ascending indices with the highest scores, highest first. */
function best(scores: ArrayLike<number>, ascending: number[], count: number): number[] {
  // Sorting is stable, so equal scores stay in ascending order.
  return ascending.sort((a, b) => scores[b]! - scores[a]!).slice(0, count);
}

/** The `maxSpans` middle indices with most votes; equal votes: the earlier token. */
function elect(votes: Uint32Array, { maxSpans }: ScopeConfig): number[] {
  const picked = Array.from(votes.keys()).filter((t) => votes[t]! > 0);
  return best(votes, picked, maxSpans);
}

/** The tokens within [t - spanSize / 2, t + spanSize / 2) of any kept pick t, ascending, in the middle. */
function spread(kept: number[], scope: Scope, { spanSize }: ScopeConfig): Uint32Array {
  const { globalEnd, localStart } = scope;
  const selected = new Set<number>();
  for (const index of kept) {
    const t = globalEnd + index;
    const start = Math.max(globalEnd, t - spanSize / 2);
    const end = Math.min(localStart, t + spanSize / 2);
    for (let near = start; near < end; near++) selected.add(near);
  }
  return Uint32Array.from(selected).sort();
}
