/**
 * The parts of a tokenizer.json, checked: what of them is supported, and what it means.
 *
 * @module
 */

import type { AddedToken } from "./added_tokens.ts";
import { METASPACE, type Normalization, type UnicodeForm } from "./normalization.ts";

/** The largest token id that is believed, whatever the vocabulary claims: it sizes arrays. */
export const MAX_TOKEN_ID: number = (1 << 24) - 1;

/** A part of a file. */
export type Json = Readonly<Record<string, unknown>>;

/** An error that says what was found. */
export type Fail = (found: string) => TypeError;

/** A part that must be an object. */
export function asObject(value: unknown, what: string, fail: Fail): Json {
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
export function vocabularyOf(model: Json, fail: Fail): [string, number][] {
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

/** The tokens beside the vocabulary; `normalized` ones are looked for after normalization. */
export function addedTokensOf(
  value: unknown,
  fail: Fail,
): (AddedToken & { normalized: boolean })[] {
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

/** What a normalizer does. `metaspace` is whether words have `"▁"` for spaces anyway. */
export function normalizationOf(value: unknown, metaspace: boolean, fail: Fail): Normalization {
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

/** How text becomes words. */
export interface Splitting {
  /** What the package does, or null. */
  readonly package: Json | null;
  /** Put before text between added tokens unless it starts so already. */
  readonly prefix: { readonly text: string; readonly everywhere: boolean } | null;
  /** Whether words are spelled in the byte alphabet. */
  readonly byteLevel: boolean;
  /** Whether they have `"▁"` for spaces. */
  readonly metaspace: boolean;
}

/** The pattern of ByteLevel's own. Radford et al. 2019 (GPT-2). */
const BYTE_LEVEL_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** How a pre_tokenizer cuts text into words. */
export function splittingOf(value: unknown, fail: Fail): Splitting {
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

/** How words become text. */
export interface Decoding {
  /** Whether they are spelled in the byte alphabet. */
  readonly byteLevel: boolean;
  /** Whether they have `"▁"` for spaces. */
  readonly metaspace: boolean;
  /** Whether a space at the start of the text is left out. */
  readonly stripsFirstSpace: boolean;
}

/** What a decoder turns back. */
export function decodingOf(value: unknown, fail: Fail): Decoding {
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

/** The content of a token in tokenizer_config.json: a string, or an object that has one. */
export function tokenContent(value: unknown): string | null {
  if (typeof value === "string") return value;
  const content = (value as Json | null | undefined)?.content;
  return typeof content === "string" ? content : null;
}

/** The special token that a post_processor puts before a single text, if any. */
export function templateStartOf(value: unknown): string | null {
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
