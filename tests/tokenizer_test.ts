import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { Tokenizer as PackageTokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { createTokenizer, type Tokenizer } from "../src/text/tokenizer.ts";
import { TokenEncoder } from "../src/text/token_encoder.ts";
import {
  anyText,
  filesOf,
  folders,
  missing,
  names,
  sharedText,
  type TokenizerName,
  tokenizerOf,
} from "./support/tokenizers.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

const toy = {
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2, "<end>": 3 }, merges: ["a b"] },
  added_tokens: [{ id: 3, content: "<end>", special: true }],
};

/** The package's tokens, the special ones found or, with `special` false, left as text. */
function packageTokens(json: Any, config: Any, text: string, special: boolean): number[] {
  const added_tokens = json.added_tokens.filter((token: Any) => special || !token.special);
  const tokenizer = new PackageTokenizer({ ...json, added_tokens }, config);
  return tokenizer.encode(text, { add_special_tokens: false }).ids;
}

const cases: readonly (readonly [TokenizerName, string])[] = [
  ["llama3", "llama-bpe"],
  ["qwen2", "qwen2"],
  ["gpt2", "gpt-2"],
  ["llama2", "llama-spm"],
];

for (const [name, file] of cases) {
  test(`encode gives llama.cpp's tokens of its test texts for ${name}`, {
    skip: missing(folders[name]),
  }, () => {
    const tokenizer = tokenizerOf(name);
    const texts = sharedText(`tokenizers/cases/${file}.inp`).split("\n__ggml_vocab_test__\n");
    const lines = sharedText(`tokenizers/cases/${file}.out`).split("\n");
    const wrong = texts.filter((text, i) =>
      [...tokenizer.encode(text)].join(" ") !== (lines[i] ?? "").trim()
    );
    deepEqual(wrong, []);
  });
}
