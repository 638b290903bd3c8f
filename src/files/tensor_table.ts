/**
 * What a weight file holds, before any weight is read: names, types, shapes, places.
 *
 * @module
 */

import type { ByteSource } from "./byte_source.ts";

/** A tensor in a file. */
export interface TensorInfo {
  readonly name: string;
  /** As the format names it: `F32`, `F16`, `BF16`, `I64`, `Q4_0`, ... */
  readonly dtype: string;
  /**
   * Outermost first: `[rows, cols]` of a matrix, `[cols]` of a vector. GGUF's order is turned
   * round.
   */
  readonly shape: readonly number[];
  readonly source: ByteSource;
  /** Where it begins in `source`, in bytes. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A value of GGUF's metadata; numbers beyond 2^53 are bigints. */
export type MetadataValue = string | number | bigint | boolean | MetadataArray;

/** An array of GGUF's metadata: numbers in the typed array that holds their type. */
export type MetadataArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array
  | readonly string[]
  | readonly boolean[]
  | readonly MetadataArray[];

/** All tensors of a model, and what the files say about it besides. */
export interface TensorTable {
  /** For messages: the file, or the index of the shards. */
  readonly name: string;
  readonly format: "safetensors" | "gguf";
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Safetensors: the strings of `__metadata__`. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
}

/**
 * How many numbers a shape has, or null beyond 2^53, where counting would round. A zero anywhere is
 * zero.
 */
export function countElements(shape: readonly number[]): number | null {
  if (shape.includes(0)) return 0;
  let count = 1;
  for (const size of shape) {
    if (size > Number.MAX_SAFE_INTEGER / count) return null;
    count *= size;
  }
  return count;
}

/** The tensors of one type, together. */
export interface DtypeSummary {
  readonly dtype: string;
  readonly tensors: number;
  /** Numbers in them. */
  readonly parameters: number;
  readonly byteLength: number;
}

/** What a table's tensors come to, by type, the largest first. */
export function summarizeDtypes(table: TensorTable): DtypeSummary[] {
  const sums = new Map<string, DtypeSummary>();
  for (const { dtype, shape, byteLength } of table.tensors.values()) {
    const sum = sums.get(dtype) ?? { dtype, tensors: 0, parameters: 0, byteLength: 0 };
    sums.set(dtype, {
      dtype,
      tensors: sum.tensors + 1,
      parameters: sum.parameters + (countElements(shape) ?? 0),
      byteLength: sum.byteLength + byteLength,
    });
  }
  return [...sums.values()].sort((a, b) => b.byteLength - a.byteLength);
}
