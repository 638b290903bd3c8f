/**
 * A tokenizer from GGUF's metadata alone: the tokenizer.json and tokenizer_config.json that say the
 * same.
 *
 * @module
 */

import { byteEntry } from "./bpe.ts";
import { METASPACE } from "./normalization.ts";
import { PRE_TOKENIZERS } from "./pre_tokenizers.ts";

/** The contents of a tokenizer's two files. */
export interface TokenizerFiles {
  /** As in tokenizer.json. */
  readonly json: unknown;
  /** As in tokenizer_config.json. */
  readonly config: unknown;
}

/** GGUF's metadata, or the part of it that speaks of tokens. */
export type TokenizerMetadata = ReadonlyMap<string, unknown>;

/** What a token is for, as `tokenizer.ggml.token_type` numbers it. */
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

/** GGUF's way to say that there is no such token. */
const NO_TOKEN = 0xffffffff;

/**
 * Steps of finding the merges of a vocabulary with scores: the square of each entry's length, in
 * all. The largest known vocabulary takes about 40 million.
 */
export const MAX_MERGE_STEPS: number = 2 ** 30;

/** The longest entry that can come from merging, in characters; SentencePiece stops at 16. */
export const MAX_MERGED_LENGTH = 256;

type Fail = (found: string) => TypeError;

/**
 * The files of a GGUF's tokenizer: `gpt2`, byte-level with merges, or `llama`, SentencePiece's with
 * scores.
 *
 * @param metadata The file's.
 * @param name For messages.
 * @returns Null where the file has no tokenizer.
 * @throws {TypeError} If it has one of another kind, or one that is not as it must be.
 *
 * @example Usage
 * ```ts
 * import { readGgufTokenizer } from "./gguf_tokenizer.ts";
 * import { createTokenizer } from "./tokenizer.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const { json, config } = readGgufTokenizer(new Map<string, unknown>([
 *   ["tokenizer.ggml.model", "llama"],
 *   ["tokenizer.ggml.tokens", ["<unk>", "▁", "a", "b", "▁a", "ab"]],
 *   ["tokenizer.ggml.scores", [0, -9, -9, -9, -1, -2]],
 *   ["tokenizer.ggml.token_type", [2, 1, 1, 1, 1, 1]],
 * ]), "m.gguf")!;
 * deepEqual([...createTokenizer(json, config).encode("ab")], [4, 3]); // "▁a" before "ab"
 * ```
 */
export function readGgufTokenizer(
  metadata: TokenizerMetadata,
  name: string,
): TokenizerFiles | null {
  const model = metadata.get("tokenizer.ggml.model");
  if (model === undefined || model === "no_vocab") return null;
  const fail: Fail = (found) => new TypeError(`Cannot use the tokenizer of "${name}": ${found}`);
  if (model !== "gpt2" && model !== "llama") {
    throw fail(
      `"tokenizer.ggml.model" must be "gpt2" or "llama", got ${JSON.stringify(show(model))}`,
    );
  }
  const tokens = metadata.get("tokenizer.ggml.tokens");
  if (!isList(tokens) || tokens.some((token) => typeof token !== "string")) {
    throw fail(`"tokenizer.ggml.tokens" must be a list of texts, got ${show(tokens)}`);
  }
  const entries = tokens as readonly string[];
  const types = numbersOf(metadata, "tokenizer.ggml.token_type", entries.length, fail);
  const vocabulary: Vocabulary = {
    entries,
    typeOf: (id) => types === null ? TYPE.normal : Number(types[id]),
  };
  return model === "gpt2"
    ? byteLevelFiles(metadata, vocabulary, fail)
    : sentencePieceFiles(metadata, vocabulary, fail);
}

interface Vocabulary {
  readonly entries: readonly string[];
  typeOf(id: number): number;
}

function byteLevelFiles(
  metadata: TokenizerMetadata,
  vocabulary: Vocabulary,
  fail: Fail,
): TokenizerFiles {
  const pre = metadata.get("tokenizer.ggml.pre") ?? "default";
  const rules = PRE_TOKENIZERS.get(pre as string);
  if (rules === undefined) {
    throw fail(
      `"tokenizer.ggml.pre" must be one of ${[...PRE_TOKENIZERS.keys()].join(", ")}, got ` +
        show(pre),
    );
  }
  const merges = metadata.get("tokenizer.ggml.merges");
  if (!isList(merges)) {
    throw fail(`"tokenizer.ggml.merges" must be a list of texts, got ${show(merges)}`);
  }
  const addsSpace = readBoolean(metadata, "tokenizer.ggml.add_space_prefix", false, fail);
  const byteLevel = { type: "ByteLevel", use_regex: false };
  const splits = rules.patterns.map((pattern) => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  }));
  return {
    json: {
      added_tokens: addedTokens(vocabulary),
      normalizer: {
        type: "Sequence",
        normalizers: [
          ...rules.composes ? [{ type: "NFC" }] : [],
          ...addsSpace ? [{ type: "Prepend", prepend: " " }] : [],
        ],
      },
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [...splits, { ...byteLevel, add_prefix_space: false }],
      },
      decoder: byteLevel,
      model: {
        type: "BPE",
        vocab: vocabOf(vocabulary),
        merges: merges.map((merge) => splitMerge(merge, fail)),
        ignore_merges: rules.ignoresMerges === true,
      },
    },
    config: roles(metadata, vocabulary, rules.addsBos === true, fail),
  };
}

function sentencePieceFiles(
  metadata: TokenizerMetadata,
  vocabulary: Vocabulary,
  fail: Fail,
): TokenizerFiles {
  const { entries, typeOf } = vocabulary;
  const scores = numbersOf(metadata, "tokenizer.ggml.scores", entries.length, fail);
  if (scores === null) throw fail('"tokenizer.ggml.scores" must be there, found none');
  const addsSpace = readBoolean(metadata, "tokenizer.ggml.add_space_prefix", true, fail);
  const unknownId = tokenId(metadata, "unknown", vocabulary, fail) ??
    (typeOf(0) === TYPE.unknown ? 0 : null);
  const spaces = { type: "Replace", pattern: { String: " " }, content: METASPACE };
  return {
    json: {
      added_tokens: addedTokens(vocabulary),
      normalizer: {
        type: "Sequence",
        normalizers: [...addsSpace ? [{ type: "Prepend", prepend: METASPACE }] : [], spaces],
      },
      pre_tokenizer: null,
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: METASPACE }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          ...addsSpace ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : [],
        ],
      },
      model: {
        type: "BPE",
        vocab: vocabOf(vocabulary),
        merges: mergesOf(vocabulary, scores, fail),
        byte_fallback: entries.includes(byteEntry(0)),
        unk_token: unknownId === null ? null : entries[unknownId],
        fuse_unk: false,
      },
    },
    config: roles(metadata, vocabulary, true, fail),
  };
}

/**
 * The merges that give what merging by score gives: of all pairs whose union is an entry, that of
 * the highest score, of equal ones the leftmost. Pairs of one union are ordered by their halves, as
 * Hugging Face's conversion does it.
 */
function mergesOf(
  { entries, typeOf }: Vocabulary,
  scores: ArrayLike<number | bigint>,
  fail: Fail,
): [string, string][] {
  const ids = new Map<string, number>();
  const merged: number[] = [];
  let steps = 0;
  for (const [id, entry] of entries.entries()) {
    const type = typeOf(id);
    if (type === TYPE.control || type === TYPE.unknown || type === TYPE.byte) continue;
    ids.set(entry, id);
    if (entry.length > MAX_MERGED_LENGTH) continue;
    merged.push(id);
    steps += entry.length ** 2;
  }
  if (steps > MAX_MERGE_STEPS) {
    throw fail(`finding its merges must take at most ${MAX_MERGE_STEPS} steps, got ${steps}`);
  }
  merged.sort((a, b) => Number(scores[b]) - Number(scores[a]) || a - b);
  const merges: [string, string][] = [];
  for (const id of merged) {
    const entry = entries[id]!;
    if (ids.get(entry) !== id) continue;
    const splits: [left: number, right: number][] = [];
    for (let at = 1; at < entry.length; at++) {
      const left = ids.get(entry.slice(0, at));
      const right = left === undefined ? undefined : ids.get(entry.slice(at));
      if (right !== undefined) splits.push([left!, right]);
    }
    splits.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    for (const [left, right] of splits) merges.push([entries[left]!, entries[right]!]);
  }
  return merges;
}

/** A merge is two entries around a space; an entry may begin with one in a few files. */
function splitMerge(merge: unknown, fail: Fail): [string, string] {
  const at = typeof merge === "string" ? merge.indexOf(" ", 1) : -1;
  if (at < 0) throw fail(`merges must be two texts around a space, got ${show(merge)}`);
  return [(merge as string).slice(0, at), (merge as string).slice(at + 1)];
}

/** Ids by text; of equal texts the last one counts, as in llama.cpp. */
function vocabOf({ entries }: Vocabulary): Readonly<Record<string, number>> {
  return Object.fromEntries(entries.map((entry, id) => [entry, id]));
}

function addedTokens({ entries, typeOf }: Vocabulary): unknown[] {
  const added: unknown[] = [];
  for (const [id, content] of entries.entries()) {
    const type = typeOf(id);
    const special = type === TYPE.control || type === TYPE.unknown;
    if ((!special && type !== TYPE.userDefined) || content === "") continue;
    added.push({ id, content, special, normalized: false });
  }
  return added;
}

/** What tokenizer_config.json says: the tokens with a role. */
function roles(
  metadata: TokenizerMetadata,
  vocabulary: Vocabulary,
  addsBos: boolean,
  fail: Fail,
): unknown {
  const content = (role: string) => {
    const id = tokenId(metadata, role, vocabulary, fail);
    return id === null ? {} : { [`${role}_token`]: vocabulary.entries[id] };
  };
  const template = metadata.get("tokenizer.chat_template");
  return {
    ...content("bos"),
    ...content("eos"),
    add_bos_token: readBoolean(metadata, "tokenizer.ggml.add_bos_token", addsBos, fail),
    ...template === undefined ? {} : { chat_template: template },
  };
}

/** The id of a token with a role, or null. */
function tokenId(
  metadata: TokenizerMetadata,
  role: string,
  { entries }: Vocabulary,
  fail: Fail,
): number | null {
  const key = `tokenizer.ggml.${role}_token_id`;
  const id = metadata.get(key) ?? NO_TOKEN;
  if (id === NO_TOKEN || id === -1) return null;
  if (!(Number.isInteger(id) && Number(id) >= 0 && Number(id) < entries.length)) {
    throw fail(`"${key}" must be below the vocabulary's ${entries.length} tokens, got ${show(id)}`);
  }
  return Number(id);
}

function readBoolean(
  metadata: TokenizerMetadata,
  key: string,
  fallback: boolean,
  fail: Fail,
): boolean {
  const value = metadata.get(key) ?? fallback;
  if (typeof value !== "boolean") throw fail(`"${key}" must be true or false, got ${show(value)}`);
  return value;
}

/** An array of numbers, one for each token; null where there is none. */
function numbersOf(
  metadata: TokenizerMetadata,
  key: string,
  length: number,
  fail: Fail,
): ArrayLike<number | bigint> | null {
  const value = metadata.get(key);
  if (value === undefined) return null;
  const numbers = value as ArrayLike<number | bigint>;
  if (!isList(value) || numbers.length !== length || typeof numbers[0] === "string") {
    throw fail(`"${key}" must be ${length} numbers, one for each token, got ${show(value)}`);
  }
  return numbers;
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value) || ArrayBuffer.isView(value);
}

function show(value: unknown): string {
  if (isList(value)) return `a list of ${value.length}`;
  return value === undefined ? "nothing" : String(value).slice(0, 64);
}
