/**
 * Text to tokens as it arrives: the same ids however it is cut, in bounded memory.
 *
 * @module
 */

import type { AddedToken, Match, Matcher } from "./added_tokens.ts";
import {
  isHighSurrogate,
  isLowSurrogate,
  lastNormalizationBoundary,
  normalize,
  readLength,
  utf8Length,
} from "./normalization.ts";
import { MAX_CARRY_LENGTH, PieceEncoder } from "./piece_encoder.ts";
import { type EncodedTokens, TokenPlaces } from "./token_places.ts";
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

const DEFAULT_BATCH_LENGTH = 1 << 14;

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
  #places = new TokenPlaces();
  #pieces: PieceEncoder;

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
    this.#pieces = new PieceEncoder(this.#rules, this.#places);
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
    return this.#places.take();
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
    const result = this.#places.takeLast();
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
    fork.#places = this.#places.fork();
    fork.#pieces = this.#pieces.fork(fork.#places);
    return fork; // no call leaves tokens behind that were not given away
  }

  get #carryLength(): number {
    return this.#raw.length + this.#text.length;
  }

  /** Where the normalized text ends that there is so far, in UTF-16 units. */
  get #textEnd(): number {
    return this.#places.textStart + this.#text.length;
  }

  #reset(): void {
    this.#threshold = this.#batchLength;
    this.#sectionStart = !this.#continuation;
    this.#firstSection = true;
    this.#stripsStart = false;
    this.#pieces.begin(this.#continuation);
  }

  /** Finds added tokens in the input; what is between them is normalized and encoded. */
  #process(final: boolean): void {
    this.#normalize(final);
    this.#encodeText(final);
    this.#places.dropSettled();
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
    this.#text += normalize(part, normalization, this.#textEnd, this.#places.changes);
  }

  /** Adds text that is not the input's: each of its characters is taken off again. */
  #appendMarkup(part: string): void {
    const start = this.#text.length;
    const { changes, textStart } = this.#places;
    const { length } = changes;
    this.#append(part);
    changes.length = length;
    for (let at = start; at < this.#text.length; at++) {
      const unit = this.#text[at]!;
      // Of a surrogate pair the first half counts for both.
      const bytes = isLowSurrogate(unit.charCodeAt(0)) ? 0 : this.#readLength(
        isHighSurrogate(unit.charCodeAt(0)) ? this.#text.slice(at, at + 2) : unit,
      );
      changes.push({ end: textStart + at + 1, bytes: -bytes });
    }
  }

  /** Counts bytes of the input that the normalized text so far does not have; negative: has too many. */
  #skip(bytes: number): void {
    if (bytes !== 0) this.#places.changes.push({ end: this.#textEnd, bytes });
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
      this.#pieces.encode(kept, true, this.#firstSection);
      this.#places.skip(end - kept.length);
      this.#pushToken(token.id, this.#readLength(before.slice(kept.length) + form));
      this.#text = token.stripsAfter ? after.trimStart() : after;
      const stripped = after.length - this.#text.length;
      this.#places.skip(stripped, this.#readLength(after.slice(0, stripped)));
      match = find(this.#normalizedMatcher, this.#text, final);
    }
    const piece = this.#text.slice(0, match.end);
    this.#text = this.#text.slice(this.#pieces.encode(piece, final, this.#firstSection));
    if (final) this.#pieces.begin();
  }

  #readLength(text: string): number {
    return readLength(text, this.#rules.normalization.metaspace);
  }

  /** Emits an added token; `byteLength` is that of its form in the input. */
  #pushToken(id: number, byteLength: number): void {
    this.#places.push([id], this.#rules.tokenLength(id), byteLength, 0);
    this.#pieces.begin();
  }
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
