import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readGgufTokenizer, type TokenizerMetadata } from "../src/text/gguf_tokenizer.ts";
import { PRE_TOKENIZERS } from "../src/text/pre_tokenizers.ts";
import { TokenEncoder } from "../src/text/token_encoder.ts";
import { createTokenizer, type Tokenizer } from "../src/text/tokenizer.ts";
import { missing, sharedUrl } from "./support/shared.ts";
import { readSentencePiece } from "./support/sentencepiece.ts";
import {
  anyText,
  metadataFrom,
  metadataOf,
  missingTokenizer,
  sharedText,
  tokenizerOf,
} from "./support/tokenizers.ts";

const runs = { seed: 3, numRuns: 25 } as const;

function tokenizerFrom(metadata: TokenizerMetadata, name = "test.gguf"): Tokenizer {
  const { json, config } = readGgufTokenizer(metadata, name)!;
  return createTokenizer(json, config, { name });
}

function passesCases(tokenizer: Tokenizer, file: string): void {
  const texts = sharedText(`tokenizers/cases/${file}.inp`).split("\n__ggml_vocab_test__\n");
  const lines = sharedText(`tokenizers/cases/${file}.out`).split("\n");
  equal(texts.length >= 40, true);
  texts.forEach((text, i) => {
    equal([...tokenizer.encode(text)].join(" "), (lines[i] ?? "").trim(), `case ${i}`);
  });
}

for (
  const [file, cases] of [["gpt-2", "gpt-2"], ["llama-spm", "llama-spm"]] as const
) {
  const path = `tokenizers/ggml-vocab-${file}.gguf`;
  test(`${path} alone gives llama.cpp's tokens of its test texts`, {
    skip: missing(path),
  }, async () => passesCases(tokenizerFrom(await metadataOf(path)), cases));
}

for (
  const [name, pre] of [["llama3", "llama-bpe"], ["qwen2", "qwen2"], ["gpt2", "gpt-2"]] as const
) {
  test(`metadata gives the tokens of ${name}'s tokenizer.json, and llama.cpp's of its texts`, {
    skip: missingTokenizer(name),
  }, () => {
    const tokenizer = tokenizerFrom(metadataFrom(name, pre));
    passesCases(tokenizer, pre);
    const expected = tokenizerOf(name);
    fc.assert(
      fc.property(anyText, fc.boolean(), (text, special) => {
        deepEqual(tokenizer.encode(text, { special }), expected.encode(text, { special }));
      }),
      runs,
    );
  });
}

test("metadata gives the tokens of Llama 2's tokenizer.json", {
  skip: missing("tokenizers/ggml-vocab-llama-spm.gguf") || missingTokenizer("llama2"),
}, async () => {
  const tokenizer = tokenizerFrom(await metadataOf("tokenizers/ggml-vocab-llama-spm.gguf"));
  const expected = tokenizerOf("llama2");
  equal(tokenizer.bosToken, expected.bosToken);
  equal(tokenizer.addBos, expected.addBos);
  equal(tokenizer.eosToken, expected.eosToken);
  // The shared tokenizer.json has a space where the model has a no-break space.
  const text = anyText.map((text) => text.replaceAll("\u00a0", ""));
  fc.assert(
    fc.property(text, (text) => {
      const tokens = tokenizer.encode(text, { special: false });
      deepEqual(tokens, expected.encode(text, { special: false }));
      equal(tokenizer.decode(tokens), expected.decode(tokens));
    }),
    runs,
  );
});

/** SentencePiece's own way: again and again the pair whose union scores highest, the leftmost first. */
function mergeByScore(metadata: TokenizerMetadata, text: string): number[] {
  const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
  const scores = metadata.get("tokenizer.ggml.scores") as Float32Array;
  const types = metadata.get("tokenizer.ggml.token_type") as Int32Array;
  const ids = new Map(tokens.flatMap((token, id) => types[id] === 1 ? [[token, id] as const] : []));
  const parts = [...text.replaceAll(" ", "▁")];
  for (;;) {
    let best = -1;
    let bestScore = -Infinity;
    for (let i = 0; i + 1 < parts.length; i++) {
      const id = ids.get(parts[i]! + parts[i + 1]!);
      if (id === undefined || scores[id]! <= bestScore) continue;
      best = i;
      bestScore = scores[id]!;
    }
    if (best < 0) break;
    parts.splice(best, 2, parts[best]! + parts[best + 1]!);
  }
  return parts.flatMap((part) =>
    ids.has(part) ? [ids.get(part)!] : Array.from(
      new TextEncoder().encode(part),
      (byte) => tokens.indexOf(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
    )
  );
}

const plainText = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(..." \n.,'-=()0123456789aeiourstlnTHE中日é👍") },
    {
      weight: 4,
      arbitrary: fc.constantFrom(" the", "  ", "    ", "and", "ing", "://", "tion", "2026"),
    },
    { weight: 1, arbitrary: fc.string({ unit: "grapheme", maxLength: 3 }) },
  ),
  { maxLength: 60, size: "max" },
).map((parts) => parts.join("").toWellFormed());

for (const file of ["mistral_v3_tokenizer.model", "internlm2_tokenizer.model"]) {
  const path = `tokenizers/${file}`;
  test(`the scores of ${file} give what merging by score gives`, { skip: missing(path) }, () => {
    const metadata = readSentencePiece(sharedUrl(path));
    const tokenizer = tokenizerFrom(
      new Map([...metadata, ["tokenizer.ggml.add_space_prefix", false]]),
    );
    ok(tokenizer.vocabSize > 32_000);
    const types = metadata.get("tokenizer.ggml.token_type") as Int32Array;
    const added = (metadata.get("tokenizer.ggml.tokens") as string[]).filter((_, i) =>
      types[i] === 4
    );
    fc.assert(
      fc.property(plainText, (text) => {
        fc.pre(!added.some((token) => text.includes(token)));
        deepEqual([...tokenizer.encode(text, { special: false })], mergeByScore(metadata, text));
      }),
      { ...runs, numRuns: 30 },
    );
  });
}

for (const path of ["stories260K", "stories260K-f16", "stories260K-q4_0"]) {
  const file = `models/stories260K/${path}.gguf`;
  test(`${file} has a tokenizer that undoes itself`, { skip: missing(file) }, async () => {
    const tokenizer = tokenizerFrom(await metadataOf(file));
    const text = "Once upon a time, there was a little girl named Lily. 中👍\n";
    equal(tokenizer.decode(tokenizer.encode(text)), text);
    deepEqual([tokenizer.bosToken, tokenizer.addBos, tokenizer.eosToken], [1, true, 2]);
  });
}

/** A name of each way to split, and the others of the same patterns left out. */
const ways = new Map([...PRE_TOKENIZERS].map(([pre, { patterns }]) => [patterns.join(), pre]));

for (const pre of ways.values()) {
  test(`text split as "${pre}" gives the same tokens however it is cut`, {
    skip: missingTokenizer("pocket"),
  }, () => {
    const tokenizer = tokenizerFrom(metadataFrom("pocket", pre));
    fc.assert(
      fc.property(anyText, fc.array(fc.nat(400), { maxLength: 8 }), (text, cuts) => {
        const encoder = new TokenEncoder(tokenizer, { batchLength: 7 });
        const places = [0, ...cuts.filter((at) => at <= text.length).sort((a, b) => a - b)];
        const tokens: number[] = [];
        places.forEach((at, i) =>
          tokens.push(...encoder.push(text.slice(at, places[i + 1])).tokens)
        );
        tokens.push(...encoder.flush().tokens);
        deepEqual(tokens, [...tokenizer.encode(text, { batchLength: 1 << 20 })]);
      }),
      runs,
    );
  });
}

const bytes = Array.from(
  { length: 256 },
  (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`,
);
const toy = (extra: readonly (readonly [string, unknown])[] = []): TokenizerMetadata =>
  new Map<string, unknown>([
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", "▁", "a", "▁a", "<tool>", ...bytes]],
    ["tokenizer.ggml.scores", new Float32Array(7 + 256)],
    ["tokenizer.ggml.token_type", Int32Array.from([2, 3, 3, 1, 1, 1, 4, ...bytes.map(() => 6)])],
    ...extra,
  ]);

test("SentencePiece metadata falls back to bytes, and adds a space unless told not to", () => {
  const tokenizer = tokenizerFrom(toy());
  deepEqual([...tokenizer.encode("a é")], [5, 3, 7 + 0xc3, 7 + 0xa9]);
  equal(tokenizer.decode(tokenizer.encode("a é")), "a é");
  const bare = tokenizerFrom(toy([["tokenizer.ggml.add_space_prefix", false]]));
  deepEqual([...bare.encode("a é")], [4, 3, 7 + 0xc3, 7 + 0xa9]);
  equal(bare.decode(bare.encode(" a")), " a");
});

test("control tokens of the metadata are found only on request, the user's own always", () => {
  const tokenizer = tokenizerFrom(toy([["tokenizer.ggml.add_space_prefix", false]]));
  deepEqual([...tokenizer.encode("<s>a<tool>")], [1, 4, 6]);
  const tokens = [...tokenizer.encode("<s>a<tool>", { special: false })];
  deepEqual(tokens.slice(-2), [4, 6]);
  ok(!tokens.includes(1));
});

test("a vocabulary may have no token for the beginning, or one for both ends", () => {
  const none = tokenizerFrom(toy([["tokenizer.ggml.bos_token_id", 0xffffffff]]));
  deepEqual([none.bosToken, none.addBos, none.eosToken], [null, false, null]);
  const both = tokenizerFrom(
    toy([["tokenizer.ggml.bos_token_id", 2], ["tokenizer.ggml.eos_token_id", 2]]),
  );
  deepEqual([both.bosToken, both.addBos, both.eosToken], [2, true, 2]);
  const without = tokenizerFrom(
    toy([["tokenizer.ggml.bos_token_id", 1], ["tokenizer.ggml.add_bos_token", false]]),
  );
  deepEqual([without.bosToken, without.addBos], [1, false]);
});

const wrong: readonly (readonly [string, readonly (readonly [string, unknown])[], RegExp])[] = [
  ["another kind", [["tokenizer.ggml.model", "t5"]], /must be "gpt2" or "llama", got "t5"/],
  [
    "no tokens",
    [["tokenizer.ggml.tokens", undefined]],
    /tokens" must be a list of texts, got nothing/,
  ],
  ["tokens that are numbers", [["tokenizer.ggml.tokens", [1]]], /must be a list of texts/],
  ["too few scores", [["tokenizer.ggml.scores", new Float32Array(3)]], /must be 263 numbers/],
  ["no scores", [["tokenizer.ggml.scores", undefined]], /scores" must be there/],
  ["an unknown split", [["tokenizer.ggml.model", "gpt2"], ["tokenizer.ggml.pre", "x"]], /got x$/],
  ["no merges", [["tokenizer.ggml.model", "gpt2"]], /merges" must be a list/],
  [
    "a merge of one text",
    [["tokenizer.ggml.model", "gpt2"], ["tokenizer.ggml.merges", ["a"]]],
    /two texts around a space, got a$/,
  ],
  ["a beginning beyond the tokens", [["tokenizer.ggml.bos_token_id", 999]], /below .* 263 tokens/],
  ["a flag that is none", [["tokenizer.ggml.add_bos_token", 1]], /must be true or false, got 1/],
  [
    "entries that take forever to merge",
    [
      ["tokenizer.ggml.tokens", Array.from({ length: 20_000 }, (_, i) => `${i}`.padEnd(256, "x"))],
      ["tokenizer.ggml.scores", new Float32Array(20_000)],
      ["tokenizer.ggml.token_type", undefined],
    ],
    /at most 1073741824 steps/,
  ],
];

for (const [what, extra, message] of wrong) {
  test(`a tokenizer in metadata with ${what} is refused by name`, () => {
    throws(() => readGgufTokenizer(toy(extra), "x.gguf"), { name: "TypeError", message });
    throws(() => readGgufTokenizer(toy(extra), "x.gguf"), /Cannot use the tokenizer of "x.gguf"/);
  });
}

test("metadata without a tokenizer has none", () => {
  equal(readGgufTokenizer(new Map(), "x.gguf"), null);
});
