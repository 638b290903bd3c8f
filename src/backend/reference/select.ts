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
  const numRows = query.length / headDim / numHeads;
  const shared: Votes = new Map(); // of the whole layer
  const lists: Uint32Array[] = [];
  for (let kvHead = 0; kvHead < numKvHeads; kvHead++) {
    const votes = config.sharing === "layer" ? shared : new Map();
    const keys = middleKeys(store, layer, kvHead, scope, config.scores);
    const groupSize = numHeads / numKvHeads;
    for (let at = 0; at < query.length; at += headDim) {
      const row = Math.floor(at / headDim / numHeads);
      if ((numRows - 1 - row) % config.voteEvery !== 0) continue;
      const h = at / headDim % numHeads;
      if (Math.floor(h / groupSize) !== kvHead) continue;
      const scores = scoreKeys(query.subarray(at, at + headDim), keys);
      vote(votes, scores, pick(scores, config), config);
    }
    if (config.sharing === "kvHead") lists.push(spread(elect(votes, config), scope, config));
  }
  return config.sharing === "kvHead" ? lists : [spread(elect(shared, config), scope, config)];
}

/** Votes of the middle indices that were picked. */
type Votes = Map<number, number>;

/** Adds what a query's picks count for; best first. */
function vote(votes: Votes, scores: Float64Array, picks: number[], config: ScopeConfig): void {
  const add = (t: number, count: number) => votes.set(t, (votes.get(t) ?? 0) + count);
  const last = scores[picks.at(-1)!]!;
  for (const t of picks) add(t, config.votes === "count" ? 1 : scores[t]! - last);
  // The authors' kernel starts its result at index 0 and leaves the places without a block so.
  if (config.selector === "blockmax" && picks.length < config.topK) {
    add(0, config.votes === "count" ? config.topK - picks.length : 0);
  }
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
  const rank = (t: number) => scores[t]!;
  if (selector === "exact") return best(rank, Array.from(scores.keys()), topK);
  const winners: number[] = [];
  for (let start = 0; start < scores.length; start += BLOCK_SIZE) {
    const end = Math.min(start + BLOCK_SIZE, scores.length);
    const block = Array.from({ length: end - start }, (_, i) => start + i);
    winners.push(...best(rank, block, 1));
  }
  return best(rank, winners, topK);
}

/** The up to `count` ascending indices with the highest ranks, highest first. */
function best(rank: (index: number) => number, ascending: number[], count: number): number[] {
  // Sorting is stable, so equal ranks stay in ascending order.
  return ascending.sort((a, b) => rank(b) - rank(a)).slice(0, count);
}

/** The `maxSpans` middle indices with most votes; equal votes: the earlier token. */
function elect(votes: Votes, { maxSpans }: ScopeConfig): number[] {
  const ascending = [...votes.keys()].sort((a, b) => a - b);
  return best((t) => votes.get(t)!, ascending, maxSpans);
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
