/**
 * Text without added tokens to tokens, word by word as it arrives: what later text can change waits.
 *
 * @module
 */

import type { EncodedWord } from "./bpe.ts";
import { WORD_PIECE_LENGTH } from "./bpe.ts";
import { isHighSurrogate, METASPACE } from "./normalization.ts";
import type { TokenPlaces } from "./token_places.ts";
import type { EncodingRules } from "./tokenizer.ts";

/**
 * UTF-16 units that are held back at most. One word, run of white space or run of combining marks
 * beyond it is cut all the same. Within a word the cut is exact (see `bpe.ts`), so ids differ from
 * those of the whole text only where a tokenizer's pattern looks further ahead than this: a longer run
 * of white space that ends in a line break, or a longer run of combining marks under a Unicode form.
 */
export const MAX_CARRY_LENGTH: number = 1 << 16;

/** Words that are looked back over for one that starts with a space between letters. */
const MAX_WORDS_BACK = 64;

/** Text of a word that was begun, so that the pattern sees how it began. */
const CONTEXT_LENGTH = 64;

/** Encodes pieces: stretches of normalized text between added tokens. */
export class PieceEncoder {
  readonly #rules: EncodingRules;
  readonly #places: TokenPlaces;
  #isNew = true; // nothing of the piece is encoded yet
  #continues = false; // the text to come starts inside a word
  #context = ""; // the end of that word's encoded part
  #lastUnknown = false;

  /** @param places Receives the tokens. */
  constructor(rules: EncodingRules, places: TokenPlaces) {
    this.#rules = rules;
    this.#places = places;
  }

  /** Begins a piece; `goesOn` if its start was elsewhere. */
  begin(goesOn = false): void {
    this.#isNew = !goesOn;
    this.#continues = false;
    this.#context = "";
    this.#lastUnknown = false;
  }

  /** The same place in the same piece, for tokens that go elsewhere. */
  fork(places: TokenPlaces): PieceEncoder {
    const fork = new PieceEncoder(this.#rules, places);
    fork.#isNew = this.#isNew;
    fork.#continues = this.#continues;
    fork.#context = this.#context;
    fork.#lastUnknown = this.#lastUnknown;
    return fork;
  }

  /**
   * Encodes what there is of a piece; if it goes on, only what cannot change.
   *
   * @param piece What was not encoded yet.
   * @param isFirst Whether no added token was before it.
   * @returns How much of it is encoded now, in UTF-16 units.
   */
  encode(piece: string, final: boolean, isFirst: boolean): number {
    if (piece === "") return 0;
    const { wordPrefix, replacesSpaces, split } = this.#rules;
    let text = replacesSpaces ? piece.replaceAll(" ", METASPACE) : piece;
    const prefix = this.#isNew && wordPrefix !== null && (wordPrefix.everywhere || isFirst) &&
        !text.startsWith(wordPrefix.text)
      ? wordPrefix.text
      : "";
    if (prefix !== "") {
      text = prefix + text;
      this.#places.addSpace(prefix.length);
    }
    const consumed = split === null
      ? this.#encodeUnsplit(text, final)
      : this.#encodeWords(split(this.#context + text), text.length, final);
    if (consumed > 0) this.#isNew = false;
    else if (prefix !== "") this.#places.removeSpace(prefix.length);
    return consumed > 0 ? consumed - prefix.length : 0;
  }

  /** Encodes words that a pattern found, the first of them after `#context`. */
  #encodeWords(words: readonly string[], length: number, final: boolean): number {
    let consumed = -this.#context.length;
    const take = (word: string) => {
      const start = Math.max(0, -consumed);
      consumed += word.length;
      if (consumed > 0) this.#pushWord(start === 0 ? word : word.slice(start));
      else if (consumed === 0) this.#continues = false;
    };
    const settled = final ? words.length : settledWords(words);
    let i = 0;
    for (; i < settled; i++) take(words[i]!);
    if (final || length - Math.max(0, consumed) <= MAX_CARRY_LENGTH) return Math.max(0, consumed);

    while (i < words.length - 1) take(words[i++]!);
    const word = words[i]!.slice(Math.max(0, -consumed));
    const begun = this.#pushWordStart(word);
    if (begun > 0) {
      const from = Math.max(0, begun - CONTEXT_LENGTH);
      this.#context = word.slice(
        isHighSurrogate(word.charCodeAt(from - 1)) ? from + 1 : from,
        begun,
      );
    }
    return Math.max(0, consumed) + begun;
  }

  /** Encodes text that no pattern splits: words end where no merge can reach across. */
  #encodeUnsplit(text: string, final: boolean): number {
    const { words } = this.#rules;
    let start = 0;
    for (let end = 1; end < text.length; end++) {
      if (words.mayJoin(text, end)) continue;
      this.#pushWord(text.slice(start, end));
      start = end;
    }
    const rest = text.slice(start);
    if (!final) return start + this.#pushWordStart(rest);
    this.#pushWord(rest);
    return text.length;
  }

  /** Encodes as much of a word that goes on as is settled, if it is long. */
  #pushWordStart(word: string): number {
    let begun = 0;
    // A piece's end is not settled, so that what is left is enough for another only if it is longer.
    while (word.length - begun >= 2 * WORD_PIECE_LENGTH) {
      const start = this.#rules.words.encodeStart(word.slice(begun, begun + WORD_PIECE_LENGTH));
      this.#push(start, start.length);
      begun += start.length;
    }
    if (begun > 0) this.#continues = true;
    return begun;
  }

  #pushWord(word: string): void {
    this.#push(this.#rules.words.encode(word, this.#continues), word.length);
    this.#continues = false;
    this.#context = "";
  }

  #push({ ids, tokenBytes, byteLength }: EncodedWord, length: number): void {
    const { fusedUnknown: unknown } = this.#rules;
    if (unknown === null || !ids.includes(unknown)) {
      if (ids.length > 0) this.#lastUnknown = false;
      return this.#places.push(ids, tokenBytes, byteLength, length);
    }
    const kept = ids.filter((id, i) =>
      id !== unknown || (i === 0 ? !this.#lastUnknown : ids[i - 1] !== unknown)
    );
    this.#lastUnknown = ids.at(-1) === unknown;
    const fused = (ids.length - kept.length) * this.#rules.tokenLength(unknown);
    this.#places.push(kept, tokenBytes - fused, byteLength, length);
  }
}

/** How many of a text's words no later text can change. */
function settledWords(words: readonly string[]): number {
  // A run of white space is split by what follows it: at most the last two words change then.
  const last = words.length - 2;
  for (let i = last; i > 0 && i > last - MAX_WORDS_BACK; i--) {
    // No pattern looks across this: the surest place, and in prose never far away.
    if (/^ \p{L}/u.test(words[i]!) && /\p{L}$/u.test(words[i - 1]!)) return i;
  }
  return Math.max(0, last);
}
