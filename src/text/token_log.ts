/**
 * What was read: token ids, and where each started in the input.
 *
 * @module
 */

import type { TokenAnchor } from "./token_places.ts";

/** Tokens per chunk. A full chunk never changes, so forks share it. */
const CHUNK_LENGTH = 1 << 12;

/** Tokens between two anchors at most: what `byteOffset` adds up at most. */
const ANCHOR_DISTANCE = 1024;

/** Numbers of an anchor in a file: index, byte offset, whether it is input. */
export const ANCHOR_NUMBERS = 3;

/** Where a token starts in the input, and whether those from it on are input at all. */
interface Anchor {
  /** Index of the token in the sequence. */
  readonly index: number;
  /** Bytes of input before it. */
  readonly byteOffset: number;
  /** False where the tokens come from no input, such as generated ones. */
  readonly isInput: boolean;
}

/**
 * The tokens of a sequence, 4 bytes each, and their places in the input. Growing never copies what
 * is there; a fork shares all full chunks.
 *
 * @example Usage
 * ```ts
 * import { TokenLog } from "./token_log.ts";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const log = new TokenLog((token) => token); // token n has n bytes
 * log.append([9], null); // comes from no input
 * log.append([3, 4, 5], 12);
 * equal(log.byteOffset(1), 0);
 * equal(log.byteOffset(3), 7);
 * equal(log.byteOffset(4), 12);
 * deepEqual(log.slice(1, 3), new Uint32Array([3, 4]));
 * ```
 */
export class TokenLog {
  readonly #tokenLength: (token: number) => number;
  #chunks: Uint32Array[] = [];
  #anchors: Anchor[] = [];
  #length = 0;
  #byteLength = 0;

  /** @param tokenLength A token's length in bytes, such as `tokenizer.tokenBytes(token).length`. */
  constructor(tokenLength: (token: number) => number) {
    this.#tokenLength = tokenLength;
  }

  /** Tokens in the sequence. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of input that the tokens cover. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /**
   * Adds tokens.
   *
   * @param tokens Their ids.
   * @param byteLength Bytes of input that they cover; null where they come from no input.
   * @param anchors Where some of them start in those bytes, if not at the sum of the lengths before.
   * @throws {RangeError} If `byteLength` is not a count.
   */
  append(
    tokens: ArrayLike<number>,
    byteLength: number | null,
    anchors: readonly TokenAnchor[] = [],
  ): void {
    if (byteLength !== null && !(Number.isSafeInteger(byteLength) && byteLength >= 0)) {
      throw new RangeError(
        `Cannot log tokens: byteLength must be a count of bytes or null, got ${byteLength}`,
      );
    }
    const isInput = byteLength !== null;
    const start = this.#byteLength;
    let offset = start;
    let nextAnchor = 0;
    const last = this.#anchors.at(-1);
    if (last === undefined || last.isInput !== isInput) this.#anchor(offset, isInput);
    for (let i = 0; i < tokens.length; i++) {
      if (isInput) {
        while (nextAnchor < anchors.length && anchors[nextAnchor]!.index <= i) {
          offset = start + anchors[nextAnchor++]!.byteOffset;
          this.#anchor(offset, true);
        }
        if (this.#length - this.#anchors.at(-1)!.index >= ANCHOR_DISTANCE) {
          this.#anchor(offset, true);
        }
      }
      const at = this.#length % CHUNK_LENGTH;
      if (at === 0) this.#chunks.push(new Uint32Array(CHUNK_LENGTH));
      this.#chunks.at(-1)![at] = tokens[i]!;
      this.#length++;
      if (isInput) offset += this.#tokenLength(tokens[i]!);
    }
    if (!isInput) return;
    this.#byteLength = start + byteLength;
    if (offset !== this.#byteLength) this.#anchor(this.#byteLength, true);
  }

  /** Notes where the next token starts. */
  #anchor(byteOffset: number, isInput: boolean): void {
    if (this.#anchors.at(-1)?.index === this.#length) this.#anchors.pop();
    this.#anchors.push({ index: this.#length, byteOffset, isInput });
  }

  /**
   * Where a token starts in the input, in bytes of UTF-8. A token that comes from no input is where
   * the input before it ends. Takes at most 1024 additions.
   *
   * @param index A token's index, or `length` for the end.
   * @throws {RangeError} If the index is not within the sequence.
   */
  byteOffset(index: number): number {
    this.#check(index, index);
    let low = 0;
    let high = this.#anchors.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#anchors[middle]!.index <= index) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return 0;
    const { index: from, byteOffset, isInput } = this.#anchors[low - 1]!;
    if (!isInput) return byteOffset;
    let offset = byteOffset;
    for (let t = from; t < index; t++) offset += this.#tokenLength(this.#token(t));
    // What the tokens say may be more than the input had; never beyond the next known place.
    return Math.min(offset, this.#anchors[low]?.byteOffset ?? this.#byteLength);
  }

  /**
   * The tokens [start, end), a copy.
   *
   * @throws {RangeError} If the range is not within the sequence.
   */
  slice(start = 0, end: number = this.#length): Uint32Array {
    this.#check(start, end);
    const tokens = new Uint32Array(end - start);
    for (let t = start; t < end;) {
      const at = t % CHUNK_LENGTH;
      const count = Math.min(CHUNK_LENGTH - at, end - t);
      tokens.set(this.#chunks[Math.floor(t / CHUNK_LENGTH)]!.subarray(at, at + count), t - start);
      t += count;
    }
    return tokens;
  }

  /**
   * The text of the tokens [start, end).
   *
   * @param decode Such as `(tokens) => tokenizer.decode(tokens, { continuation: true })`.
   * @throws {RangeError} If the range is not within the sequence.
   */
  textOf(decode: (tokens: Uint32Array) => string, start: number, end: number): string {
    return decode(this.slice(start, end));
  }

  /**
   * Forgets all tokens from `length` on.
   *
   * @throws {RangeError} If `length` is not within the sequence.
   */
  truncate(length: number): void {
    this.#check(0, length);
    if (length === this.#length) return;
    const byteLength = this.byteOffset(length);
    const kept = Math.ceil(length / CHUNK_LENGTH);
    // A chunk that was full may be shared, and is about to change.
    if (length % CHUNK_LENGTH !== 0) this.#chunks[kept - 1] = this.#chunks[kept - 1]!.slice();
    this.#chunks.length = kept;
    while (this.#anchors.length > 0 && this.#anchors.at(-1)!.index >= length) this.#anchors.pop();
    const last = this.#anchors.at(-1);
    if (last !== undefined) {
      this.#anchors.push({ index: length, byteOffset: byteLength, isInput: last.isInput });
    }
    this.#length = length;
    this.#byteLength = byteLength;
  }

  /** A second log of the same tokens, which grows by itself. */
  fork(): TokenLog {
    const fork = new TokenLog(this.#tokenLength);
    fork.#chunks = this.#chunks.slice();
    if (this.#length % CHUNK_LENGTH !== 0) fork.#chunks.push(fork.#chunks.pop()!.slice());
    fork.#anchors = this.#anchors.slice();
    fork.#length = this.#length;
    fork.#byteLength = this.#byteLength;
    return fork;
  }

  /** Known places in the input: what {@linkcode TokenLog.readAnchors} can give. */
  get numAnchors(): number {
    return this.#anchors.length;
  }

  /** out = the anchors from `start` on, f64[anchors, {@linkcode ANCHOR_NUMBERS}]. */
  readAnchors(out: Float64Array, start: number): void {
    for (let at = 0; at < out.length; at += ANCHOR_NUMBERS) {
      const { index, byteOffset, isInput } = this.#anchors[start + at / ANCHOR_NUMBERS]!;
      out.set([index, byteOffset, isInput ? 1 : 0], at);
    }
  }

  /** Takes over tokens of a log that was kept; their places follow with {@linkcode TokenLog.restoreAnchors}. */
  restoreTokens(tokens: Uint32Array): void {
    for (let t = 0; t < tokens.length;) {
      const at = this.#length % CHUNK_LENGTH;
      if (at === 0) this.#chunks.push(new Uint32Array(CHUNK_LENGTH));
      const count = Math.min(CHUNK_LENGTH - at, tokens.length - t);
      this.#chunks.at(-1)!.set(tokens.subarray(t, t + count), at);
      this.#length += count;
      t += count;
    }
  }

  /**
   * Takes over anchors of a log that was kept, after all of its tokens.
   *
   * @param numbers As {@linkcode TokenLog.readAnchors} gives them.
   * @param byteLength Bytes of input that the whole log covers.
   * @throws {RangeError} If they do not follow one another within the log.
   */
  restoreAnchors(numbers: Float64Array, byteLength: number): void {
    for (let at = 0; at < numbers.length; at += ANCHOR_NUMBERS) {
      const last = this.#anchors.at(-1) ?? { index: -1, byteOffset: 0 };
      const [index, byteOffset, isInput] = numbers.subarray(at, at + ANCHOR_NUMBERS);
      const isPlace = Number.isSafeInteger(index) && index! > last.index &&
        index! <= this.#length &&
        Number.isSafeInteger(byteOffset) && byteOffset! >= last.byteOffset &&
        byteOffset! <= byteLength && (isInput === 0 || isInput === 1);
      if (!isPlace) {
        throw new RangeError(
          `Cannot restore a log: anchors must ascend within ${this.#length} tokens and ${byteLength} bytes, got ` +
            `token ${index} at byte ${byteOffset}, kind ${isInput}, after token ${last.index} at byte ${last.byteOffset}`,
        );
      }
      this.#anchors.push({ index: index!, byteOffset: byteOffset!, isInput: isInput === 1 });
    }
    this.#byteLength = byteLength;
  }

  #token(t: number): number {
    return this.#chunks[Math.floor(t / CHUNK_LENGTH)]![t % CHUNK_LENGTH]!;
  }

  #check(start: number, end: number): void {
    if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end) {
      if (end <= this.#length) return;
    }
    throw new RangeError(
      `Cannot read the log: token indices must be within 0 to ${this.#length}, got ${
        start === end ? start : `${start} to ${end}`
      }`,
    );
  }
}
