import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TokenDecoder, TokenDecoderStream } from "../src/text/token_decoder.ts";
import { createTokenizer, type Tokenizer } from "../src/text/tokenizer.ts";
import { anyText, missingTokenizer, names, tokenizerOf } from "./support/tokenizers.ts";

const runs = { seed: 5, numRuns: 100 } as const;

/** One token for each byte, and some for more. */
function byteTokenizer(): Tokenizer {
  const vocab: Record<string, number> = { "▁": 256, "▁a": 257, "<s>": 258 };
  for (let byte = 0; byte < 256; byte++) {
    vocab[`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`] = byte;
  }
  const decoders = [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    { type: "Strip", content: " ", start: 1, stop: 0 },
  ];
  return createTokenizer({
    model: { type: "BPE", vocab, merges: [], byte_fallback: true },
    decoder: { type: "Sequence", decoders },
    added_tokens: [{ id: 258, content: "<s>", special: true }],
  }, null);
}

for (const name of names) {
  test(`TokenDecoder gives the text of all of ${name}'s tokens one by one`, {
    skip: missingTokenizer(name),
  }, () => {
    const tokenizer = tokenizerOf(name);
    fc.assert(
      fc.property(
        fc.oneof(
          anyText.map((text) => [...tokenizer.encode(text)]),
          fc.array(fc.nat(tokenizer.vocabSize - 1), { maxLength: 60, size: "max" }),
        ),
        fc.boolean(),
        fc.boolean(),
        (tokens, special, continuation) => {
          const options = { special, continuation };
          const decoder = new TokenDecoder(tokenizer, options);
          const parts = [...tokens.map((token) => decoder.push(token)), decoder.flush()];
          equal(parts.join(""), tokenizer.decode(tokens, options));
          // Nothing but what the bytes themselves hold is replaced.
          const kept = tokens.filter((token) => special || !tokenizer.specialTokens.has(token));
          const bytes = kept.flatMap((token) => [...tokenizer.tokenBytes(token)]);
          const all = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
          const strips = tokenizer.stripsFirstSpace && !continuation && all.startsWith(" ");
          equal(parts.join(""), strips ? all.slice(1) : all);
        },
      ),
      runs,
    );
  });
}

test("TokenDecoder never splits a character", () => {
  const decoder = new TokenDecoder(byteTokenizer());
  const parts = [...new TextEncoder().encode("aé中👍")].map((byte) => decoder.push(byte));
  deepEqual(parts, ["a", "", "é", "", "", "中", "", "", "", "👍"]);
  equal(decoder.flush(), "");
});

test("TokenDecoder replaces what is no UTF-8 as TextDecoder does, however it comes", () => {
  const tokenizer = byteTokenizer();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 24, size: "max" }), fc.nat(24), (bytes, cut) => {
      const expected = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
      const decoder = new TokenDecoder(tokenizer, { continuation: true });
      const parts = [decoder.push(bytes.subarray(0, cut)), decoder.push(bytes.subarray(cut))];
      equal(parts.join("") + decoder.flush(), expected);
    }),
    { ...runs, numRuns: 2000 },
  );
});

test("TokenDecoder drops one space at the start of a text, and none of a continuation", () => {
  const tokenizer = byteTokenizer();
  const decode = (tokens: number[], continuation: boolean) => {
    const decoder = new TokenDecoder(tokenizer, { continuation });
    return tokens.map((token) => decoder.push(token));
  };
  deepEqual(decode([258, 257, 257], false), ["", "a", " a"]);
  deepEqual(decode([256, 256, 257], false), ["", " ", " a"]);
  deepEqual(decode([257, 257], true), [" a", " a"]);
  equal(tokenizer.decode([258, 257], { special: true }), "<s> a");
});

test("TokenDecoder is as new after flush", () => {
  const decoder = new TokenDecoder(byteTokenizer());
  equal(decoder.push([257, 0xc3]), "a");
  equal(decoder.flush(), "\ufffd");
  equal(decoder.push([257, 0xa9]), "a\ufffd");
});

test("TokenDecoder declines what is no token", () => {
  throws(() => new TokenDecoder(byteTokenizer()).push(259), RangeError);
});

test("TokenDecoderStream takes tokens one by one and in arrays", async () => {
  const stream = new TokenDecoderStream(byteTokenizer());
  const writer = stream.writable.getWriter();
  const written = (async () => {
    for (const tokens of [257, Uint32Array.of(0xe4, 0xb8), 0xad, new Uint32Array(0), 0xc3]) {
      await writer.write(tokens);
    }
    await writer.close();
  })();
  const parts: string[] = [];
  for await (const text of stream.readable) parts.push(text);
  await written;
  deepEqual(parts, ["a", "中", "\ufffd"]);
});
