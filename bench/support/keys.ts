/**
 * A KV store of one layer, filled with random keys and values that can be asked for.
 *
 * @module
 */

import type { AttentionShape, Backend, KvFormat, KvStore } from "../../src/backend/backend.ts";
import { poolOf } from "./numbers.ts";

/** Tokens that are appended at once. */
const APPEND = 1024;

/** What a store holds; the same however it is stored, since all formats hold these numbers exactly. */
export interface PoolKeys {
  readonly shape: Omit<AttentionShape, "numLayers">;
  readonly tokens: number;
  key(token: number, kvHead: number, d: number): number;
  value(token: number, kvHead: number, d: number): number;
}

/** Keys from the pool. Values are the same numbers, half a pool away. */
export function poolKeys(shape: PoolKeys["shape"], tokens: number): PoolKeys {
  const { values } = poolOf("f32");
  const { numKvHeads, headDim } = shape;
  const at = (token: number, head: number, d: number, offset: number) =>
    values[((token * numKvHeads + head) * headDim + d + offset) % values.length]!;
  return {
    shape,
    tokens,
    key: (token, head, d) => at(token, head, d, 0),
    value: (token, head, d) => at(token, head, d, values.length >> 1),
  };
}

/** A backend's store of them. */
export function storeOf(backend: Backend, keys: PoolKeys, format: KvFormat): KvStore {
  const { values } = poolOf("f32");
  const { shape, tokens } = keys;
  const cols = shape.numKvHeads * shape.headDim;
  const store = backend.kvStore({ numLayers: 1, ...shape }, { format });
  store.reserve(tokens);
  const part = new Float32Array(APPEND * cols);
  for (let start = 0; start < tokens; start += APPEND) {
    const count = Math.min(APPEND, tokens - start);
    using key = backend.tensor(count, cols);
    using value = backend.tensor(count, cols);
    for (const [tensor, offset] of [[key, 0], [value, values.length >> 1]] as const) {
      const numbers = part.subarray(0, count * cols);
      for (
        let i = 0, from = (start * cols + offset) % values.length;
        i < numbers.length;
        i++
      ) {
        numbers[i] = values[from]!;
        if (++from === values.length) from = 0;
      }
      backend.write(tensor, numbers);
    }
    backend.append(store, 0, start, key, value);
  }
  return store;
}
