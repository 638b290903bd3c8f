/**
 * Text to tokens and back, from a Hugging Face tokenizer.json.
 *
 * Merging is @huggingface/tokenizers'; around it stands what an endless text needs: the ids do not
 * depend on how the text arrives, memory does not grow with it, and every token knows its bytes.
 *
 * @module
 */

import { BPE, Tokenizer as PackageTokenizer } from "@huggingface/tokenizers";
import { type AddedToken, createMatcher, type Matcher } from "./added_tokens.ts";
import { createWordEncoder, type WordEncoder } from "./bpe.ts";
import { type Normalization, normalize } from "./normalization.ts";
import { tokenBytesOf } from "./token_bytes.ts";
import { TokenDecoder, type TokenDecoderOptions } from "./token_decoder.ts";
import { TokenEncoder, type TokenEncoderOptions } from "./token_encoder.ts";
import {
  addedTokensOf,
  asObject,
  decodingOf,
  normalizationOf,
  splittingOf,
  templateStartOf,
  tokenContent,
  vocabularyOf,
} from "./tokenizer_json.ts";

/** Options of {@linkcode createTokenizer}. */
export interface TokenizerOptions {
  /** Tokens of the model's vocabulary: all ids must be below. Default: one more than the largest id. */
  readonly vocabSize?: number;
  /** For messages: a path or URL. */
  readonly name?: string;
}

/** Text to tokens and back. */
export interface Tokenizer {
  /** Ids are below this. */
  readonly vocabSize: number;
  /** What the model expects before a text, if anything. */
  readonly bosToken: number | null;
  /** Whether texts begin with `bosToken`. `encode` never adds it. */
  readonly addBos: boolean;
  /** What ends a text, if anything. */
  readonly eosToken: number | null;
  /** Control tokens: those that `decode` leaves out. */
  readonly specialTokens: ReadonlySet<number>;
  /**
   * A text's tokens, none added.
   *
   * Special tokens that the text spells out are recognised, unless `special: false`: then
   * `<|end_of_text|>` in it is text like any other. Read what you did not write with that.
   */
  encode(text: string, options?: TokenEncoderOptions): Uint32Array;
  /**
   * The text of tokens. Bytes that are no UTF-8 become U+FFFD; nothing is cleaned up.
   *
   * @throws {RangeError} If a token is not below `vocabSize`.
   */
  decode(tokens: ArrayLike<number>, options?: TokenDecoderOptions): string;
  /**
   * A token's bytes: UTF-8, though a character may be spread over several tokens. Empty for ids that
   * the tokenizer does not use. A view: do not write to it.
   *
   * @throws {RangeError} If the token is not below `vocabSize`.
   */
  tokenBytes(token: number): Uint8Array;
  /** How text is cut into words and those into tokens; for {@linkcode TokenEncoder}. */
  readonly rules: EncodingRules;
  /** Whether `decode` drops the space that `encode` put before a text. */
  readonly stripsFirstSpace: boolean;
}

/** How text is cut into words and those into tokens. */
export interface EncodingRules {
  readonly words: WordEncoder;
  readonly normalization: Normalization;
  /** Added tokens that are found before normalization: with the special ones, and without. */
  readonly added: { readonly all: Matcher | null; readonly plain: Matcher | null };
  /** Added tokens that are found after it. */
  readonly addedNormalized: { readonly all: Matcher | null; readonly plain: Matcher | null };
  /** All added tokens by their text as it stands, as in a chat template's. */
  readonly markup: Matcher | null;
  /** Whether white space before some added token belongs to it. */
  readonly stripsBefore: boolean;
  /** Cuts text into words, which concatenate to it; null: words end where no merge can reach across. */
  readonly split: ((text: string) => readonly string[]) | null;
  /** Put before text between added tokens unless it starts so already. */
  readonly wordPrefix: { readonly text: string; readonly everywhere: boolean } | null;
  /** Whether spaces become `"▁"` in words. */
  readonly replacesSpaces: boolean;
  /** The unknown token, if consecutive ones become one. */
  readonly fusedUnknown: number | null;
  /** A token's length, in bytes. */
  tokenLength(token: number): number;
}

/**
 * A tokenizer from its files' contents. Byte-pair encoding only, byte-level or SentencePiece's: what
 * Llama-type models have.
 *
 * @param json tokenizer.json, parsed. Parts that are missing count as null.
 * @param config tokenizer_config.json, parsed, or null.
 * @throws {TypeError} If it is no such tokenizer, or one of an unsupported kind.
 * @throws {RangeError} If an id is not below `vocabSize`.
 *
 * @example Usage
 * ```ts
 * import { createTokenizer } from "./tokenizer.ts";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const model = { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] };
 * const tokenizer = createTokenizer({ model }, null, { vocabSize: 3 });
 * deepEqual(tokenizer.encode("abba"), new Uint32Array([2, 1, 0]));
 * equal(tokenizer.decode([2, 1, 0]), "abba");
 * ```
 */
export function createTokenizer(
  json: unknown,
  config: unknown,
  options: TokenizerOptions = {},
): Tokenizer {
  const fail = (found: string) =>
    new TypeError(`Cannot use the tokenizer${options.name ? ` "${options.name}"` : ""}: ${found}`);
  const root = asObject(json, "tokenizer.json", fail);
  const settings = config === null || config === undefined
    ? {}
    : asObject(config, "tokenizer_config.json", fail);
  const model = asObject(root.model, "model", fail);
  const entries = vocabularyOf(model, fail);
  const added = addedTokensOf(root.added_tokens, fail);

  let maxId = -1;
  let maxContent = "";
  const note = (id: number, content: string) => {
    if (id > maxId) [maxId, maxContent] = [id, content];
  };
  for (const [content, id] of entries) note(id, content);
  for (const token of added) note(token.id, token.content);
  const vocabSize = options.vocabSize ?? maxId + 1;
  if (maxId >= vocabSize) {
    throw new RangeError(
      `${fail("").message}token ids must be below the model's vocabulary of ${vocabSize} tokens, ` +
        `got ${maxId} (${JSON.stringify(maxContent.slice(0, 64))})`,
    );
  }

  const splitting = splittingOf(root.pre_tokenizer, fail);
  const decoding = decodingOf(root.decoder, fail);
  const byteLevel = splitting.byteLevel || decoding.byteLevel;
  const normalization = normalizationOf(
    root.normalizer,
    decoding.metaspace || splitting.metaspace,
    fail,
  );
  if (settings.remove_space === true || settings.do_lowercase_and_remove_accent === true) {
    throw fail(
      "it must not change the text, got remove_space or do_lowercase_and_remove_accent",
    );
  }

  // Special tokens are found by the matchers; from merging they must not come, whatever the text.
  const unknownContent = typeof model.unk_token === "string" ? model.unk_token : null;
  const control = new Set(added.filter((token) => token.special).map((token) => token.content));
  if (unknownContent !== null) control.delete(unknownContent);
  const vocab = Object.fromEntries(entries.filter(([content]) => !control.has(content)));

  let inner: PackageTokenizer;
  try {
    inner = new PackageTokenizer({
      model: { ...model, type: "BPE", vocab },
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: splitting.package,
      decoder: null,
      post_processor: null,
    }, {});
  } catch (error) {
    // What is left to go wrong is a pattern that is no regular expression.
    throw fail(`the package must accept it, got "${(error as Error).message}"`);
  }
  const bpe = inner.model;
  if (!(bpe instanceof BPE)) throw fail(`model.type must be "BPE", got "${model.type}"`);

  const bytes = tokenBytesOf(entries, added, vocabSize, { byteLevel, ...normalization });
  const tokenLength = (id: number) => bytes.offsets[id + 1]! - bytes.offsets[id]!;
  const unknown = unknownContent === null ? null : bpe.tokens_to_ids.get(unknownContent) ?? null;
  const preTokenizer = inner.pre_tokenizer;

  const words = createWordEncoder({
    merge: (word) => bpe.bpe(word),
    ids: bpe.tokens_to_ids,
    byteLevel,
    metaspace: normalization.metaspace,
    byteFallback: model.byte_fallback === true,
    unknown,
    // A vocabulary without words would look up whole texts.
    ignoreMerges: model.ignore_merges === true && preTokenizer !== null,
    tokenLength,
  }, bpe.merges);
  // From now on merging looks into a table of ranks: the pairs themselves, a quarter of all that a
  // tokenizer holds, would stay for nothing.
  bpe.merges = [];
  bpe.config = { ...bpe.config, vocab: {}, merges: [] };

  const asIs: (readonly [string, AddedToken])[] = [];
  const asNormalized: (readonly [string, AddedToken])[] = [];
  for (const token of added) {
    if (!token.normalized || root.normalizer === null || root.normalizer === undefined) {
      asIs.push([token.content, token]);
    } else {
      const form = normalization.prefix + normalize(token.content, normalization, 0, []);
      asNormalized.push([form, token]);
    }
  }
  const matchers = (tokens: typeof asIs) => ({
    all: createMatcher(tokens),
    plain: createMatcher(tokens.filter(([, token]) => !token.special)),
  });

  const idOf = (content: string | null) =>
    content === null ? null : added.find((token) => token.content === content)?.id ??
      bpe.tokens_to_ids.get(content) ?? null;
  const template = templateStartOf(root.post_processor);
  const bosToken = idOf(tokenContent(settings.bos_token) ?? template);

  const check = (token: number) => {
    if (!(Number.isInteger(token) && token >= 0 && token < vocabSize)) {
      throw new RangeError(
        `Cannot decode: tokens must be integers from 0 to ${vocabSize - 1}, got ${token}`,
      );
    }
  };

  const tokenizer: Tokenizer = {
    vocabSize,
    bosToken,
    // The Llama class adds it unless told otherwise; others say so in the template.
    addBos: bosToken !== null &&
      (typeof settings.add_bos_token === "boolean"
        ? settings.add_bos_token
        : template !== null || settings.tokenizer_class === "LlamaTokenizer"),
    eosToken: idOf(tokenContent(settings.eos_token)),
    specialTokens: new Set(added.filter((token) => token.special).map((token) => token.id)),
    encode(text, options) {
      const encoder = new TokenEncoder(tokenizer, options);
      const start = encoder.push(text).tokens;
      const end = encoder.flush().tokens;
      const tokens = new Uint32Array(start.length + end.length);
      tokens.set(start);
      tokens.set(end, start.length);
      return tokens;
    },
    decode(tokens, options) {
      const decoder = new TokenDecoder(tokenizer, options);
      return decoder.push(tokens) + decoder.flush();
    },
    tokenBytes(token) {
      check(token);
      return bytes.data.subarray(bytes.offsets[token]!, bytes.offsets[token + 1]!);
    },
    rules: {
      words,
      normalization,
      added: matchers(asIs),
      addedNormalized: matchers(asNormalized),
      markup: createMatcher(added.map((token) => [token.content, token])),
      stripsBefore: added.some((token) => token.stripsBefore),
      split: preTokenizer === null ? null : (text) => preTokenizer.pre_tokenize(text),
      wordPrefix: splitting.prefix,
      replacesSpaces: splitting.metaspace,
      fusedUnknown: model.fuse_unk === true ? unknown : null,
      tokenLength,
    },
    stripsFirstSpace: decoding.stripsFirstSpace,
  };
  return tokenizer;
}
