/**
 * Model files in parts, so that damage can be done where it hurts: a count, a length, a name.
 *
 * Taken apart without the library's own readers.
 *
 * @module
 */

/** What a part of a file is. */
export type Kind =
  /** A number that sizes or places something: u32 or u64. */
  | "count"
  /** A u32 that says what follows. */
  | "type"
  /** UTF-8, after a count of its bytes. */
  | "text"
  /** Numbers of any size. */
  | "value"
  /** Between JSON's marks: a number, a string, a word. */
  | "number"
  | "string"
  | "word"
  /** One of JSON's marks. */
  | "mark";

/** A part of a file. */
export interface Part {
  readonly kind: Kind;
  readonly bytes: Uint8Array;
  /** What belongs together: a metadata pair, a tensor, a whole header. */
  readonly group: number;
}

const utf8 = new TextEncoder();

/** Bytes of a number, little-endian; what does not fit is cut off. */
export function numberBytes(value: bigint, size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes.slice(0, size);
}

/** A part's number; of a longer one its first 8 bytes. */
export function numberIn({ bytes }: Part): bigint {
  let value = 0n;
  for (let i = Math.min(8, bytes.length) - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[i]!);
  return value;
}

/** Bytes of GGUF's numbers by their types in metadata. */
const SIZES: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const STRING = 8;
const ARRAY = 9;

/** The parts of a whole GGUF header. Group 0 is what stands before the first pair. */
export function partsOfGguf(bytes: Uint8Array): Part[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Part[] = [];
  let at = 0;
  let group = 0;
  const take = (kind: Kind, size: number): Part => {
    const part = { kind, bytes: bytes.slice(at, at + size), group };
    parts.push(part);
    at += size;
    return part;
  };
  const count = (size: number) => Number(numberIn(take("count", size)));
  const type = () => Number(numberIn(take("type", 4)));
  const text = () => void take("text", count(8));
  const value = (of: number) => {
    if (of === STRING) return text();
    if (of !== ARRAY) return void take("value", SIZES[of]!);
    const item = type();
    const length = count(8);
    if (item !== STRING && item !== ARRAY) return void take("value", length * SIZES[item]!);
    for (let i = 0; i < length; i++) value(item);
  };
  type(); // the magic number
  type(); // the version
  const tensors = count(8);
  const pairs = count(8);
  for (let i = 0; i < pairs; i++) {
    group++;
    text();
    value(type());
  }
  for (let i = 0; i < tensors; i++) {
    group++;
    text();
    const dimensions = count(4);
    for (let d = 0; d < dimensions; d++) count(8);
    type();
    count(8);
  }
  if (at > view.byteLength) throw new RangeError("Cannot take a GGUF apart: it must be whole");
  return parts;
}

/** The parts of JSON, without white space. Groups are lists and objects, by their depth. */
export function partsOfJson(text: string): Part[] {
  const parts: Part[] = [];
  let group = 0;
  const token = /"(?:\\.|[^"\\])*"|-?[\d.]+(?:[eE][+-]?\d+)?|[a-z]+|[[\]{},:]/g;
  for (const [piece] of text.matchAll(token)) {
    const first = piece[0]!;
    if (first === "{" || first === "[") group++;
    const kind = first === '"'
      ? "string"
      : /[[\]{},:]/.test(first)
      ? "mark"
      : /[a-z]/.test(first)
      ? "word"
      : "number";
    parts.push({ kind, bytes: utf8.encode(piece), group });
    if (first === "}" || first === "]") group--;
  }
  return parts;
}

/** All parts, one after the other. */
export function joinParts(parts: readonly Part[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const { bytes } of parts) length += bytes.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const { bytes } of parts) {
    // Most have a few bytes, for which a call would take longer.
    for (let i = 0; i < bytes.length; i++) joined[at + i] = bytes[i]!;
    at += bytes.length;
  }
  return joined;
}

/** Bytes, one after the other. */
export function concatBytes(...pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

/** The same bytes so many times. */
export function repeatBytes(bytes: Uint8Array, times: number): Uint8Array<ArrayBuffer> {
  const repeated = new Uint8Array(bytes.length * times);
  repeated.set(bytes.subarray(0, repeated.length));
  for (let filled = bytes.length; filled < repeated.length; filled *= 2) {
    repeated.copyWithin(filled, 0, Math.min(filled, repeated.length - filled));
  }
  return repeated;
}
