/**
 * Text to tokens as it arrives: the same ids however it is cut, in bounded memory.
 *
 * @module
 */

import type { AddedToken, Match, Matcher } from "./added_tokens.ts";
import type { EncodedWord } from "./bpe.ts";
import { WORD_PIECE_LENGTH } from "./bpe.ts";
import {
  isHighSurrogate,
  isLowSurrogate,
  lastNormalizationBoundary,
  type LengthChange,
  METASPACE,
  normalize,
  readLength,
  utf8Length,
} from "./normalization.ts";
import type { EncodingRules, Tokenizer } from "./tokenizer.ts";

/** Options of {@linkcode TokenEncoder}. */
export interface TokenEncoderOptions {
  /**
   * Whether special tokens that the text spells out become those tokens. Default true, as
   * tokenizers do; false for text that others wrote: `<|end_of_text|>` in it is text then.
   */
  readonly special?: boolean;
  /** Whether the text goes on from an earlier one, so that nothing is put before it. Default false. */
  readonly continuation?: boolean;
  /** UTF-16 units that are collected before any are encoded. Default 16384. */
  readonly batchLength?: number;
}

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

/**
 * UTF-16 units that are held back at most. One word, run of white space or run of combining marks
 * beyond it is cut all the same. Within a word the cut is exact (see `bpe.ts`), so ids differ from
 * those of the whole text only where a tokenizer's pattern looks further ahead than this: a longer run
 * of white space that ends in a line break, or a longer run of combining marks under a Unicode form.
 */
export const MAX_CARRY_LENGTH = 1 << 16;

const DEFAULT_BATCH_LENGTH = 1 << 14;

/** Words that are looked back over for one that starts with a space between letters. */
const MAX_WORDS_BACK = 64;

/** Text of a word that was begun, so that the pattern sees how it began. */
const CONTEXT_LENGTH = 64;

/**
 * Encodes a text that arrives in parts. What `push` and `flush` give back, joined, are the tokens
 * of the whole text, however it was cut; see {@linkcode MAX_CARRY_LENGTH} for the one limit.
 *
 * @example Usage
 * ```ts
 * import { createTokenizer } from "./tokenizer.ts";
 * import { TokenEncoder } from "./token_encoder.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const model = { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] };
 * const encoder = new TokenEncoder(createTokenizer({ model }, null));
 * const parts = [encoder.push("aba"), encoder.push("b"), encoder.flush()];
 * deepEqual(parts.flatMap(({ tokens }) => [...tokens]), [2, 2]);
 * ```
 */
export class TokenEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #options: TokenEncoderOptions;
  readonly #rules: EncodingRules;
  readonly #matcher: Matcher | null;
  readonly #normalizedMatcher: Matcher | null;
  readonly #batchLength: number;
  readonly #continuation: boolean;

  // Input that no added token may be in any more, but is not normalized yet; all counts in UTF-16 units.
  #raw = "";
  #threshold = 0;
  #sectionStart = true;
  #firstSection = true;
  #stripsStart = false;

  // Normalized text that is not encoded yet.
  #text = "";
  #textStart = 0; // of `#text` in all normalized text
  #changes: LengthChange[] = [];
  #nextChange = 0;
  #pieceStart = true; // nothing since the last added token is encoded yet
  #continues = false; // `#text` starts inside a word
  #context = ""; // the end of that word's encoded part
  #lastUnknown = false;

  // What the next take gives away.
  #tokens = new Uint32Array(1024);
  #length = 0;
  #byteLength = 0;
  #predicted = 0; // bytes that the tokens themselves account for since the last anchor
  #anchors: TokenAnchor[] = [];

  /**
   * @throws {RangeError} If `batchLength` is not a positive integer.
   */
  constructor(tokenizer: Tokenizer, options: TokenEncoderOptions = {}) {
    const { special = true, continuation = false, batchLength = DEFAULT_BATCH_LENGTH } = options;
    if (!Number.isSafeInteger(batchLength) || batchLength < 1) {
      throw new RangeError(
        `Cannot encode: batchLength must be a positive integer of UTF-16 units, got ${batchLength}`,
      );
    }
    const which = special ? "all" : "plain";
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#rules = tokenizer.rules;
    this.#matcher = this.#rules.added[which];
    this.#normalizedMatcher = this.#rules.addedNormalized[which];
    this.#batchLength = batchLength;
    this.#continuation = continuation;
    this.#reset();
  }

  /** Takes some more text and gives back the tokens that no later text can change. */
  push(text: string): EncodedTokens {
    // A long text goes through in batches as well, so that memory does not depend on how it is cut.
    for (let start = 0; start < text.length; start += this.#batchLength) {
      this.#raw += start === 0 && text.length <= this.#batchLength
        ? text
        : text.slice(start, start + this.#batchLength);
      if (this.#carryLength >= this.#threshold) {
        this.#process(false);
        this.#threshold = this.#carryLength + this.#batchLength;
      }
    }
    return this.#take();
  }

  /**
   * Takes text of one's own that stands around the input, such as a chat template's: special tokens
   * in it are those tokens, whatever the options say, and it has no bytes of the input. Plain text at
   * its ends is encoded as one with the input beside it. `push` and `flush` give back the tokens.
   */
  pushMarkup(text: string): void {
    this.#normalize(true);
    let rest = text;
    let match = find(this.#rules.markup, rest, true);
    while (match.token !== null) {
      const { token, start, end } = match;
      const before = rest.slice(0, start);
      this.#appendMarkup(token.stripsBefore ? before.trimEnd() : before);
      this.#encodeText(true);
      this.#pushAdded(token, 0);
      rest = rest.slice(end);
      match = find(this.#rules.markup, rest, true);
    }
    this.#appendMarkup(rest);
  }

  /** Ends the text: the remaining tokens. The encoder is as new then. */
  flush(): EncodedTokens {
    this.#process(true);
    this.#settleBytes();
    const result = this.#take();
    this.#reset();
    return result;
  }

  /** A second encoder of the same text so far: it can be flushed while this one goes on. */
  fork(): TokenEncoder {
    const fork = new TokenEncoder(this.#tokenizer, this.#options);
    fork.#raw = this.#raw;
    fork.#threshold = this.#threshold;
    fork.#sectionStart = this.#sectionStart;
    fork.#firstSection = this.#firstSection;
    fork.#stripsStart = this.#stripsStart;
    fork.#text = this.#text;
    fork.#textStart = this.#textStart;
    fork.#changes = this.#changes.slice();
    fork.#nextChange = this.#nextChange;
    fork.#pieceStart = this.#pieceStart;
    fork.#continues = this.#continues;
    fork.#context = this.#context;
    fork.#lastUnknown = this.#lastUnknown;
    return fork; // no call leaves tokens behind that were not given away
  }

  get #carryLength(): number {
    return this.#raw.length + this.#text.length;
  }

  #reset(): void {
    this.#threshold = this.#batchLength;
    this.#sectionStart = !this.#continuation;
    this.#firstSection = true;
    this.#stripsStart = false;
    this.#startPiece();
    this.#pieceStart = !this.#continuation;
  }

  #startPiece(): void {
    this.#pieceStart = true;
    this.#continues = false;
    this.#context = "";
    this.#lastUnknown = false;
  }

  #take(): EncodedTokens {
    const result = {
      tokens: this.#tokens.slice(0, this.#length),
      byteLength: this.#byteLength,
      anchors: this.#anchors,
    };
    // The room for one long text is not kept.
    if (this.#tokens.length > 1 << 18) this.#tokens = new Uint32Array(1024);
    this.#length = this.#byteLength = this.#predicted = 0;
    this.#anchors = [];
    return result;
  }

  /** Finds added tokens in the input; what is between them is normalized and encoded. */
  #process(final: boolean): void {
    this.#normalize(final);
    this.#encodeText(final);
    // What is settled need not be kept until everything is.
    this.#changes.splice(0, this.#nextChange);
    this.#nextChange = 0;
  }

  /** Finds added tokens in the input; what follows the last of them is normalized. */
  #normalize(final: boolean): void {
    let rest = this.#raw;
    let match = find(this.#matcher, rest, final);
    while (match.token !== null) {
      const { token, start, end } = match;
      const before = rest.slice(0, start);
      const kept = token.stripsBefore ? before.trimEnd() : before;
      this.#append(kept);
      this.#encodeText(true);
      this.#skip(utf8Length(before.slice(kept.length)));
      this.#pushAdded(token, utf8Length(rest.slice(start, end)));
      rest = rest.slice(end);
      match = find(this.#matcher, rest, final);
    }
    const end = final ? rest.length : this.#settledEnd(rest, match.end);
    this.#append(rest.slice(0, end));
    this.#raw = rest.slice(end);
  }

  /** Emits an added token and begins a section. */
  #pushAdded(token: AddedToken, byteLength: number): void {
    this.#pushToken(token.id, byteLength);
    this.#sectionStart = true;
    this.#firstSection = false;
    this.#stripsStart = token.stripsAfter;
  }

  /** How much of the input can be normalized, whatever follows. */
  #settledEnd(rest: string, end: number): number {
    const { stripsBefore, normalization } = this.#rules;
    // An added token that follows may take the white space before it.
    const kept = stripsBefore ? rest.slice(0, end).trimEnd().length : end;
    const settled = lastNormalizationBoundary(rest, kept, normalization.forms);
    return rest.length - settled <= MAX_CARRY_LENGTH
      ? settled
      : lastNormalizationBoundary(rest, end, []);
  }

  /** Adds a part of a section to the normalized text. */
  #append(part: string): void {
    if (this.#stripsStart) {
      const kept = part.trimStart();
      this.#skip(utf8Length(part.slice(0, part.length - kept.length)));
      part = kept;
    }
    if (part === "") return;
    this.#stripsStart = false;
    const { normalization } = this.#rules;
    if (this.#sectionStart && normalization.prefix !== "") {
      this.#text += normalization.prefix;
      this.#skip(-readLength(normalization.prefix, normalization.metaspace));
    }
    this.#sectionStart = false;
    const offset = this.#textStart + this.#text.length;
    this.#text += normalize(part, normalization, offset, this.#changes);
  }

  /** Adds text that is not the input's: each of its characters is taken off again. */
  #appendMarkup(part: string): void {
    const start = this.#text.length;
    const { length } = this.#changes;
    this.#append(part);
    this.#changes.length = length;
    for (let at = start; at < this.#text.length; at++) {
      const unit = this.#text[at]!;
      // Of a surrogate pair the first half counts for both.
      const bytes = isLowSurrogate(unit.charCodeAt(0)) ? 0 : this.#readLength(
        isHighSurrogate(unit.charCodeAt(0)) ? this.#text.slice(at, at + 2) : unit,
      );
      this.#changes.push({ end: this.#textStart + at + 1, bytes: -bytes });
    }
  }

  /** Counts bytes of the input that the normalized text so far does not have; negative: has too many. */
  #skip(bytes: number): void {
    if (bytes !== 0) this.#changes.push({ end: this.#textStart + this.#text.length, bytes });
  }

  /** Finds added tokens in the normalized text, and encodes what is between them. */
  #encodeText(final: boolean): void {
    let match = find(this.#normalizedMatcher, this.#text, final);
    while (match.token !== null) {
      const { token, start, end } = match;
      const before = this.#text.slice(0, start);
      const kept = token.stripsBefore ? before.trimEnd() : before;
      const form = this.#text.slice(start, end);
      const after = this.#text.slice(end);
      this.#encodePiece(kept, true);
      this.#textStart += end - kept.length;
      this.#pushToken(token.id, this.#readLength(before.slice(kept.length) + form));
      this.#text = token.stripsAfter ? after.trimStart() : after;
      const stripped = after.length - this.#text.length;
      this.#textStart += stripped;
      this.#byteLength += this.#readLength(after.slice(0, stripped));
      match = find(this.#normalizedMatcher, this.#text, final);
    }
    const consumed = this.#encodePiece(this.#text.slice(0, match.end), final);
    this.#text = this.#text.slice(consumed);
    if (final) this.#startPiece();
  }

  #readLength(text: string): number {
    return readLength(text, this.#rules.normalization.metaspace);
  }

  /**
   * Encodes a stretch without added tokens; if it goes on, only what cannot change.
   *
   * @returns How much of it is encoded now, in UTF-16 units.
   */
  #encodePiece(piece: string, final: boolean): number {
    if (piece === "") return 0;
    const { wordPrefix, replacesSpaces, split } = this.#rules;
    let text = replacesSpaces ? piece.replaceAll(" ", METASPACE) : piece;
    const isPrefixed = this.#pieceStart && wordPrefix !== null &&
      (wordPrefix.everywhere || this.#firstSection) && !text.startsWith(wordPrefix.text);
    if (isPrefixed) {
      text = wordPrefix.text + text;
      this.#textStart -= wordPrefix.text.length;
      // The added space has one byte that the input has not.
      this.#changes.splice(this.#nextChange, 0, { end: this.#textStart + 1, bytes: -1 });
    }
    const consumed = split === null
      ? this.#encodeUnsplit(text, final)
      : this.#encodeWords(split(this.#context + text), text.length, final);
    if (consumed > 0) this.#pieceStart = false;
    else if (isPrefixed) {
      this.#textStart += wordPrefix.text.length;
      this.#changes.splice(this.#nextChange, 1);
    }
    return consumed - (isPrefixed && consumed > 0 ? wordPrefix.text.length : 0);
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

  #push(word: EncodedWord, length: number): void {
    this.#settleBytes();
    const { fusedUnknown } = this.#rules;
    this.#reserve(word.ids.length);
    this.#predicted += word.tokenBytes;
    for (const id of word.ids) {
      if (id === fusedUnknown && this.#lastUnknown) {
        this.#predicted -= this.#rules.tokenLength(id);
        continue;
      }
      this.#lastUnknown = id === fusedUnknown;
      this.#tokens[this.#length++] = id;
    }
    this.#byteLength += word.byteLength;
    this.#textStart += length;
    this.#settleBytes();
  }

  /** Emits an added token; `byteLength` is that of its form in the input. */
  #pushToken(id: number, byteLength: number): void {
    this.#settleBytes();
    this.#reserve(1);
    this.#tokens[this.#length++] = id;
    this.#predicted += this.#rules.tokenLength(id);
    this.#byteLength += byteLength;
    this.#settleBytes();
    this.#startPiece();
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#tokens.length) return;
    const larger = new Uint32Array(2 * (this.#length + count));
    larger.set(this.#tokens);
    this.#tokens = larger;
  }

  /** Counts the changes that lie behind, and notes where tokens do not account for the bytes. */
  #settleBytes(): void {
    while (
      this.#nextChange < this.#changes.length &&
      this.#changes[this.#nextChange]!.end <= this.#textStart
    ) this.#byteLength += this.#changes[this.#nextChange++]!.bytes;
    if (this.#nextChange === this.#changes.length) {
      this.#changes.length = this.#nextChange = 0;
    }
    if (this.#predicted === this.#byteLength) return;
    this.#predicted = this.#byteLength;
    this.#anchors.push({ index: this.#length, byteOffset: this.#byteLength });
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

function find(matcher: Matcher | null, text: string, final: boolean): Match {
  return matcher === null ? { token: null, end: text.length } : matcher(text, final);
}

/**
 * A stream of text to a stream of tokens: {@linkcode TokenEncoder} as a `TransformStream`.
 *
 * @example Usage
 * ```ts
 * import { createTokenizer } from "./tokenizer.ts";
 * import { TokenEncoderStream } from "./token_encoder.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const model = { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] };
 * const stream = new TokenEncoderStream(createTokenizer({ model }, null));
 * const writer = stream.writable.getWriter();
 * writer.write("aba");
 * writer.write("b");
 * writer.close();
 * const tokens: number[] = [];
 * for await (const part of stream.readable) tokens.push(...part);
 * deepEqual(tokens, [2, 2]);
 * ```
 */
export class TokenEncoderStream extends TransformStream<string, Uint32Array> {
  /** @throws {RangeError} If an option is out of range. */
  constructor(tokenizer: Tokenizer, options: TokenEncoderOptions = {}) {
    const encoder = new TokenEncoder(tokenizer, options);
    super({
      transform(text, controller) {
        const { tokens } = encoder.push(text);
        if (tokens.length > 0) controller.enqueue(tokens);
      },
      flush(controller) {
        const { tokens } = encoder.flush();
        if (tokens.length > 0) controller.enqueue(tokens);
      },
    });
  }
}
