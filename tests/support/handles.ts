/**
 * Weights, tensors and filled stores of any backend, from plain arrays.
 *
 * @module
 */

import type {
  AttentionShape,
  Backend,
  KvStore,
  KvStoreOptions,
  Tensor,
  WeightFormat,
  WeightSource,
} from "../../src/backend/backend.ts";
import { mulberry32 } from "./random.ts";

/** A tensor that holds `values`, f32[rows, cols]. */
export function tensorOf(
  backend: Backend,
  rows: number,
  cols: number,
  values: Float32Array,
): Tensor {
  const tensor = backend.tensor(rows, cols);
  backend.write(tensor, values);
  return tensor;
}

/** Bytes in memory as a weight's source. */
export function weightSource(
  format: WeightFormat,
  rows: number,
  cols: number,
  bytes: Uint8Array,
): WeightSource {
  return {
    name: `${format}[${rows}, ${cols}]`,
    format,
    rows,
    cols,
    read(target, byteOffset) {
      if (byteOffset + target.byteLength > bytes.byteLength) {
        return Promise.reject(new RangeError("Read beyond the end of the weight"));
      }
      target.set(bytes.subarray(byteOffset, byteOffset + target.byteLength));
      return Promise.resolve();
    },
  };
}

/** A weight, and its numbers as they are stored. */
export interface RandomWeight {
  readonly source: WeightSource;
  readonly values: Float32Array; // f32[rows, cols]
}

/** Formats of single numbers. */
export type PlainFormat = Extract<WeightFormat, "f32" | "f16" | "bf16">;

/** Values in [-1, 1]; multiples of 1/256 for the 16-bit formats, so that all of them hold these exactly. */
export function randomWeight(
  seed: number,
  format: PlainFormat,
  rows: number,
  cols: number,
): RandomWeight {
  const random = mulberry32(seed);
  const values = Float32Array.from({ length: rows * cols }, () => {
    const value = random() * 2 - 1;
    return format === "f32" ? value : Math.round(value * 256) / 256;
  });
  return { source: weightSource(format, rows, cols, encode(format, values)), values };
}

/** The bytes of values that the format holds exactly, none of them tiny. */
export function encode(format: PlainFormat, values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.slice().buffer);
  if (format === "f32") return new Uint8Array(bits.buffer);
  const halves = Uint16Array.from(bits, (word) => {
    if (format === "bf16" || word << 1 === 0) return word >>> 16;
    // The exponent's bias is 15 instead of 127; 10 of 23 fraction bits remain.
    return word >>> 16 & 0x8000 | (word >>> 13 & 0x3ffff) - (112 << 10);
  });
  return new Uint8Array(halves.buffer);
}

/** The heads of a layer. */
export type HeadShape = Omit<AttentionShape, "numLayers">;

/** A store of one layer that holds f32[tokens, numKvHeads * headDim], appended in steps. */
export function storeOf(
  backend: Backend,
  shape: HeadShape,
  options: KvStoreOptions,
  key: Float32Array,
  value: Float32Array,
  stepSize: number = Infinity,
): KvStore {
  const store = backend.kvStore({ numLayers: 1, ...shape }, options);
  const tokens = key.length / (shape.numKvHeads * shape.headDim);
  store.reserve(tokens);
  for (let start = 0; start < tokens; start += stepSize) {
    append(backend, store, 0, start, key, value, Math.min(start + stepSize, tokens));
  }
  return store;
}

/** Appends tokens [start, end) of f32[tokens, numKvHeads * headDim]. */
export function append(
  backend: Backend,
  store: KvStore,
  layer: number,
  start: number,
  key: Float32Array,
  value: Float32Array,
  end: number,
): void {
  const cols = store.shape.numKvHeads * store.shape.headDim;
  const part = (values: Float32Array) =>
    tensorOf(backend, end - start, cols, values.subarray(start * cols, end * cols));
  using keys = part(key);
  using values = part(value);
  backend.append(store, layer, start, keys, values);
}
