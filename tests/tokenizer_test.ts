import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { Tokenizer as PackageTokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { createTokenizer, type Tokenizer } from "../src/text/tokenizer.ts";
import { MAX_TOKEN_ID } from "../src/text/tokenizer_json.ts";
import {
  anyText,
  filesOf,
  missingTokenizer,
  names,
  sharedText,
  type TokenizerName,
  tokenizerOf,
} from "./support/tokenizers.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

const runs = { seed: 11, numRuns: 100 } as const;

const toy = {
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2, "<end>": 3 }, merges: ["a b"] },
  added_tokens: [{ id: 3, content: "<end>", special: true }],
};

/** The package's own tokens of a text, as the oracle. */
function oracle(json: Any, config: Any, special: boolean): (text: string) => number[] {
  const added_tokens = json.added_tokens.filter((token: Any) => special || !token.special);
  const tokenizer = new PackageTokenizer({ ...json, added_tokens }, config);
  return (text) => tokenizer.encode(text, { add_special_tokens: false }).ids;
}

/** Asserts that a tokenizer and the package agree on many texts. */
function agrees(json: Any, config: Any, tokenizer: Tokenizer, numRuns: number): void {
  for (const special of [true, false]) {
    const expected = oracle(json, config, special);
    fc.assert(
      fc.property(anyText, (text) => {
        deepEqual([...tokenizer.encode(text, { special })], expected(text));
      }),
      { ...runs, numRuns },
    );
  }
}

const cases: readonly (readonly [TokenizerName, string])[] = [
  ["llama3", "llama-bpe"],
  ["qwen2", "qwen2"],
  ["gpt2", "gpt-2"],
  ["llama2", "llama-spm"],
];

for (const [name, file] of cases) {
  test(`encode gives llama.cpp's tokens of its test texts for ${name}`, {
    skip: missingTokenizer(name),
  }, () => {
    const texts = sharedText(`tokenizers/cases/${file}.inp`).split("\n__ggml_vocab_test__\n");
    const lines = sharedText(`tokenizers/cases/${file}.out`).split("\n");
    equal(texts.length >= 40, true);
    texts.forEach((text, i) => {
      equal([...tokenizerOf(name).encode(text)].join(" "), (lines[i] ?? "").trim(), `case ${i}`);
    });
  });
}

for (const name of names) {
  test(`encode gives the package's tokens for ${name}`, { skip: missingTokenizer(name) }, () => {
    const { json, config } = filesOf(name);
    agrees(json, config, tokenizerOf(name), runs.numRuns);
  });
}

/** An added token of tokenizer.json. */
function added(id: number, content: string, rules: Any = {}): Any {
  const plain = {
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  return { id, content, ...plain, ...rules };
}

function metaspace(prepend_scheme: string): (json: Any) => Any {
  const pre_tokenizer = { type: "Metaspace", replacement: "▁", prepend_scheme, split: false };
  return (json) => ({ ...json, normalizer: null, pre_tokenizer });
}

const variants: readonly (readonly [string, TokenizerName, (json: Any) => Any])[] = [
  ["Metaspace before the first section", "llama2", metaspace("first")],
  ["Metaspace before every section", "llama2", metaspace("always")],
  ["Metaspace before none", "llama2", metaspace("never")],
  ["Replace alone, and added white space", "llama2", (json) => ({
    ...json,
    normalizer: { type: "Replace", pattern: { String: " " }, content: "▁" },
    added_tokens: [
      ...json.added_tokens.map((token: Any) => ({ ...token, normalized: false })),
      ...["\n\n", "   ", "  "].map((text, i) => added(32000 + i, text, { special: false })),
    ],
  })],
  ["added tokens that take the white space after them", "llama2", (json) => ({
    ...json,
    added_tokens: json.added_tokens.map((t: Any) => ({ ...t, normalized: false, rstrip: true })),
  })],
  ["added tokens that take the white space before them", "pocket", (json) => ({
    ...json,
    added_tokens: [
      ...json.added_tokens,
      added(1024, "<s>", { lstrip: true }),
      added(1025, "|>", { lstrip: true, rstrip: true, special: false }),
    ],
  })],
  ["ByteLevel that adds a space", "gpt2", (json) => ({
    ...json,
    pre_tokenizer: { ...json.pre_tokenizer, add_prefix_space: true },
  })],
  ["ByteLevel without a pattern", "pocket", (json) => ({
    ...json,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
  })],
  ["Digits and Punctuation", "pocket", (json) => ({
    ...json,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Digits", individual_digits: true },
        { type: "Punctuation" },
        { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      ],
    },
  })],
  ["NFKC, and added tokens that are normalized", "qwen2", (json) => ({
    ...json,
    normalizer: { type: "Sequence", normalizers: [{ type: "NFKC" }] },
    added_tokens: [...json.added_tokens, added(151646, "e\u0301", { normalized: true })],
  })],
];

for (const [what, name, change] of variants) {
  test(`encode gives the package's tokens for ${name} with ${what}`, {
    skip: missingTokenizer(name),
  }, () => {
    const json = change(filesOf(name).json);
    agrees(json, {}, createTokenizer(json, {}), 60);
  });
}

test("encode finds special tokens in a text, or leaves them text", () => {
  const tokenizer = createTokenizer(toy, null);
  deepEqual([...tokenizer.encode("ab<end>")], [2, 3]);
  // "<", "e" and so on are no entries, and this vocabulary has nothing that stands for them.
  deepEqual([...tokenizer.encode("ab<end>", { special: false })], [2]);
});

test("no text becomes a special token when special tokens are text", {
  skip: missingTokenizer("llama3"),
}, () => {
  for (const name of names) {
    if (missingTokenizer(name)) continue;
    const tokenizer = tokenizerOf(name);
    const unknown = name === "tinyStories" ? 0 : -1;
    for (const token of tokenizer.specialTokens) {
      const text = new TextDecoder().decode(tokenizer.tokenBytes(token));
      for (const spelled of [text, ` ${text}`, `a${text}b`, text + text]) {
        const tokens = [...tokenizer.encode(spelled, { special: false })];
        const found = tokens.filter((id) => id !== unknown && tokenizer.specialTokens.has(id));
        deepEqual(found, [], `${name} ${JSON.stringify(spelled)}`);
      }
      if (name !== "tinyStories") {
        equal(tokenizer.decode(tokenizer.encode(text, { special: false })), text);
      }
    }
  }
});

test("merging never yields a special token that the vocabulary happens to have", () => {
  const vocab = { "<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4 };
  const model = { type: "BPE", vocab, merges: ["< s", "<s >"], ignore_merges: true };
  const tokenizer = createTokenizer(
    { model, added_tokens: [{ id: 4, content: "<s>", special: true }] },
    null,
  );
  deepEqual([...tokenizer.encode("<s>")], [4]);
  deepEqual([...tokenizer.encode("<s>", { special: false })].includes(4), false);
});

test("special roles come from the configuration or the post-processor", () => {
  const roles = (name: TokenizerName) => {
    const { bosToken, addBos, eosToken, vocabSize } = tokenizerOf(name);
    return { bosToken, addBos, eosToken, vocabSize };
  };
  const expected: readonly (readonly [TokenizerName, ReturnType<typeof roles>])[] = [
    ["llama3", { bosToken: 128000, addBos: false, eosToken: 128001, vocabSize: 128256 }],
    ["qwen2", { bosToken: null, addBos: false, eosToken: 151645, vocabSize: 151646 }],
    ["gpt2", { bosToken: null, addBos: false, eosToken: 50256, vocabSize: 50257 }],
    ["llama2", { bosToken: 1, addBos: true, eosToken: 2, vocabSize: 32000 }],
    ["tinyStories", { bosToken: 1, addBos: true, eosToken: 2, vocabSize: 2048 }],
    ["pocket", { bosToken: 1022, addBos: true, eosToken: 1023, vocabSize: 1024 }],
  ];
  for (const [name, want] of expected) if (!missingTokenizer(name)) deepEqual(roles(name), want);

  const single = [{ SpecialToken: { id: "<end>", type_id: 0 } }, {
    Sequence: { id: "A", type_id: 0 },
  }];
  const post_processor = {
    type: "Sequence",
    processors: [{ type: "ByteLevel" }, { type: "TemplateProcessing", single, pair: single }],
  };
  const { bosToken, addBos } = createTokenizer({ ...toy, post_processor }, null);
  deepEqual([bosToken, addBos], [3, true]);
  equal(createTokenizer({ ...toy, post_processor }, { add_bos_token: false }).addBos, false);
});

test("tokenBytes gives the bytes of every token of a text, in order", () => {
  for (const name of names) {
    if (missingTokenizer(name) || name === "tinyStories") continue;
    const tokenizer = tokenizerOf(name);
    const text = " Ünïcode 中文 👩‍👩‍👧\r\n\t0123 'tis <s>";
    const tokens = [...tokenizer.encode(text, { special: false })];
    const bytes = tokens.flatMap((token) => [...tokenizer.tokenBytes(token)]);
    const start = tokenizer.stripsFirstSpace ? " " : "";
    equal(new TextDecoder().decode(Uint8Array.from(bytes)), start + text, name);
  }
});

test("decode undoes encode, except what normalization changed", () => {
  for (const name of ["llama3", "gpt2", "pocket", "llama2"] as const) {
    if (missingTokenizer(name)) continue;
    const tokenizer = tokenizerOf(name);
    fc.assert(
      fc.property(anyText, (text) => {
        const expected = text.toWellFormed();
        const actual = tokenizer.decode(tokenizer.encode(text, { special: false }));
        equal(actual, tokenizer.stripsFirstSpace ? expected.replaceAll("▁", " ") : expected);
      }),
      runs,
    );
  }
});

test("decode leaves special tokens out unless asked, and keeps a continuation's space", () => {
  const tokenizer = createTokenizer(toy, null);
  equal(tokenizer.decode([2, 3, 0]), "aba");
  equal(tokenizer.decode([2, 3, 0], { special: true }), "ab<end>a");
  equal(tokenizer.decode([]), "");
  if (missingTokenizer("llama2")) return;
  const llama2 = tokenizerOf("llama2");
  const tokens = llama2.encode("Hello world");
  equal(llama2.decode(tokens), "Hello world");
  equal(llama2.decode(tokens.subarray(1)), "world");
  equal(llama2.decode(tokens.subarray(1), { continuation: true }), " world");
});

test("a continuation gets no space put before it", { skip: missingTokenizer("llama2") }, () => {
  const tokenizer = tokenizerOf("llama2");
  const whole = [...tokenizer.encode("Hello world.")];
  const parts = [tokenizer.encode("Hello"), tokenizer.encode(" world.", { continuation: true })];
  deepEqual(parts.flatMap((tokens) => [...tokens]), whole);
});

test("createTokenizer declines a tokenizer that is larger than the vocabulary", () => {
  equal(createTokenizer(toy, null, { vocabSize: 4 }).vocabSize, 4);
  equal(createTokenizer(toy, null, { vocabSize: 9 }).tokenBytes(8).length, 0);
  throws(() => createTokenizer(toy, null, { vocabSize: 3, name: "t.json" }), {
    name: "RangeError",
    message: 'Cannot use the tokenizer "t.json": token ids must be below the model\'s vocabulary ' +
      'of 3 tokens, got 3 ("<end>")',
  });
});

test("decode and tokenBytes decline what is no token", () => {
  const tokenizer = createTokenizer(toy, null);
  for (const token of [4, -1, 0.5, NaN]) {
    throws(() => tokenizer.decode([token]), RangeError);
    throws(() => tokenizer.tokenBytes(token), RangeError);
  }
});

const { model } = toy;
const declined: readonly (readonly [string, unknown, unknown, RegExp])[] = [
  ["nothing", null, null, /tokenizer\.json must be an object, got null/],
  ["no model", {}, null, /model must be an object, got undefined/],
  ["a configuration that is none", { model }, [], /tokenizer_config\.json must be an object/],
  ["Unigram", { model: { ...model, type: "Unigram" } }, null, /must be "BPE", got "Unigram"/],
  ["no vocabulary", { model: { type: "BPE", merges: [] } }, null, /vocab must be an object/],
  ["no merges", { model: { type: "BPE", vocab: {} } }, null, /merges must be an array/],
  ["merges of one part", { model: { ...model, merges: ["a b", "ab"] } }, null, /got "ab" at 1/],
  ["a negative id", { model: { ...model, vocab: { a: -1 } } }, null, /got -1 for "a"/],
  ["a huge id", { model: { ...model, vocab: { a: MAX_TOKEN_ID + 1 } } }, null, /got 16777216/],
  ["suffixes", { model: { ...model, end_of_word_suffix: "</w>" } }, null, /must be empty/],
  ["an added token without text", { model, added_tokens: [{ id: 1 }] }, null, /added_tokens\[0\]/],
  ["Lowercase", { model, normalizer: { type: "Lowercase" } }, null, /got "Lowercase"/],
  [
    "another Replace",
    {
      model,
      normalizer: { type: "Replace", pattern: { Regex: "." }, content: "" },
    },
    null,
    /got "Replace"/,
  ],
  ["Whitespace", { model, pre_tokenizer: { type: "Whitespace" } }, null, /got "Whitespace"/],
  ["a Split of nothing", { model, pre_tokenizer: { type: "Split" } }, null, /without a pattern/],
  [
    "a pattern that is none",
    {
      model,
      pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" },
    },
    null,
    /the package must accept it/,
  ],
  ["WordPiece", { model, decoder: { type: "WordPiece" } }, null, /got "WordPiece"/],
  [
    "changes of case",
    { model },
    { do_lowercase_and_remove_accent: true },
    /must not change the text/,
  ],
];

for (const [what, json, config, message] of declined) {
  test(`createTokenizer declines ${what}`, () => {
    throws(() => createTokenizer(json, config), { name: "TypeError", message });
  });
}
