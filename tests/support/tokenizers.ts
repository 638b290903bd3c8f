/**
 * The tokenizers that tests read, and texts that make tokenizers stumble.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { readGguf } from "../../src/files/gguf.ts";
import { openFile, pathOf } from "../../src/system/file_source.ts";
import type { TokenizerMetadata } from "../../src/text/gguf_tokenizer.ts";
import { createTokenizer, type Tokenizer } from "../../src/text/tokenizer.ts";
import { missing, readJson, sharedUrl } from "./shared.ts";

/** Where the tokenizers are. */
const folders = {
  llama3: "tokenizers/llama3/",
  qwen2: "tokenizers/qwen2/",
  gpt2: "tokenizers/gpt2/",
  llama2: "tokenizers/llama2/",
  tinyStories: "models/TinyStories-656K/",
  pocket: "models/pocket/",
} as const;

/** One of them. */
export type TokenizerName = keyof typeof folders;

/** All of them. */
export const names = Object.keys(folders) as readonly TokenizerName[];

/** For `test`'s `skip`: false where a tokenizer is there, else why not. */
export function missingTokenizer(name: TokenizerName): string | false {
  return missing(`${folders[name]}tokenizer.json`);
}

/** A shared file's text. */
export function sharedText(path: string): string {
  return readFileSync(sharedUrl(path), "utf8");
}

/** A tokenizer's files, parsed. */
export function filesOf(name: TokenizerName): { json: unknown; config: unknown } {
  return {
    json: readJson(`${folders[name]}tokenizer.json`),
    config: readJson(`${folders[name]}tokenizer_config.json`),
  };
}

const loaded = new Map<TokenizerName, Tokenizer>();

/** One of the tokenizers, made once. */
export function tokenizerOf(name: TokenizerName): Tokenizer {
  let tokenizer = loaded.get(name);
  if (tokenizer === undefined) {
    const { json, config } = filesOf(name);
    tokenizer = createTokenizer(json, config, { name });
    loaded.set(name, tokenizer);
  }
  return tokenizer;
}

/** The metadata that a converter writes for a byte-level tokenizer.json. */
export function metadataFrom(name: TokenizerName, pre: string): TokenizerMetadata {
  // deno-lint-ignore no-explicit-any
  const { model, added_tokens } = filesOf(name).json as any;
  const tokens: string[] = [];
  for (const [text, id] of Object.entries(model.vocab)) tokens[id as number] = text;
  const types = new Int32Array(tokens.length + added_tokens.length).fill(1);
  for (const { id, content, special } of added_tokens) {
    tokens[id] = content;
    types[id] = special ? 3 : 4;
  }
  return new Map<string, unknown>([
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", pre],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", types.slice(0, tokens.length)],
    [
      "tokenizer.ggml.merges",
      model.merges.map((merge: string | string[]) =>
        typeof merge === "string" ? merge : merge.join(" ")
      ),
    ],
  ]);
}

/** The metadata of a shared GGUF. */
export async function metadataOf(path: string): Promise<TokenizerMetadata> {
  const file = await openFile(pathOf(sharedUrl(path)));
  try {
    return (await readGguf(file)).metadata;
  } finally {
    await file.close?.();
  }
}

/** What makes tokenizers stumble: white space, digits, apostrophes, scripts, marks, control tokens. */
export const fragments: readonly string[] = [
  ..." \n\r\t'.,!-_=019aAbeéßΩжשع中日本한글กั̀\u0301\u0327あ\u3099👍\u200d",
  ...["  ", "    ", "\r\n", "\n\n", "\n \n", " \r\n ", "'s", "'ll", "'RE", "don't", " the", "The "],
  ...["12345", "3.14", " 2026", "https://", "{}", "();", "👩‍👩‍👧", "🇩🇪", "e\u0301", "a\u0323\u0307"],
  ...[
    "각",
    "가\u11a8",
    "\u1100\u1161",
    "Å",
    "\u212b",
    "ﬁ",
    "\u00a0",
    "\u2028",
    "▁",
    "▁▁",
    "Ġ",
    "�",
    "\0",
  ],
  ...["<|end_of_text|>", "<|begin", "_of_text|>", "<|", "|>", "<s>", "</s>", "<unk>", "<", "s>"],
  ...[
    "<|im_start|>",
    "<|endoftext|>",
    "<|start_story|>",
    "<0x0A>",
    "<0x",
    "once upon a time",
    " Lily",
  ],
];

const fragment = fc.constantFrom(...fragments);

/** Texts of such fragments, some of them repeated, and of any characters, lone surrogates included. */
export const anyText: fc.Arbitrary<string> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fragment },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 4 }) },
    {
      weight: 1,
      arbitrary: fc.tuple(fragment, fc.integer({ min: 2, max: 40 }))
        .map(([text, count]) => text.repeat(count)),
    },
  ),
  { maxLength: 40, size: "max" },
).map((parts) => parts.join(""));
