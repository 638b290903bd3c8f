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
import { fromByteAlphabet } from "./byte_alphabet.ts";
import { METASPACE, type Normalization, normalize, type UnicodeForm } from "./normalization.ts";
import { TokenDecoder, type TokenDecoderOptions } from "./token_decoder.ts";
import { TokenEncoder, type TokenEncoderOptions } from "./token_encoder.ts";

/** The largest token id that is believed, whatever the vocabulary claims: it sizes arrays. */
export const MAX_TOKEN_ID = (1 << 24) - 1;

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

type Json = Readonly<Record<string, unknown>>;

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

type Fail = (found: string) => TypeError;

function asObject(value: unknown, what: string, fail: Fail): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw fail(`${what} must be an object, got ${describe(value)}`);
  }
  return value as Json;
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : JSON.stringify(value);
}

function isTokenId(id: unknown): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_TOKEN_ID;
}

/** Contents and ids of a model's vocabulary; also checks everything else that the model must have. */
function vocabularyOf(model: Json, fail: Fail): [string, number][] {
  if (model.type !== undefined && model.type !== "BPE") {
    throw fail(`model.type must be "BPE", got ${describe(model.type)}`);
  }
  for (const affix of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[affix]) throw fail(`model.${affix} must be empty, got ${describe(model[affix])}`);
  }
  const entries = Object.entries(asObject(model.vocab, "model.vocab", fail));
  for (const [content, id] of entries) {
    if (!isTokenId(id)) {
      throw fail(
        `ids must be integers from 0 to ${MAX_TOKEN_ID}, got ${describe(id)} for ` +
          JSON.stringify(content.slice(0, 64)),
      );
    }
  }
  const { merges } = model;
  const pairs = Array.isArray(merges) && Array.isArray(merges[0]);
  const isMerge = (merge: unknown) =>
    pairs
      ? Array.isArray(merge) && merge.length === 2 &&
        merge.every((part) => typeof part === "string")
      : typeof merge === "string" && merge.includes(" ");
  if (!Array.isArray(merges)) throw fail(`model.merges must be an array, got ${describe(merges)}`);
  const wrong = merges.findIndex((merge) => !isMerge(merge));
  if (wrong >= 0) {
    throw fail(
      `model.merges must hold pairs of entries, got ${describe(merges[wrong])} at ${wrong}`,
    );
  }
  return entries as [string, number][];
}

function addedTokensOf(value: unknown, fail: Fail): (AddedToken & { normalized: boolean })[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw fail(`added_tokens must be an array, got ${describe(value)}`);
  return value.map((item: unknown, i) => {
    const token = asObject(item, `added_tokens[${i}]`, fail);
    const { id, content } = token;
    if (!isTokenId(id) || typeof content !== "string" || content.length === 0) {
      throw fail(
        `added_tokens[${i}] must have a content and an id from 0 to ${MAX_TOKEN_ID}, ` +
          `got ${describe(content)} and ${describe(id)}`,
      );
    }
    const special = token.special === true;
    return {
      id,
      content,
      special,
      stripsBefore: token.lstrip === true,
      stripsAfter: token.rstrip === true,
      normalized: typeof token.normalized === "boolean" ? token.normalized : !special,
    };
  });
}

/** The steps of a tokenizer.json part, sequences flattened. */
function stepsOf(value: unknown, list: string, what: string, fail: Fail): Json[] {
  if (value === null || value === undefined) return [];
  const step = asObject(value, what, fail);
  if (step.type !== "Sequence") return [step];
  const steps = step[list];
  if (!Array.isArray(steps)) throw fail(`${what}.${list} must be an array, got ${describe(steps)}`);
  return steps.flatMap((inner: unknown) => stepsOf(inner, list, what, fail));
}

/** Whether a Replace step turns one string into another. */
function replaces(step: Json, from: string, to: string): boolean {
  const pattern = step.pattern as Json | null | undefined;
  return step.type === "Replace" && pattern?.String === from && step.content === to;
}

function normalizationOf(value: unknown, metaspace: boolean, fail: Fail): Normalization {
  let prefix = "";
  const forms: UnicodeForm[] = [];
  let replacesSpaces = false;
  for (const step of stepsOf(value, "normalizers", "normalizer", fail)) {
    const unsupported = () =>
      fail(
        `a normalizer must be one of Unicode forms, then Prepend, then Replace of spaces by "▁", ` +
          `got ${describe(step.type)}`,
      );
    switch (step.type) {
      case "NFC":
      case "NFD":
      case "NFKC":
      case "NFKD":
        if (replacesSpaces || prefix !== "") throw unsupported();
        forms.push(step.type);
        break;
      case "Prepend":
        if (typeof step.prepend !== "string") throw unsupported();
        prefix = step.prepend + prefix;
        break;
      case "Replace":
        if (!replaces(step, " ", METASPACE)) throw unsupported();
        replacesSpaces = true;
        prefix = prefix.replaceAll(" ", METASPACE);
        break;
      default:
        throw unsupported();
    }
  }
  return { prefix, forms, replacesSpaces, metaspace: metaspace || replacesSpaces };
}

/** Whether a step says what to look for: a string or a regular expression. */
function hasPattern(step: Json): boolean {
  const pattern = step.pattern as Json | null | undefined;
  return [pattern?.String, pattern?.Regex].some((text) => typeof text === "string" && text !== "");
}

interface Splitting {
  /** What the package does, or null. */
  readonly package: Json | null;
  readonly prefix: EncodingRules["wordPrefix"];
  readonly byteLevel: boolean;
  readonly metaspace: boolean;
}

/** The pattern of ByteLevel's own. Radford et al. 2019 (GPT-2). */
const BYTE_LEVEL_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

function splittingOf(value: unknown, fail: Fail): Splitting {
  const steps = stepsOf(value, "pretokenizers", "pre_tokenizer", fail);
  const splits: Json[] = [];
  let prefix: Splitting["prefix"] = null;
  let byteLevel = false;
  let metaspace = false;
  steps.forEach((step, i) => {
    const unsupported = (what: string) =>
      fail(
        `a pre_tokenizer must be Split, Digits, Punctuation, ByteLevel or Metaspace, got ${what}`,
      );
    switch (step.type) {
      case "Split":
        // The others drop text, and tokens would lose their places.
        if (step.invert === true || /^removed$/i.test(String(step.behavior))) {
          throw unsupported("a Split that removes text");
        }
        if (!hasPattern(step)) throw unsupported("a Split without a pattern");
        splits.push(step);
        break;
      case "Digits":
      case "Punctuation":
        splits.push(step);
        break;
      case "ByteLevel":
        if (i !== steps.length - 1) throw unsupported("ByteLevel before other steps");
        byteLevel = true;
        if (step.add_prefix_space === true) {
          if (i > 0) throw unsupported("ByteLevel that adds spaces after other steps");
          prefix = { text: " ", everywhere: true };
        }
        if (step.use_regex !== false) {
          splits.push({
            type: "Split",
            pattern: { Regex: BYTE_LEVEL_PATTERN },
            behavior: "Isolated",
            invert: false,
          });
        }
        break;
      case "Metaspace": {
        if (steps.length > 1 || (step.replacement ?? METASPACE) !== METASPACE) {
          throw unsupported("Metaspace with other steps or another character");
        }
        metaspace = true;
        const scheme = step.prepend_scheme ??
          (step.add_prefix_space === false ? "never" : "always");
        if (scheme !== "never") prefix = { text: METASPACE, everywhere: scheme !== "first" };
        break;
      }
      default:
        throw unsupported(describe(step.type));
    }
  });
  return {
    package: splits.length === 0 ? null : { type: "Sequence", pretokenizers: splits },
    prefix,
    byteLevel,
    metaspace,
  };
}

interface Decoding {
  readonly byteLevel: boolean;
  readonly metaspace: boolean;
  readonly stripsFirstSpace: boolean;
}

function decodingOf(value: unknown, fail: Fail): Decoding {
  let byteLevel = false;
  let metaspace = false;
  let stripsFirstSpace = false;
  for (const step of stepsOf(value, "decoders", "decoder", fail)) {
    switch (step.type) {
      case "ByteLevel":
        byteLevel = true;
        break;
      case "Metaspace":
        metaspace = true;
        stripsFirstSpace = step.prepend_scheme === undefined
          ? step.add_prefix_space !== false
          : step.prepend_scheme !== "never";
        break;
      case "Replace":
        if (!replaces(step, METASPACE, " ")) {
          throw fail(`a decoder may replace only "▁" by a space, got ${describe(step.content)}`);
        }
        metaspace = true;
        break;
      case "Strip":
        if (step.content !== " " || (step.stop ?? 0) !== 0 || Number(step.start ?? 0) > 1) {
          throw fail("a decoder may strip only one space at the start, got another Strip");
        }
        stripsFirstSpace = step.start === 1;
        break;
      case "ByteFallback":
      case "Fuse":
        break;
      default:
        throw fail(
          `a decoder must be ByteLevel, Metaspace, or Replace, ByteFallback, Fuse and Strip, ` +
            `got ${describe(step.type)}`,
        );
    }
  }
  return { byteLevel, metaspace, stripsFirstSpace };
}

/** The bytes of all tokens in one array, and where each starts: u32[vocabSize + 1]. */
function tokenBytesOf(
  entries: readonly [string, number][],
  added: readonly AddedToken[],
  vocabSize: number,
  kind: { readonly byteLevel: boolean; readonly metaspace: boolean },
): { readonly data: Uint8Array; readonly offsets: Uint32Array } {
  const encoder = new TextEncoder();
  // In the order in which they come: an array of its own for each token would take ten times as much.
  let spelled = new Uint8Array(8 * vocabSize);
  let end = 0;
  const starts = new Uint32Array(vocabSize);
  const lengths = new Uint32Array(vocabSize);
  const put = (id: number, bytes: Uint8Array) => {
    if (end + bytes.length > spelled.length) {
      const longer = new Uint8Array(2 * (end + bytes.length));
      longer.set(spelled.subarray(0, end));
      spelled = longer;
    }
    spelled.set(bytes, end);
    starts[id] = end;
    lengths[id] = bytes.length;
    end += bytes.length;
  };
  const asText = (content: string) =>
    encoder.encode(kind.metaspace ? content.replaceAll(METASPACE, " ") : content);
  for (const [content, id] of entries) {
    const byte = /^<0x([0-9A-F]{2})>$/.exec(content);
    if (kind.byteLevel) put(id, fromByteAlphabet(content) ?? encoder.encode(content));
    else if (byte !== null) put(id, Uint8Array.of(parseInt(byte[1]!, 16)));
    else put(id, asText(content));
  }
  for (const { content, id } of added) put(id, asText(content));

  const offsets = new Uint32Array(vocabSize + 1);
  for (let id = 0; id < vocabSize; id++) offsets[id + 1] = offsets[id]! + lengths[id]!;
  const data = new Uint8Array(offsets[vocabSize]!);
  for (let id = 0; id < vocabSize; id++) {
    data.set(spelled.subarray(starts[id], starts[id]! + lengths[id]!), offsets[id]);
  }
  return { data, offsets };
}

/** The content of a token in tokenizer_config.json: a string, or an object that has one. */
function tokenContent(value: unknown): string | null {
  if (typeof value === "string") return value;
  const content = (value as Json | null | undefined)?.content;
  return typeof content === "string" ? content : null;
}

/** The special token that a post_processor puts before a single text, if any. */
function templateStartOf(value: unknown): string | null {
  const step = value as Json | null | undefined;
  if (Array.isArray(step?.processors)) {
    for (const inner of step.processors) {
      const start = templateStartOf(inner);
      if (start !== null) return start;
    }
  }
  if (step?.type !== "TemplateProcessing" || !Array.isArray(step.single)) return null;
  const first = (step.single[0] as Json | undefined)?.SpecialToken as Json | undefined;
  return typeof first?.id === "string" ? first.id : null;
}
