/**
 * A small layer that uses everything a backend can do.
 *
 * @module
 */

import { ok } from "node:assert/strict";
import type { Backend } from "../../src/backend/backend.ts";
import { createRope } from "../../src/reattention/rope.ts";
import { fitScope, type Scope, type ScopeConfig } from "../../src/reattention/scope.ts";
import { randomWeight, storeOf, tensorOf } from "./handles.ts";
import { uniform } from "./random.ts";

/** How weights are kept. */
export const FORMATS = ["f32", "f16", "bf16"] as const;
/** How keys and values are. */
export const KV_FORMATS = ["f32", "i16"] as const;

/** A layer whose rows are few and odd enough to need all the padding there is. */
export const SHAPE = { numHeads: 6, numKvHeads: 2, headDim: 10 };

/** Rules that select something of a few hundred tokens. */
export const CONFIG: ScopeConfig = {
  ...fitScope(512),
  globalSize: 3,
  localSize: 20,
  topK: 2,
  maxSpans: 5,
  spanSize: 4,
};

/** What a layer computes, all of it: one array a verb. */
export async function computeAll(
  backend: Backend,
  tokens = 300,
  rows = 19,
): Promise<Float32Array[]> {
  const results: Float32Array[] = [];
  const cols = SHAPE.numHeads * SHAPE.headDim;
  const kvCols = SHAPE.numKvHeads * SHAPE.headDim;
  using x = tensorOf(backend, rows, cols, uniform(1, rows * cols));
  for (const format of FORMATS) {
    using weight = await backend.weight(randomWeight(2, format, 500, cols).source);
    using out = backend.tensor(rows, 500);
    backend.matmul(out, x, weight);
    results.push(await backend.read(out));
    using one = backend.tensor(1, 500);
    backend.matmul(one, backend.rows(x, 4, 5), weight);
    results.push(await backend.read(one));
  }
  using gain = await backend.weight(randomWeight(3, "f16", 1, cols).source);
  using normed = backend.tensor(rows, cols);
  backend.rmsNorm(normed, x, gain, 1e-5);
  backend.swiGlu(normed, normed, x);
  backend.add(normed, normed, x);
  results.push(await backend.read(normed));
  for (const format of KV_FORMATS) {
    const [key, value] = [uniform(4, tokens * kvCols), uniform(5, tokens * kvCols)];
    using store = storeOf(backend, SHAPE, { format, chunkSize: 16 }, key, value, 37);
    const scope: Scope = { globalEnd: 3, localStart: tokens - Math.max(20, rows), length: tokens };
    for (const sharing of ["layer", "kvHead"] as const) {
      for (const selector of ["exact", "blockmax"] as const) {
        const config = { ...CONFIG, sharing, selector };
        const selection = backend.select(store, 0, x, scope, config);
        for (const list of await selection.tokens()) results.push(Float32Array.from(list));
        using out = backend.tensor(rows, cols);
        const rope = createRope(10000, SHAPE.headDim);
        for (const positions of ["scope", "sequence"] as const) {
          backend.attend(out, x, store, 0, scope, selection, rope, positions);
          results.push(await backend.read(out));
        }
      }
    }
  }
  ok(results.every((values) => values.every(Number.isFinite)), "a result is not finite");
  return results;
}
