/**
 * One search for the keys with the largest products: its inputs, and which keys those are.
 *
 * @module
 */

import { type PoolKeys, poolKeys } from "./keys.ts";
import { normals } from "./numbers.ts";

/** Query heads, all of which read one KV head: the queries of a step are rows times these. */
export const HEADS = 8;

/** The `topK` keys of each query. */
export interface ScanProblem {
  readonly keys: PoolKeys;
  readonly queries: number;
  readonly topK: number;
  readonly query: Float32Array<ArrayBuffer>; // f32[queries, headDim]
}

/** A problem of random numbers. Fewer queries than {@linkcode HEADS} are as many heads of one row. */
export function scanProblem(
  tokens: number,
  headDim: number,
  queries: number,
  topK: number,
): ScanProblem {
  const shape = { numHeads: Math.min(HEADS, queries), numKvHeads: 1, headDim };
  return {
    keys: poolKeys(shape, tokens),
    queries,
    topK,
    query: normals(queries * headDim, queries + 1),
  };
}

/** A key and its product. */
export interface Pick {
  readonly token: number;
  readonly score: number;
}

const found = new WeakMap<ScanProblem, Map<number, readonly Pick[]>>();

/**
 * A query's best keys, the best first, equal ones by token; found once. The numbers are multiples of
 * 1/32, so their products' sums are exact in f32 as well: there is one right answer.
 */
export function bestKeys(problem: ScanProblem, q: number): readonly Pick[] {
  const known = found.get(problem) ?? new Map<number, readonly Pick[]>();
  found.set(problem, known);
  const best = known.get(q) ?? findBestKeys(problem, q);
  known.set(q, best);
  return best;
}

function findBestKeys({ keys, topK, query }: ScanProblem, q: number): Pick[] {
  const { tokens, shape: { headDim } } = keys;
  const best: Pick[] = [];
  for (let token = 0; token < tokens; token++) {
    let score = 0;
    for (let d = 0; d < headDim; d++) score += query[q * headDim + d]! * keys.key(token, 0, d);
    if (best.length === topK && score <= best[topK - 1]!.score) continue;
    const place = best.findIndex((pick) => pick.score < score);
    best.splice(place < 0 ? best.length : place, 0, { token, score });
    if (best.length > topK) best.pop();
  }
  return best;
}

/** The queries whose answers are computed again: fewer where that takes long. */
export function sampledQueries({ keys, queries }: ScanProblem): number[] {
  return queries === 1 || keys.tokens > 2 ** 19 ? [queries - 1] : [0, queries >> 1, queries - 1];
}
