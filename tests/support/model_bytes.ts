/**
 * Model files made by tests, honest or not: every field can be set to a lie.
 *
 * @module
 */

import type { ByteSource } from "../../src/files/byte_source.ts";

/** One entry of a safetensors header. */
export interface SafetensorsEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly number[];
}

const utf8 = new TextEncoder();

/**
 * A safetensors file of a header, as JSON or as text that need not be any, and `dataBytes` zeros.
 */
export function safetensorsBytes(
  header: string | Readonly<Record<string, unknown>>,
  dataBytes = 0,
  headerLength?: bigint,
): Uint8Array<ArrayBuffer> {
  const text = utf8.encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

/** GGUF's numbers for the types of metadata. */
export const GGUF = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** Bytes, one value after the other, little-endian. */
export class ByteWriter {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  raw(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }

  u32(value: number): this {
    return this.raw(new Uint8Array(new Uint32Array([value]).buffer));
  }

  u64(value: number | bigint): this {
    return this.raw(new Uint8Array(new BigUint64Array([BigInt(value)]).buffer));
  }

  string(text: string): this {
    const bytes = utf8.encode(text);
    return this.u64(bytes.length).raw(bytes);
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#bytes);
  }
}

/** One tensor info; the dimensions in GGUF's order, innermost first. */
export interface GgufTensor {
  readonly name: string;
  readonly dimensions: readonly (number | bigint)[];
  readonly type?: number;
  readonly offset?: number | bigint;
}

/** Parts of a GGUF file. A pair's value is written after its key: its type, then its bytes. */
export interface GgufParts {
  readonly magic?: number;
  readonly version?: number;
  readonly pairs?: readonly (readonly [key: string, type: number, value: Iterable<number>])[];
  readonly tensors?: readonly GgufTensor[];
  readonly tensorCount?: number | bigint;
  readonly pairCount?: number | bigint;
  readonly alignment?: number;
  readonly dataBytes?: number;
}

/** A GGUF file. */
export function ggufBytes(parts: GgufParts = {}): Uint8Array<ArrayBuffer> {
  const { pairs = [], tensors = [], alignment = 32 } = parts;
  const writer = new ByteWriter()
    .u32(parts.magic ?? 0x46554747)
    .u32(parts.version ?? 3)
    .u64(parts.tensorCount ?? tensors.length)
    .u64(parts.pairCount ?? pairs.length);
  for (const [key, type, value] of pairs) writer.string(key).u32(type).raw(value);
  for (const { name, dimensions, type = 0, offset = 0 } of tensors) {
    writer.string(name).u32(dimensions.length);
    for (const dimension of dimensions) writer.u64(dimension);
    writer.u32(type).u64(offset);
  }
  if (parts.dataBytes !== undefined) {
    while (writer.length % alignment !== 0) writer.raw([0]);
    writer.raw(new Uint8Array(parts.dataBytes));
  }
  return writer.bytes();
}

/** The bytes of a metadata value. */
export const ggufValue = {
  u32: (value: number): Uint8Array => new ByteWriter().u32(value).bytes(),
  u64: (value: number | bigint): Uint8Array => new ByteWriter().u64(value).bytes(),
  f32: (value: number): Uint8Array => new Uint8Array(new Float32Array([value]).buffer),
  string: (text: string): Uint8Array => new ByteWriter().string(text).bytes(),
  array: (type: number, length: number | bigint, items: Iterable<number>): Uint8Array =>
    new ByteWriter().u32(type).u64(length).raw(items).bytes(),
};

/** A source that counts what is asked of it, and claims a size of its own. */
export interface WatchedSource extends ByteSource {
  /** The largest single read, in bytes. */
  readonly largestRead: number;
  /** All reads together, in bytes. */
  readonly bytesRead: number;
}

/** The bytes given, then zeros up to `byteLength`. */
export function watchedSource(
  bytes: Uint8Array,
  name: string,
  byteLength = bytes.length,
): WatchedSource {
  const source = {
    name,
    byteLength,
    largestRead: 0,
    bytesRead: 0,
    read(target: Uint8Array, start: number): Promise<void> {
      if (start + target.length > byteLength) throw new Error("the reader passed the end");
      source.largestRead = Math.max(source.largestRead, target.length);
      source.bytesRead += target.length;
      target.fill(0);
      target.set(bytes.subarray(Math.min(start, bytes.length), start + target.length));
      return Promise.resolve();
    },
  };
  return source;
}
