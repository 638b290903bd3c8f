/**
 * Tokens as they are given out, and where they start in an input that normalization has changed.
 *
 * @module
 */

import type { LengthChange } from "./normalization.ts";

/** Tokens, and the stretch of the input that they cover. */
export interface EncodedTokens {
  readonly tokens: Uint32Array;
  /** Bytes of the input, as UTF-8, that the tokens cover. */
  readonly byteLength: number;
  /**
   * Where tokens do not start at the sum of the lengths of those before; ascending. Within a word
   * that normalization changed, its tokens' places are approximate.
   */
  readonly anchors: readonly TokenAnchor[];
}

/** Where a token starts in the input. */
export interface TokenAnchor {
  /** Index of the token; may be the number of tokens, for the end. */
  readonly index: number;
  /** Bytes before it. */
  readonly byteOffset: number;
}

/** Tokens for which there is room from the start. */
const ROOM = 1024;

/** The room that is kept when its tokens are given away. */
const MOST_ROOM = 1 << 18;

/** Collects tokens of a normalized text, in order; knows what bytes of the input they cover. */
export class TokenPlaces {
  /**
   * Where lengths have changed between the input and the normalized text; ascending. Those of text
   * that is not encoded yet are added here.
   */
  readonly changes: LengthChange[];

  #nextChange = 0;
  #textStart = 0; // how much of the normalized text is encoded, in UTF-16 units

  // What the next take gives away.
  #tokens = new Uint32Array(ROOM);
  #length = 0;
  #byteLength = 0;
  #predicted = 0; // bytes that the tokens themselves account for since the last anchor
  #anchors: TokenAnchor[] = [];

  /** A place at the start of a text, but for a fork's. */
  constructor(changes: LengthChange[] = []) {
    this.changes = changes;
  }

  /** How much of the normalized text is encoded, in UTF-16 units. */
  get textStart(): number {
    return this.#textStart;
  }

  /**
   * Adds a word's tokens.
   *
   * @param tokenBytes What the tokens' lengths add up to.
   * @param byteLength Bytes of the input that they cover, but for the changes.
   * @param textLength How much of the normalized text they are, in UTF-16 units.
   */
  push(
    ids: readonly number[],
    tokenBytes: number,
    byteLength: number,
    textLength: number,
  ): void {
    this.#settle();
    this.#reserve(ids.length);
    for (const id of ids) this.#tokens[this.#length++] = id;
    this.#predicted += tokenBytes;
    this.#byteLength += byteLength;
    this.#textStart += textLength;
    this.#settle();
  }

  /** Passes over normalized text that has no tokens; `byteLength` of the input, the next token's at the latest. */
  skip(textLength: number, byteLength = 0): void {
    this.#textStart += textLength;
    this.#byteLength += byteLength;
  }

  /** Puts a space, of so many units, in front of the text to come: one byte that the input has not. */
  addSpace(length: number): void {
    this.#textStart -= length;
    this.changes.splice(this.#nextChange, 0, { end: this.#textStart + 1, bytes: -1 });
  }

  /** Takes back what {@linkcode TokenPlaces.addSpace} did, if nothing was pushed since. */
  removeSpace(length: number): void {
    this.#textStart += length;
    this.changes.splice(this.#nextChange, 1);
  }

  /** Drops the changes that lie behind: what is settled need not be kept until everything is. */
  dropSettled(): void {
    this.changes.splice(0, this.#nextChange);
    this.#nextChange = 0;
  }

  /** Gives the tokens away. */
  take(): EncodedTokens {
    const result = {
      tokens: this.#tokens.slice(0, this.#length),
      byteLength: this.#byteLength,
      anchors: this.#anchors,
    };
    // The room for one long text is not kept.
    if (this.#tokens.length > MOST_ROOM) this.#tokens = new Uint32Array(ROOM);
    this.#length = this.#byteLength = this.#predicted = 0;
    this.#anchors = [];
    return result;
  }

  /** Gives the last tokens of a text away. */
  takeLast(): EncodedTokens {
    this.#settle();
    return this.take();
  }

  /** The same place, without tokens that were not given away. */
  fork(): TokenPlaces {
    const fork = new TokenPlaces(this.changes.slice());
    fork.#nextChange = this.#nextChange;
    fork.#textStart = this.#textStart;
    return fork;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#tokens.length) return;
    const larger = new Uint32Array(2 * (this.#length + count));
    larger.set(this.#tokens);
    this.#tokens = larger;
  }

  /** Counts the changes that lie behind, and notes where tokens do not account for the bytes. */
  #settle(): void {
    while (
      this.#nextChange < this.changes.length &&
      this.changes[this.#nextChange]!.end <= this.#textStart
    ) this.#byteLength += this.changes[this.#nextChange++]!.bytes;
    if (this.#nextChange === this.changes.length) this.changes.length = this.#nextChange = 0;
    if (this.#predicted === this.#byteLength) return;
    this.#predicted = this.#byteLength;
    this.#anchors.push({ index: this.#length, byteOffset: this.#byteLength });
  }
}
