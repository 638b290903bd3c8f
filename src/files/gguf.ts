/**
 * GGUF, versions 2 and 3, little-endian: metadata, tensor infos, tensors. Only what stands before
 * the tensors is read here.
 *
 * Every count is checked against a named bound and against the bytes that are left before it sizes
 * anything.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import { type ByteSource, readBytes } from "./byte_source.ts";
import { shorten, show } from "./json.ts";
import {
  countElements,
  type MetadataArray,
  type MetadataValue,
  type TensorInfo,
  type TensorTable,
} from "./tensor_table.ts";

/**
 * All that may stand before the tensors, in bytes; a vocabulary of 262,144 tokens takes about 16
 * MB.
 */
export const MAX_GGUF_HEADER_BYTES: number = 128 * 2 ** 20;
/** The most metadata pairs; models have about 40. */
export const MAX_GGUF_PAIRS: number = 65_536;
/** The most tensors; the largest known models have some thousand. */
export const MAX_GGUF_TENSORS: number = 262_144;
/** The longest string, in bytes. */
export const MAX_GGUF_STRING_BYTES: number = 16 * 2 ** 20;
/** The longest metadata key, in bytes: the format's own limit. */
export const MAX_GGUF_KEY_BYTES: number = 65_535;
/** The longest tensor name, in bytes; the format says 64, some writers more. */
export const MAX_GGUF_NAME_BYTES: number = 1024;
/** The most dimensions of a tensor: the format's own limit. */
export const MAX_GGUF_DIMENSIONS: number = 4;
/** How deep arrays may be nested. */
export const MAX_GGUF_ARRAY_DEPTH: number = 4;
/**
 * The most texts and truths in arrays, in all: in memory each takes many times its bytes in the file.
 * The largest known vocabulary and its merges are about 800,000.
 */
export const MAX_GGUF_ITEMS: number = 2 ** 23;
/** The most arrays in arrays, in all, for the same reason; no known model has any. */
export const MAX_GGUF_NESTED_ARRAYS: number = 4096;
/** The largest alignment of tensors, in bytes. */
export const MAX_GGUF_ALIGNMENT: number = 2 ** 20;

/**
 * The name of each tensor type, the numbers in a block of it, and the block's bytes. By ggml's type
 * number.
 */
const TENSOR_TYPES: ReadonlyMap<number, readonly [name: string, numbers: number, bytes: number]> =
  new Map([
    [0, ["F32", 1, 4]],
    [1, ["F16", 1, 2]],
    [2, ["Q4_0", 32, 18]],
    [3, ["Q4_1", 32, 20]],
    [6, ["Q5_0", 32, 22]],
    [7, ["Q5_1", 32, 24]],
    [8, ["Q8_0", 32, 34]],
    [9, ["Q8_1", 32, 36]],
    [10, ["Q2_K", 256, 84]],
    [11, ["Q3_K", 256, 110]],
    [12, ["Q4_K", 256, 144]],
    [13, ["Q5_K", 256, 176]],
    [14, ["Q6_K", 256, 210]],
    [15, ["Q8_K", 256, 292]],
    [16, ["IQ2_XXS", 256, 66]],
    [17, ["IQ2_XS", 256, 74]],
    [18, ["IQ3_XXS", 256, 98]],
    [19, ["IQ1_S", 256, 50]],
    [20, ["IQ4_NL", 32, 18]],
    [21, ["IQ3_S", 256, 110]],
    [22, ["IQ2_S", 256, 82]],
    [23, ["IQ4_XS", 256, 136]],
    [24, ["I8", 1, 1]],
    [25, ["I16", 1, 2]],
    [26, ["I32", 1, 4]],
    [27, ["I64", 1, 8]],
    [28, ["F64", 1, 8]],
    [29, ["IQ1_M", 256, 56]],
    [30, ["BF16", 1, 2]],
    [34, ["TQ1_0", 256, 54]],
    [35, ["TQ2_0", 256, 66]],
    [39, ["MXFP4", 32, 17]],
  ]);

/** Metadata value types that are single numbers: their bytes, and the array that holds many. */
const NUMBERS = new Map<number, { bytes: number; array: (buffer: ArrayBuffer) => MetadataArray }>([
  [0, { bytes: 1, array: (b) => new Uint8Array(b) }],
  [1, { bytes: 1, array: (b) => new Int8Array(b) }],
  [2, { bytes: 2, array: (b) => new Uint16Array(b) }],
  [3, { bytes: 2, array: (b) => new Int16Array(b) }],
  [4, { bytes: 4, array: (b) => new Uint32Array(b) }],
  [5, { bytes: 4, array: (b) => new Int32Array(b) }],
  [6, { bytes: 4, array: (b) => new Float32Array(b) }],
  [10, { bytes: 8, array: (b) => new BigUint64Array(b) }],
  [11, { bytes: 8, array: (b) => new BigInt64Array(b) }],
  [12, { bytes: 8, array: (b) => new Float64Array(b) }],
]);
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

const MAGIC = 0x46554747;
/** A first guess at the header's size; small models need no second read. */
const FIRST_READ_BYTES = 256 * 2 ** 10;

/**
 * Reads the header of a GGUF file.
 *
 * @returns All tensors, shapes outermost first, and the metadata as it stands.
 * @throws {ModelFormatError} If anything of it is not as the format says; with the place.
 */
export async function readGguf(source: ByteSource): Promise<TensorTable> {
  const limit = Math.min(source.byteLength, MAX_GGUF_HEADER_BYTES);
  let bytes = await readBytes(source, 0, Math.min(limit, FIRST_READ_BYTES));
  while (true) {
    const cursor = new Cursor(source, bytes);
    try {
      return readHeader(cursor);
    } catch (error) {
      if (error !== MORE_BYTES) throw error;
    }
    // The parser ran into the end of what was read: start again with four times as much, which
    // costs a third more in all than knowing the size, and lets the parser be synchronous.
    const more = new Uint8Array(Math.min(limit, Math.max(4 * bytes.length, cursor.needed)));
    more.set(bytes);
    await source.read(more.subarray(bytes.length), bytes.length);
    bytes = more;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Thrown by a cursor at the end of what was read, where the file goes on. */
const MORE_BYTES = Symbol("more bytes");

/** Reads little-endian values in order, from the part of the file that is in memory. */
class Cursor {
  readonly source: ByteSource;
  /** Of the next byte, in the file. */
  offset = 0;
  /** How much of the file must be in memory, after `MORE_BYTES` was thrown. */
  needed = 0;
  /** What the arrays so far have in them: texts and truths, and arrays. */
  items = 0;
  nestedArrays = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  constructor(source: ByteSource, bytes: Uint8Array<ArrayBuffer>) {
    this.source = source;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  fail(message: string, byteOffset = this.offset): never {
    throw new ModelFormatError(
      `Cannot read GGUF header: ${message}`,
      this.source.name,
      byteOffset,
    );
  }

  /** Bytes of the file from here on, the tensors included. */
  get left(): number {
    return this.source.byteLength - this.offset;
  }

  /** Moves on by `length` bytes and returns where they began. */
  take(length: number, what: string): number {
    const start = this.offset;
    if (length > this.left) {
      this.fail(`${what} must be within the file, needs ${length} bytes, only ${this.left} left`);
    }
    if (start + length > MAX_GGUF_HEADER_BYTES) {
      this.fail(
        `${what} must be within the first ${MAX_GGUF_HEADER_BYTES} bytes, ends at ${
          start + length
        }`,
      );
    }
    if (start + length > this.#bytes.length) {
      this.needed = start + length;
      throw MORE_BYTES;
    }
    this.offset += length;
    return start;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  u64(what: string): bigint {
    return this.#view.getBigUint64(this.take(8, what), true);
  }

  /** A u64 that counts things of at least `itemBytes` bytes each, which must be in the file. */
  count(what: string, most: number, itemBytes: number): number {
    const start = this.offset;
    const count = this.u64(what);
    if (count > BigInt(most)) this.fail(`${what} must be at most ${most}, got ${count}`, start);
    if (Number(count) * itemBytes > this.left) {
      this.fail(
        `${what} is ${count}, for which the ${this.left} bytes left are too few`,
        start,
      );
    }
    return Number(count);
  }

  string(what: string, most: number): string {
    const length = this.count(`the length of ${what}`, most, 1);
    const start = this.take(length, what);
    try {
      return utf8.decode(this.#bytes.subarray(start, start + length));
    } catch {
      return this.fail(`${what} must be UTF-8`, start);
    }
  }

  bool(what: string): boolean {
    const start = this.take(1, what);
    const value = this.#view.getUint8(start);
    return value <= 1 ? value === 1 : this.fail(`${what} must be 0 or 1, got ${value}`, start);
  }

  /**
   * `count` numbers of a type, copied, so that they neither hold the header in memory nor need
   * alignment.
   */
  numbers(type: number, count: number, what: string): MetadataArray {
    const { bytes, array } = NUMBERS.get(type)!;
    const start = this.take(count * bytes, what);
    return array(this.#bytes.buffer.slice(start, start + count * bytes));
  }
}

function readHeader(cursor: Cursor): TensorTable {
  const { source } = cursor;
  const magic = cursor.u32("the magic number");
  if (magic !== MAGIC) {
    cursor.fail(`magic must be 0x${MAGIC.toString(16)} ("GGUF"), got 0x${magic.toString(16)}`, 0);
  }
  const version = cursor.u32("the version");
  if (version !== 2 && version !== 3) {
    const bigEndian = version === 0x02000000 || version === 0x03000000;
    cursor.fail(
      `the version must be 2 or 3, got ${bigEndian ? "a big-endian file" : version}`,
      4,
    );
  }
  // A pair is at least a key's length, a type and a byte; a tensor a name's length, a count, a type
  // and an offset.
  const tensorCount = cursor.count("the number of tensors", MAX_GGUF_TENSORS, 24);
  const pairCount = cursor.count("the number of metadata pairs", MAX_GGUF_PAIRS, 13);

  const metadata = new Map<string, MetadataValue>();
  for (let i = 0; i < pairCount; i++) {
    const start = cursor.offset;
    const key = cursor.string(`metadata key ${i}`, MAX_GGUF_KEY_BYTES);
    const quoted = `"${shorten(key)}"`;
    if (metadata.has(key)) cursor.fail(`metadata key ${quoted} must not be given twice`, start);
    metadata.set(key, readValue(cursor, cursor.u32(`the type of ${quoted}`), quoted, 0));
  }
  const alignment = metadata.get("general.alignment") ?? 32;
  if (
    typeof alignment !== "number" || !Number.isInteger(alignment) || alignment < 8 ||
    alignment % 8 !== 0 || alignment > MAX_GGUF_ALIGNMENT
  ) {
    return cursor.fail(
      `"general.alignment" must be a multiple of 8 from 8 to ${MAX_GGUF_ALIGNMENT}, got ${
        show(alignment)
      }`,
    );
  }

  const infos = [];
  for (let i = 0; i < tensorCount; i++) infos.push(readTensorInfo(cursor, i));
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  const tensors = new Map<string, TensorInfo>();
  for (const { at, name, dtype, shape, byteLength, offset } of infos) {
    const quoted = `"${shorten(name)}"`;
    if (tensors.has(name)) cursor.fail(`tensor ${quoted} must not be given twice`, at);
    const byteOffset = dataStart + Number(offset);
    if (Number(offset) % alignment !== 0) {
      cursor.fail(`the offset of ${quoted} must be a multiple of ${alignment}, got ${offset}`, at);
    }
    if (!(byteOffset + byteLength <= source.byteLength)) {
      cursor.fail(
        `tensor ${quoted} must be within the file's ${source.byteLength} bytes, ` +
          `got ${byteLength} bytes from byte ${dataStart} + ${offset} on`,
        at,
      );
    }
    tensors.set(name, { name, dtype, shape, source, byteOffset, byteLength });
  }
  checkOverlaps(tensors, cursor);
  return { name: source.name, format: "gguf", tensors, metadata };
}

function readValue(cursor: Cursor, type: number, what: string, depth: number): MetadataValue {
  if (type === STRING) return cursor.string(what, MAX_GGUF_STRING_BYTES);
  if (type === BOOL) return cursor.bool(what);
  if (type === ARRAY) return readArray(cursor, what, depth);
  if (!NUMBERS.has(type)) {
    cursor.fail(`the type of ${what} must be from 0 to 12, got ${type}`, cursor.offset - 4);
  }
  const value = (cursor.numbers(type, 1, what) as ArrayLike<number | bigint>)[0]!;
  return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function readArray(cursor: Cursor, what: string, depth: number): MetadataArray {
  if (depth === MAX_GGUF_ARRAY_DEPTH) {
    cursor.fail(`arrays in ${what} must be nested at most ${MAX_GGUF_ARRAY_DEPTH} deep`);
  }
  const type = cursor.u32(`the type of the items of ${what}`);
  const length = (itemBytes: number) =>
    cursor.count(`the length of ${what}`, MAX_GGUF_HEADER_BYTES, itemBytes);
  if (NUMBERS.has(type)) return cursor.numbers(type, length(NUMBERS.get(type)!.bytes), what);
  // No array is sized before its items are read: each takes the bytes that it stands for.
  const fill = <T>(count: number, read: () => T): T[] => {
    if (type === ARRAY) cursor.nestedArrays += count;
    else cursor.items += count;
    if (cursor.items > MAX_GGUF_ITEMS || cursor.nestedArrays > MAX_GGUF_NESTED_ARRAYS) {
      cursor.fail(
        `arrays must hold at most ${MAX_GGUF_ITEMS} texts and truths, and ` +
          `${MAX_GGUF_NESTED_ARRAYS} arrays, in all, got ${count} more in ${what}`,
      );
    }
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read());
    return items;
  };
  switch (type) {
    case STRING:
      return fill(length(8), () => cursor.string(what, MAX_GGUF_STRING_BYTES));
    case BOOL:
      return fill(length(1), () => cursor.bool(what));
    case ARRAY:
      return fill(length(12), () => readArray(cursor, what, depth + 1));
  }
  return cursor.fail(
    `the type of the items of ${what} must be from 0 to 12, got ${type}`,
    cursor.offset - 4,
  );
}

/** A tensor info before the place of the data is known; `at` is where it stands in the header. */
interface RawTensorInfo {
  readonly at: number;
  readonly name: string;
  readonly dtype: string;
  readonly shape: number[];
  readonly byteLength: number;
  readonly offset: bigint;
}

function readTensorInfo(cursor: Cursor, i: number): RawTensorInfo {
  const at = cursor.offset;
  const name = cursor.string(`the name of tensor ${i}`, MAX_GGUF_NAME_BYTES);
  const quoted = `"${shorten(name)}"`;
  const dimensions = cursor.u32(`the number of dimensions of ${quoted}`);
  if (dimensions > MAX_GGUF_DIMENSIONS) {
    cursor.fail(
      `${quoted} must have at most ${MAX_GGUF_DIMENSIONS} dimensions, got ${dimensions}`,
      at,
    );
  }
  const sizes: bigint[] = [];
  for (let d = 0; d < dimensions; d++) sizes.push(cursor.u64(`a dimension of ${quoted}`));
  const typeNumber = cursor.u32(`the type of ${quoted}`);
  const offset = cursor.u64(`the offset of ${quoted}`);
  const [dtype, blockNumbers, blockBytes] = TENSOR_TYPES.get(typeNumber) ??
    cursor.fail(`the type of ${quoted} must be one that is known, got ${typeNumber}`, at);

  const shape = sizes.map(Number).reverse();
  const elements = shape.every(Number.isSafeInteger) ? countElements(shape) : null;
  // Times 8 because no block takes more bytes per number.
  if (elements === null || !Number.isSafeInteger(elements * 8)) {
    return cursor.fail(
      `the shape of ${quoted} must have fewer than 2^50 numbers, got [${sizes}]`,
      at,
    );
  }
  if ((shape.at(-1) ?? 1) % blockNumbers !== 0) {
    cursor.fail(`a row of ${quoted} must be a multiple of ${dtype}'s ${blockNumbers} numbers`, at);
  }
  const byteLength = elements / blockNumbers * blockBytes;
  return { at, name, dtype, shape, byteLength, offset };
}

function checkOverlaps(tensors: ReadonlyMap<string, TensorInfo>, cursor: Cursor): void {
  const ordered = [...tensors.values()].sort((a, b) =>
    a.byteOffset - b.byteOffset || a.byteLength - b.byteLength
  );
  let end = 0;
  for (const { name, byteOffset, byteLength } of ordered) {
    if (byteOffset < end) {
      cursor.fail(`tensor "${shorten(name)}" must not overlap the one before it`, byteOffset);
    }
    end = byteOffset + byteLength;
  }
}
