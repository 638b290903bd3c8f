/**
 * Words to tokens by byte-pair encoding, however long a word is.
 *
 * The merging itself is the tokenizer package's. What is here rests on one property of it: if a
 * text's tokens have a boundary at some place, then the text's two sides, encoded alone, give the
 * same tokens; and whether there is a boundary depends on the two tokens beside it alone (no merge
 * of the rest can interfere; van Antwerpen and Neubeck 2024, github/rust-gems `bpe`).
 * So a word may be encoded in pieces, exactly, if they meet at a boundary that stays one.
 *
 * @module
 */

import { BYTE_CHARACTERS, byteOfCharacter, toByteAlphabet } from "./byte_alphabet.ts";
import { isHighSurrogate, isLowSurrogate, readLength } from "./normalization.ts";

/** Longer words are encoded in pieces: merging slows down, and takes memory, with the length. */
export const WORD_PIECE_LENGTH = 4096;

/** Only words up to this length, in UTF-16 units, are remembered. */
const MAX_CACHED_LENGTH = 48;

/** Remembered words; when there are more, all are forgotten. */
const MAX_CACHED_WORDS = 1 << 15;

/** Boundaries that are tried, from the end of a piece on, before one is taken untested. */
const MAX_BOUNDARIES_TRIED = 64;

/** What the encoder needs to know of a vocabulary. */
export interface BpeModel {
  /** Merges a word of the vocabulary's alphabet; the parts concatenate to it. */
  merge(word: string): readonly string[];
  /** Ids of vocabulary entries. */
  readonly ids: ReadonlyMap<string, number>;
  /** Whether the vocabulary's alphabet is one of bytes. */
  readonly byteLevel: boolean;
  /** Whether `"▁"` reads as a space. */
  readonly metaspace: boolean;
  /** Whether a part that is no entry is spelled in entries such as `<0x0A>`. */
  readonly byteFallback: boolean;
  /** What else stands for a part that is no entry; null: nothing does. */
  readonly unknown: number | null;
  /** Whether a word that is an entry is that token, without merging. */
  readonly ignoreMerges: boolean;
  /** The length of a token, in bytes. */
  tokenLength(id: number): number;
}

/** A word's tokens. */
export interface EncodedWord {
  readonly ids: readonly number[];
  /** The word's length as it reads, in bytes of UTF-8. */
  readonly byteLength: number;
  /** The sum of its tokens' lengths, in bytes; differs where there are unknown ones. */
  readonly tokenBytes: number;
}

/** Encodes words with one vocabulary. */
export interface WordEncoder {
  /**
   * A word's tokens.
   *
   * @param continues Whether the word's start was encoded before, by {@linkcode WordEncoder.encodeStart}.
   */
  encode(word: string, continues: boolean): EncodedWord;
  /**
   * As many of a long word's tokens as no continuation of it can change.
   *
   * @param start At least {@linkcode WORD_PIECE_LENGTH} characters of the word.
   * @returns The tokens, and the number of UTF-16 units of `start` that they cover.
   */
  encodeStart(start: string): EncodedWord & { readonly length: number };
  /** Whether a merge may reach across an index, between two UTF-16 units, of a text. */
  mayJoin(text: string, at: number): boolean;
}

const encoder = new TextEncoder();

/**
 * A {@linkcode WordEncoder} that remembers short words.
 *
 * @param merges Pairs of entries that merge; not kept.
 */
export function createWordEncoder(
  model: BpeModel,
  merges: Iterable<readonly [string, string]>,
): WordEncoder {
  const { ids, byteLevel } = model;
  const cache = new Map<string, EncodedWord>();
  // At least a surrogate pair.
  let longestToken = 2;
  const joints = new Set<number>();
  for (const [left, right] of merges) {
    // Entries of spaces, which the file's format cannot tell from its separator.
    if (!left || !right) continue;
    longestToken = Math.max(longestToken, left.length + right.length);
    joints.add(left.charCodeAt(left.length - 1) * 0x10000 + right.charCodeAt(0));
  }

  // The package remembers words as well.
  const merge = (word: string) => model.merge(detach(word));

  /** Ids of one part of a merged word. */
  function pushIds(part: string, out: number[]): void {
    const id = ids.get(part);
    if (id !== undefined) {
      out.push(id);
      return;
    }
    if (model.byteFallback) {
      const bytes: number[] = [];
      for (const byte of encoder.encode(part)) {
        const byteId = ids.get(byteEntry(byte));
        if (byteId !== undefined) bytes.push(byteId);
      }
      if (bytes.length === encoder.encode(part).length) {
        for (const byteId of bytes) out.push(byteId);
        return;
      }
    }
    if (model.unknown !== null) out.push(model.unknown);
  }

  /** Whether the boundary between two tokens stays one when they are encoded together. */
  function isBoundary(left: string, right: string): boolean {
    const parts = merge(left + right);
    return parts.length === 2 && parts[0] === left;
  }

  /**
   * Whether `left | rest` stays a boundary whatever follows: some token ends at one of the last
   * `longestToken` places of `rest`, and up to there it is encoded as if it ended there.
   */
  function isStable(left: string, rest: string): boolean {
    const tested = new Set<string>();
    for (let end = rest.length; end > rest.length - longestToken; end--) {
      if (isHighSurrogate(rest.charCodeAt(end - 1))) continue;
      const right = merge(rest.slice(0, end))[0]!;
      if (tested.has(right)) continue;
      if (!isBoundary(left, right)) return false;
      tested.add(right);
    }
    return true;
  }

  /**
   * The parts of a long word's start that no continuation can change, at least one.
   *
   * @param start In the vocabulary's alphabet.
   * @param wholeCharacters Whether they must end between two characters of the text.
   */
  function stableParts(start: string, wholeCharacters: boolean): readonly string[] {
    const parts = merge(start);
    let fallback = 0;
    let tried = 0;
    for (let count = parts.length - 1, end = start.length; count > 0; count--) {
      end -= parts[count]!.length;
      if (start.length - end < longestToken) continue;
      if (wholeCharacters && byteLevel && isContinuation(start.charCodeAt(end))) continue;
      if (isStable(parts[count - 1]!, start.slice(end, end + 4 * longestToken))) {
        return parts.slice(0, count);
      }
      if (fallback === 0) fallback = count;
      if (++tried === MAX_BOUNDARIES_TRIED) break;
    }
    // No known vocabulary comes here.
    return fallback > 0 ? parts.slice(0, fallback) : parts;
  }

  function mergeWord(word: string, continues: boolean, out: number[]): void {
    if (model.ignoreMerges && !continues && ids.has(word)) {
      out.push(ids.get(word)!);
      return;
    }
    let rest = word;
    while (rest.length > WORD_PIECE_LENGTH) {
      for (const part of stableParts(rest.slice(0, WORD_PIECE_LENGTH), false)) {
        pushIds(part, out);
        rest = rest.slice(part.length);
      }
    }
    for (const part of merge(rest)) pushIds(part, out);
  }

  function finish(text: string, out: number[]): EncodedWord {
    let tokenBytes = 0;
    for (const id of out) tokenBytes += model.tokenLength(id);
    return { ids: out, byteLength: readLength(text, model.metaspace), tokenBytes };
  }

  return {
    encode(word, continues) {
      const cached = continues ? undefined : cache.get(word);
      if (cached !== undefined) return cached;
      const out: number[] = [];
      mergeWord(byteLevel ? toByteAlphabet(word) : word, continues, out);
      const encoded = finish(word, out);
      if (!continues && word.length <= MAX_CACHED_LENGTH) {
        if (cache.size >= MAX_CACHED_WORDS) cache.clear();
        cache.set(detach(word), encoded);
      }
      return encoded;
    },

    encodeStart(start) {
      const out: number[] = [];
      let text = start.slice(0, WORD_PIECE_LENGTH);
      if (isHighSurrogate(text.charCodeAt(text.length - 1))) text = text.slice(0, -1);
      let covered = 0; // characters of the alphabet
      for (const part of stableParts(byteLevel ? toByteAlphabet(text) : text, true)) {
        pushIds(part, out);
        covered += part.length;
      }
      const length = byteLevel ? unitsOfBytes(text, covered) : covered;
      return { ...finish(text.slice(0, length), out), length };
    },

    mayJoin(text, at) {
      let left = text.charCodeAt(at - 1);
      let right = text.charCodeAt(at);
      if (isHighSurrogate(left)) return true;
      if (byteLevel) {
        // Four-byte characters and lone surrogates are too rare to be exact about.
        if (isLowSurrogate(left) || isHighSurrogate(right) || isLowSurrogate(right)) return true;
        left = BYTE_CHARACTERS[left < 0x80 ? left : 0x80 | left & 0x3f]!;
        right = BYTE_CHARACTERS[leadByte(right)]!;
      }
      return joints.has(left * 0x10000 + right);
    },
  };
}

/** The entry that spells a byte, e.g. `<0x0A>`. */
export function byteEntry(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** The first byte of a character of the Basic Multilingual Plane in UTF-8. */
function leadByte(unit: number): number {
  return unit < 0x80 ? unit : unit < 0x800 ? 0xc0 | unit >> 6 : 0xe0 | unit >> 12;
}

/** Whether a character of the byte alphabet stands for the inside of a UTF-8 sequence. */
function isContinuation(code: number): boolean {
  return (byteOfCharacter(code) & 0xc0) === 0x80;
}

/** How many UTF-16 units of a text its first `bytes` bytes of UTF-8 are. */
function unitsOfBytes(text: string, bytes: number): number {
  let units = 0;
  for (const character of text) {
    if (bytes <= 0) break;
    bytes -= encoder.encode(character).length;
    units += character.length;
  }
  return units;
}

/** A copy, so that remembering the word does not keep alive the text from which it was cut. */
function detach(word: string): string {
  return (" " + word).slice(1);
}
