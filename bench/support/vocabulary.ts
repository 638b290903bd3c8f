/**
 * Vocabularies for models without meaning: a real one where its tokenizer.json is at hand, else one
 * of bytes and fillers.
 *
 * @module
 */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BYTE_CHARACTERS } from "../../src/text/byte_alphabet.ts";

/** A byte-level vocabulary, and the files that Hugging Face's layout has for it. */
export interface Vocabulary {
  /** The text of each id, in the byte alphabet. */
  readonly tokens: readonly string[];
  /** Ids that are no text: special, or fillers. */
  readonly control: ReadonlySet<number>;
  /** `a b`, the most important first. */
  readonly merges: readonly string[];
  readonly bos: number | null;
  readonly eos: number;
  /** GGUF's name for the way in which text is split before merging. */
  readonly pre: string;
  /** By file name. */
  readonly files: Readonly<Record<string, unknown>>;
}

/** What of a tokenizer.json is used. */
interface TokenizerJson {
  readonly added_tokens: readonly {
    readonly id: number;
    readonly content: string;
  }[];
  readonly model: {
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (string | readonly [string, string])[];
  };
}

/**
 * The vocabulary in a folder, filled up to a size.
 *
 * @throws {RangeError} If it is larger than that.
 */
export function readVocabulary(folder: string, pre: string, vocabSize: number): Vocabulary {
  const files = Object.fromEntries(
    ["tokenizer.json", "tokenizer_config.json"].filter((name) => existsSync(join(folder, name)))
      .map((name) => [name, JSON.parse(readFileSync(join(folder, name), "utf8"))]),
  );
  const json = files["tokenizer.json"] as TokenizerJson;
  const config = (files["tokenizer_config.json"] ?? {}) as Readonly<
    Record<string, unknown>
  >;
  const tokens: string[] = [];
  for (const [text, id] of Object.entries(json.model.vocab)) tokens[id] = text;
  for (const { id, content } of json.added_tokens) tokens[id] = content;
  if (tokens.length > vocabSize) {
    throw new RangeError(
      `Cannot use the vocabulary in "${folder}": it must have at most ${vocabSize} tokens, got ${tokens.length}`,
    );
  }
  const control = new Set(json.added_tokens.map(({ id }) => id));
  for (let id = 0; id < vocabSize; id++) {
    if (tokens[id] !== undefined) continue;
    tokens[id] = filler(id);
    control.add(id);
  }
  const idOf = (name: string) => {
    const id = tokens.indexOf(String(config[name]));
    return id < 0 ? null : id;
  };
  return {
    tokens,
    control,
    merges: json.model.merges.map((merge) => typeof merge === "string" ? merge : merge.join(" ")),
    bos: idOf("bos_token"),
    eos: idOf("eos_token") ?? vocabSize - 1,
    pre,
    files,
  };
}

/** Bytes, one merge, fillers, and the two special tokens. Token 0 is "!", as in real ones. */
export function inventVocabulary(vocabSize: number): Vocabulary {
  const characters = Array.from(BYTE_CHARACTERS, (code) => String.fromCharCode(code)).sort();
  const special = ["<|begin_of_text|>", "<|end_of_text|>"];
  const tokens = [...characters, "an"];
  if (vocabSize < tokens.length + special.length) {
    throw new RangeError(
      `Cannot invent a vocabulary: it must have at least ${
        tokens.length + special.length
      } tokens, got ${vocabSize}`,
    );
  }
  while (tokens.length < vocabSize - special.length) {
    tokens.push(filler(tokens.length));
  }
  const [bos, eos] = [tokens.length, tokens.length + 1];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  tokens.push(...special);
  const added = special.map((content, i) => ({
    id: bos + i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  return {
    tokens,
    control: new Set([bos, eos]),
    merges: ["a n"],
    bos,
    eos,
    pre: "gpt-2",
    files: {
      "tokenizer.json": {
        version: "1.0",
        truncation: null,
        padding: null,
        added_tokens: added,
        normalizer: null,
        pre_tokenizer: { ...byteLevel, use_regex: true },
        post_processor: null,
        decoder: byteLevel,
        model: { type: "BPE", vocab, merges: ["a n"] },
      },
      "tokenizer_config.json": {
        bos_token: special[0],
        eos_token: special[1],
        add_bos_token: true,
        tokenizer_class: "PreTrainedTokenizerFast",
      },
    },
  };
}

function filler(id: number): string {
  return `[filler ${id}]`.replaceAll(" ", "_");
}
