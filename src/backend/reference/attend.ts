/**
 * Ordinary causal attention over a finite scope, renumbered.
 *
 * @module
 */

import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import type { ReferenceKvStore } from "./kv_store.ts";

/**
 * out[r, h] = sum_i softmax_i(q[r, h] . k[i] / sqrt(headDim)) * v[i], over the tokens i of the scope
 * up to the query's own; q and k rotated to their positions.
 *
 * @param out f32[queries, numHeads * headDim]
 * @param query the same shape, unrotated; the scope's last tokens
 * @param selected one list of middle tokens for all KV heads, or one for each
 */
export function attend(
  out: Float32Array,
  query: Float32Array,
  store: ReferenceKvStore,
  layer: number,
  scope: Scope,
  selected: readonly Uint32Array[],
  rope: Rope,
  positions: ScopeConfig["positions"],
): void {
  const { numHeads, numKvHeads, headDim } = store.shape;
  const groupSize = numHeads / numKvHeads;
  const queries = query.length / (numHeads * headDim);
  const q = new Float64Array(headDim);
  const sum = new Float64Array(headDim);
  for (let kvHead = 0; kvHead < numKvHeads; kvHead++) {
    const tokens = tokensOf(scope, selected[selected.length === 1 ? 0 : kvHead] ?? []);
    const positionOf = (i: number) => positions === "scope" ? i : tokens[i]!;
    const keys = tokens.map((t, i) => {
      const key = new Float64Array(headDim);
      store.readKey(key, layer, t, kvHead);
      rotate(key, positionOf(i), rope);
      return key;
    });
    const values = tokens.map((t) => {
      const value = new Float64Array(headDim);
      store.readValue(value, layer, t, kvHead);
      return value;
    });
    for (let r = 0; r < queries; r++) {
      const self = tokens.length - queries + r;
      for (let h = kvHead * groupSize; h < (kvHead + 1) * groupSize; h++) {
        const at = (r * numHeads + h) * headDim;
        q.set(query.subarray(at, at + headDim));
        rotate(q, positionOf(self), rope);
        const weights = softmax(self + 1, (i) => dot(q, keys[i]!) / Math.sqrt(headDim));
        sum.fill(0);
        for (let i = 0; i <= self; i++) {
          const value = values[i]!;
          for (let d = 0; d < headDim; d++) sum[d]! += weights[i]! * value[d]!;
        }
        out.set(sum, at);
      }
    }
  }
}

/** global | selected | local, ascending. */
function tokensOf({ globalEnd, localStart, length }: Scope, selected: ArrayLike<number>): number[] {
  const tokens: number[] = [];
  for (let t = 0; t < globalEnd; t++) tokens.push(t);
  for (let i = 0; i < selected.length; i++) tokens.push(selected[i]!);
  for (let t = localStart; t < length; t++) tokens.push(t);
  return tokens;
}

/**
 * Turns the pairs (x[i], x[i + headDim / 2]) by position * inverseFrequencies[i], in place, and
 * multiplies by the attention factor.
 */
function rotate(x: Float64Array, position: number, rope: Rope): void {
  const { inverseFrequencies, attentionFactor = 1 } = rope;
  const half = x.length / 2;
  for (let i = 0; i < half; i++) {
    const angle = position * inverseFrequencies[i]!;
    const cos = attentionFactor * Math.cos(angle);
    const sin = attentionFactor * Math.sin(angle);
    const a = x[i]!;
    const b = x[i + half]!;
    x[i] = a * cos - b * sin;
    x[i + half] = b * cos + a * sin;
  }
}

/** f64[count] of exp(score(i)) over their sum; the highest score is subtracted so that none overflows. */
function softmax(count: number, score: (i: number) => number): Float64Array {
  const weights = new Float64Array(count);
  let highest = -Infinity;
  for (let i = 0; i < count; i++) highest = Math.max(highest, weights[i] = score(i));
  let sum = 0;
  for (let i = 0; i < count; i++) sum += weights[i] = Math.exp(weights[i]! - highest);
  for (let i = 0; i < count; i++) weights[i]! /= sum;
  return weights;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let d = 0; d < a.length; d++) sum += a[d]! * b[d]!;
  return sum;
}
