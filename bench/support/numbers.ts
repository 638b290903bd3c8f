/**
 * Random numbers for benchmarks: gigabytes of weights that cost no time to make and no memory to
 * keep, and of which any single one can be named to check a result.
 *
 * @module
 */

import type { WeightFormat, WeightSource } from "../../src/backend/backend.ts";
import { mulberry32 } from "../../src/llama/random.ts";
import { BLOCKS, bytesOf, decode, encode, type Format } from "./quantize.ts";

/**
 * Numbers near a normal distribution of deviation 1, all multiples of 1/32 within 4: f16 and bf16
 * hold them exactly, so that all 16-bit formats have the same right answers.
 */
export function normals(length: number, seed: number): Float32Array<ArrayBuffer> {
  const random = mulberry32(seed);
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    // Four uniform numbers have the variance 1/3.
    const sum = random() + random() + random() + random() - 2;
    values[i] = Math.round(Math.max(-3.96875, Math.min(3.96875, sum * Math.sqrt(3))) * 32) / 32;
  }
  return values;
}

/** Numbers that repeat only after a prime number of blocks, in a format. */
export interface Pool {
  readonly format: Format;
  readonly bytes: Uint8Array;
  /** What the bytes stand for, to the last bit. */
  readonly values: Float32Array;
}

/** Blocks of a pool, by the numbers in one: primes, so that no row of a matrix equals another. */
const POOL_BLOCKS: Readonly<Record<number, number>> = { 1: 1_048_573, 32: 32_749, 256: 4_093 };

const pools = new Map<string, Pool>();

/**
 * The pool of a format, made once.
 *
 * @param exponent The numbers are multiplied by 2 to this power, which changes no fraction.
 */
export function poolOf(format: Format, exponent = 0, seed = 1): Pool {
  const key = `${format} ${exponent} ${seed}`;
  let pool = pools.get(key);
  if (pool === undefined) {
    const { numbers } = BLOCKS[format];
    const values = normals(POOL_BLOCKS[numbers]! * numbers, seed);
    for (let i = 0; i < values.length; i++) {
      values[i] = values[i]! * 2 ** exponent;
    }
    const bytes = encode(format, values);
    pool = { format, bytes, values: decode(format, bytes) };
    pools.set(key, pool);
  }
  return pool;
}

/** Fills `target` with a pool's bytes from `byteOffset` on, over and over. */
export function fillFromPool({ bytes }: Pool, target: Uint8Array, byteOffset: number): void {
  let from = byteOffset % bytes.length;
  for (let at = 0; at < target.length;) {
    const length = Math.min(target.length - at, bytes.length - from);
    target.set(bytes.subarray(from, from + length), at);
    at += length;
    from = 0;
  }
}

/** A matrix of weights whose numbers can be asked for. */
export interface PoolWeight {
  readonly format: Format;
  readonly rows: number;
  readonly cols: number;
  /** In its format, in bytes. */
  readonly byteLength: number;
  /** For a backend. */
  readonly source: WeightSource;
  /** The number at a place. */
  at(row: number, col: number): number;
  /** Its bytes, as a file has them. */
  bytes(): Uint8Array<ArrayBuffer>;
  /** f32[rows, cols]; or f32[cols, rows], made once, because several peers want that. */
  dense(order: "as it is" | "transposed"): Float32Array<ArrayBuffer>;
}

/** A matrix filled from the pool of its format. */
export function poolWeight(format: Format, rows: number, cols: number): PoolWeight {
  const pool = poolOf(format);
  const { values } = pool;
  let transposed: Float32Array<ArrayBuffer> | null = null;
  const at = (row: number, col: number) => values[(row * cols + col) % values.length]!;
  return {
    format,
    rows,
    cols,
    byteLength: bytesOf(format, rows * cols),
    source: {
      name: `${format}[${rows}, ${cols}]`,
      // Formats that a backend does not know are its to refuse: see supportsFormat.
      format: format as WeightFormat,
      rows,
      cols,
      read(target, byteOffset) {
        fillFromPool(pool, target, byteOffset);
        return Promise.resolve();
      },
    },
    at,
    bytes() {
      const bytes = new Uint8Array(bytesOf(format, rows * cols));
      fillFromPool(pool, bytes, 0);
      return bytes;
    },
    dense(order) {
      if (order === "transposed" && transposed !== null) return transposed;
      const out = new Float32Array(rows * cols);
      for (let at = 0; at < out.length; at += values.length) {
        out.set(values.subarray(0, Math.min(values.length, out.length - at)), at);
      }
      if (order === "as it is") return out;
      return transposed = transpose(out, rows, cols);
    },
  };
}

/** f32[rows, cols] to f32[cols, rows]; some rows at once, or each write would be to another page. */
function transpose(from: Float32Array, rows: number, cols: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(from.length);
  const tile = 16;
  for (let start = 0; start < rows; start += tile) {
    const end = Math.min(rows, start + tile);
    for (let col = 0; col < cols; col++) {
      for (let row = start; row < end; row++) out[col * rows + row] = from[row * cols + col]!;
    }
  }
  return out;
}
