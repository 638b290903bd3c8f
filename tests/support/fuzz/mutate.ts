/**
 * Damage to the parts of a file: the shapes of known holes in readers of such files, and chance.
 *
 * @module
 */

import { type Kind, numberBytes, numberIn, type Part } from "./parts.ts";

/** Numbers in [0, 1). */
export type Random = () => number;

/** Where sizes and products of sizes wrap, in 16, 32, 53, 63 and 64 bits, and where bounds are. */
export const BOUNDARIES: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  4n,
  7n,
  8n,
  9n,
  12n,
  24n,
  31n,
  32n,
  33n,
  64n,
  255n,
  256n,
  1024n,
  1025n,
  65535n,
  65536n,
  65537n,
  2n ** 20n,
  2n ** 20n + 8n,
  2n ** 22n,
  2n ** 24n,
  2n ** 27n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 31n + 8n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 32n + 1n,
  2n ** 33n,
  2n ** 40n,
  2n ** 48n,
  2n ** 50n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 2n,
  2n ** 60n,
  2n ** 61n,
  2n ** 62n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 63n + 32n,
  2n ** 64n - 32n,
  2n ** 64n - 8n,
  2n ** 64n - 1n,
];

/** Sizes of two dimensions whose product wraps to something small in 32, 53 or 64 bits. */
const PRODUCTS: readonly (readonly [bigint, bigint])[] = [
  [2n ** 32n, 2n ** 32n],
  [2n ** 31n, 2n ** 33n],
  [2n ** 63n, 2n],
  [2n ** 62n + 8n, 4n],
  [2n ** 16n, 2n ** 16n],
  [2n ** 27n, 2n ** 26n],
  [2n ** 53n, 2n ** 53n],
  [0n, 2n ** 64n - 1n],
  [2n ** 64n - 1n, 2n ** 64n - 1n],
  [3n, (2n ** 64n + 2n) / 3n],
];

const utf8 = new TextEncoder();

/** JSON numbers that are none for a reader, or hardly. */
const NUMBERS: readonly Uint8Array[] = [
  "0",
  "-0",
  "-1",
  "1",
  "2",
  "0.5",
  "1e2",
  "1e308",
  "1e309",
  "-1e309",
  "1e-400",
  "255",
  "256",
  "2147483648",
  "4294967296",
  "9007199254740991",
  "9007199254740992",
  "9223372036854775808",
  "18446744073709551616",
  "99999999999999999999999999999999",
  "01",
  "0x10",
  "NaN",
].map((text) => utf8.encode(text));

const WORDS: readonly Uint8Array[] = [
  "null",
  "true",
  "false",
  "[]",
  "{}",
  '""',
  "0",
  "[[]]",
  '{"a":{}}',
  "undefined",
  "[null]",
  '["a",1]',
].map((text) => utf8.encode(text));

const MARKS: readonly Uint8Array[] = [...'[]{},:"\\ 0'].map((text) => utf8.encode(text));

/** Names that mean something in JavaScript, in paths or in UTF-8. */
const TEXTS: readonly Uint8Array[] = [
  "",
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "length",
  "0",
  "-1",
  "4294967294",
  "../../etc/passwd",
  "/dev/zero",
  "a/b",
  "model.safetensors",
  "\0",
  "\u{1f600}",
  "\uFEFF",
  "e\u0301",
  "a".repeat(200),
  "F32",
  "F8_E4M3",
  "I64",
  "blk.0.attn_q.bias",
  "rope_freqs.weight",
  "output.weight",
  "general.alignment",
  "split.count",
  "tokenizer.ggml.tokens",
  "mistral",
  "qwen3",
  "yarn",
  "dynamic",
  "<0x00>",
  "\u2581",
  " ",
  "a b",
  "(",
].map((text) => utf8.encode(text));

const QUOTED: readonly Uint8Array[] = [
  ...TEXTS.map((text) => utf8.encode(JSON.stringify(new TextDecoder().decode(text)))),
  ...['"\\ud800"', '"\\u0000"', '"\\u0061"', '"\\x"', '"a', '"\'"', '"\n"'].map((text) =>
    utf8.encode(text)
  ),
];

/** Bytes that are no UTF-8: cut, overlong, a surrogate, beyond the last character. */
const NO_UTF8: readonly Uint8Array[] = [
  [0xff],
  [0xc3],
  [0xc0, 0x80],
  [0xed, 0xa0, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
].map((bytes) => Uint8Array.from(bytes));

/** An integer from 0 to `below` - 1. */
export function below(random: Random, below: number): number {
  return Math.floor(random() * below);
}

/** One of a list, which is not empty. */
export function oneOf<T>(random: Random, list: readonly T[]): T {
  return list[below(random, list.length)]!;
}

/** A number near another one, or near a boundary. */
function otherNumber(random: Random, before: bigint): bigint {
  const way = below(random, 8);
  if (way === 0) return before + 1n;
  if (way === 1) return before - 1n;
  if (way === 2) return before * BigInt(1 + below(random, 9));
  if (way === 3) return -before;
  if (way === 4) return before ^ 1n << BigInt(below(random, 64));
  return oneOf(random, BOUNDARIES) + (way === 5 ? BigInt(below(random, 33) - 16) : 0n);
}

/** Another content for a part. */
function damagedBytes(random: Random, { kind, bytes }: Part): Uint8Array {
  switch (kind) {
    case "count":
    case "type": {
      if (kind === "type" && random() < 0.7) {
        return numberBytes(BigInt(below(random, 42)), bytes.length);
      }
      const before = numberIn({ kind, bytes, group: 0 });
      return numberBytes(otherNumber(random, before), bytes.length);
    }
    case "number":
      return oneOf(random, NUMBERS);
    case "word":
      return oneOf(random, WORDS);
    case "mark":
      return oneOf(random, MARKS);
    case "string":
      return oneOf(random, random() < 0.2 ? WORDS : QUOTED);
    case "text":
      return random() < 0.2 ? oneOf(random, NO_UTF8) : oneOf(random, TEXTS);
    case "value": {
      if (bytes.length === 0) return bytes;
      const size = Math.min(8, bytes.length);
      const changed = bytes.slice();
      const at = below(random, bytes.length - size + 1);
      changed.set(numberBytes(oneOf(random, BOUNDARIES), size), at);
      return changed;
    }
  }
}

/** GGUF's arrays in arrays, and the items of the innermost. */
function nested(random: Random, depth: number): Uint8Array {
  const bytes = new Uint8Array(12 * depth);
  for (let i = 0; i < depth; i++) {
    const last = i === depth - 1;
    bytes.set(numberBytes(last ? BigInt(below(random, 14)) : 9n, 4), 12 * i);
    const length = last && random() < 0.5 ? oneOf(random, BOUNDARIES) : BigInt(below(random, 3));
    bytes.set(numberBytes(last ? length : 1n, 8), 12 * i + 4);
  }
  return bytes;
}

/** The first part and the one after the last of a group that some part belongs to. */
function groupAround(parts: readonly Part[], at: number): readonly [start: number, end: number] {
  const { group } = parts[at]!;
  let [start, end] = [at, at + 1];
  while (start > 0 && parts[start - 1]!.group === group) start--;
  while (end < parts.length && parts[end]!.group === group) end++;
  return [start, end];
}

/** The same length as its count says, if the part is a text with its count before it. */
function mendCount(parts: Part[], at: number): void {
  const before = parts[at - 1];
  if (parts[at]!.kind !== "text" || before?.kind !== "count") return;
  parts[at - 1] = { ...before, bytes: numberBytes(BigInt(parts[at]!.bytes.length), 8) };
}

/** Adds to one of GGUF's counts of tensors and pairs: the third and fourth part. */
function mendTotal(random: Random, parts: Part[], by: bigint): void {
  const at = 2 + below(random, 2);
  const part = parts[at];
  if (part?.kind !== "count") return;
  parts[at] = { ...part, bytes: numberBytes(numberIn(part) + by, part.bytes.length) };
}

/** Does one damage. */
export function damage(random: Random, parts: Part[]): void {
  if (parts.length === 0) return;
  const at = below(random, parts.length);
  const part = parts[at]!;
  const isHonest = random() < 0.8;
  const way = random();
  if (way < 0.5) {
    parts[at] = { ...part, bytes: damagedBytes(random, part) };
    if (isHonest) mendCount(parts, at);
  } else if (way < 0.6) {
    // What one part says, another of its kind says as well: names given twice above all.
    const kind: Kind = part.kind;
    const others = parts.filter((other) => other.kind === kind);
    parts[at] = { ...part, bytes: oneOf(random, others).bytes };
    if (isHonest) mendCount(parts, at);
  } else if (way < 0.7) {
    const [start, end] = groupAround(parts, at);
    const group = parts.slice(start, end);
    const [place] = groupAround(parts, below(random, parts.length));
    parts.splice(random() < 0.5 ? end : place, 0, ...group);
    if (isHonest) mendTotal(random, parts, 1n);
  } else if (way < 0.76) {
    const [start, end] = groupAround(parts, at);
    parts.splice(start, end - start);
    if (isHonest) mendTotal(random, parts, -1n);
  } else if (way < 0.82) {
    const depth = 1 + below(random, random() < 0.5 ? 6 : 70);
    if (part.kind === "count" || part.kind === "type" || part.kind === "value") {
      parts[at] = { ...part, bytes: nested(random, depth) };
      const before = parts[at - 1];
      if (before?.kind === "type") parts[at - 1] = { ...before, bytes: numberBytes(9n, 4) };
    } else {
      const marks = utf8.encode(random() < 0.5 ? "[".repeat(depth) : '{"a":'.repeat(depth));
      const ends = utf8.encode("]".repeat(random() < 0.5 ? depth : 0));
      parts.splice(at, 0, { ...part, kind: "mark", bytes: marks });
      parts.splice(at + 2, 0, { ...part, kind: "mark", bytes: ends });
    }
  } else if (way < 0.88) {
    const [one, other] = oneOf(random, PRODUCTS);
    const wanted = part.kind === "number" ? "number" : "count";
    const next = parts.findIndex(({ kind }, i) => i > at && kind === wanted);
    for (const [i, value] of [[at, one], [next, other]] as const) {
      const found = parts[i];
      if (found === undefined || found.kind !== wanted) continue;
      const bytes = wanted === "number"
        ? utf8.encode(String(value))
        : numberBytes(value, found.bytes.length);
      parts[i] = { ...found, bytes };
    }
  } else if (way < 0.92) {
    const other = below(random, parts.length);
    [parts[at], parts[other]] = [parts[other]!, part];
  } else if (way < 0.95) {
    parts.splice(at, 1 + below(random, 3));
  } else {
    const bytes = part.bytes.slice();
    if (bytes.length > 0) bytes[below(random, bytes.length)]! ^= 1 << below(random, 8);
    parts[at] = { ...part, bytes };
  }
}

/** Does damage to bytes as such, at any place. */
export function damageBytes(random: Random, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  const at = below(random, bytes.length);
  if (random() < 0.5) bytes[at]! ^= 1 << below(random, 8);
  else bytes.set(numberBytes(oneOf(random, BOUNDARIES), 8).subarray(0, bytes.length - at), at);
}
