import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  TokenEncoder,
  type TokenEncoderOptions,
  TokenEncoderStream,
} from "../src/text/token_encoder.ts";
import { createTokenizer, type Tokenizer } from "../src/text/tokenizer.ts";
import {
  folders,
  fragments,
  missing,
  names,
  sharedText,
  tokenizerOf,
} from "./support/tokenizers.ts";

const options = { seed: 7, numRuns: 150 } as const;
const utf8 = new TextEncoder();

const fragment = fc.constantFrom(...fragments);
const anyText = fc.array(
  fc.oneof({ weight: 8, arbitrary: fragment }, fc.string({ unit: "binary", maxLength: 4 }), {
    weight: 1,
    arbitrary: fc.tuple(fragment, fc.integer({ min: 2, max: 40 })).map(([text, n]) =>
      text.repeat(n)
    ),
  }),
  { maxLength: 40, size: "max" },
).map((parts) => parts.join(""));
const cuts = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 12, size: "max" });

/** Everything that an encoder gives for a text that arrives in the given parts. */
function encodeParts(tokenizer: Tokenizer, parts: readonly string[], options: TokenEncoderOptions) {
  const encoder = new TokenEncoder(tokenizer, options);
  const batches = [...parts.map((part) => encoder.push(part)), encoder.flush()];
  return {
    batches,
    tokens: batches.flatMap(({ tokens }) => [...tokens]),
    byteLength: batches.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

function cutAt(text: string, places: readonly number[]): string[] {
  const sorted = [0, ...places.filter((at) => at < text.length).sort((a, b) => a - b), text.length];
  return sorted.slice(1).map((end, i) => text.slice(sorted[i], end));
}

for (const name of names) {
  const skip = missing(folders[name]);

  test(`TokenEncoder emits ${name}'s tokens of the whole text however it is cut`, { skip }, () => {
    const tokenizer = tokenizerOf(name);
    fc.assert(
      fc.property(
        anyText,
        cuts,
        fc.constantFrom(1, 2, 7, 50, 1000),
        fc.boolean(),
        (text, places, batchLength, special) => {
          const whole = [...tokenizer.encode(text, { special })];
          const cut = encodeParts(tokenizer, cutAt(text, places), { special, batchLength });
          deepEqual(cut.tokens, whole);
          equal(cut.byteLength, utf8.encode(text).length);
        },
      ),
      options,
    );
  });

  test(
    `TokenEncoder emits ${name}'s tokens of the whole text one UTF-16 unit at a time`,
    { skip },
    () => {
      const tokenizer = tokenizerOf(name);
      fc.assert(
        fc.property(anyText, fc.boolean(), (text, special) => {
          const whole = [...tokenizer.encode(text, { special })];
          const cut = encodeParts(tokenizer, text.split(""), { special, batchLength: 1 });
          deepEqual(cut.tokens, whole);
          equal(cut.byteLength, utf8.encode(text).length);
        }),
        { ...options, numRuns: 60 },
      );
    },
  );

  test(`TokenEncoder says where each of ${name}'s tokens starts in the text`, { skip }, () => {
    const tokenizer = tokenizerOf(name);
    fc.assert(
      fc.property(anyText, cuts, (text, places) => {
        const bytes = utf8.encode(text);
        let start = 0;
        for (
          const batch of encodeParts(tokenizer, cutAt(text, places), { batchLength: 30 }).batches
        ) {
          let offset = 0;
          let next = 0;
          batch.tokens.forEach((token, i) => {
            while (batch.anchors[next]?.index === i) offset = batch.anchors[next++]!.byteOffset;
            const spelled = tokenizer.tokenBytes(token);
            // Where the text is not changed, the token's bytes are found at its place.
            if (name !== "qwen2" && !tokenizer.stripsFirstSpace) {
              deepEqual(
                bytes.slice(start + offset, start + offset + spelled.length),
                spelled.slice(),
              );
            }
            offset += spelled.length;
          });
          start += batch.byteLength;
        }
        equal(start, bytes.length);
      }),
      { ...options, numRuns: 60 },
    );
  });
}

for (const name of ["llama3", "llama2", "tinyStories", "qwen2"] as const) {
  test(`TokenEncoder cuts unbroken runs of ${name}'s where whole words would be`, {
    skip: missing(folders[name]),
  }, () => {
    const tokenizer = tokenizerOf(name);
    for (const unit of ["a", "=", " ", "ab", "中", "👍", "'", "\n", "e\u0301x", "the", "0"]) {
      const text = ("x" + unit.repeat(Math.ceil(180_000 / unit.length))).slice(0, 180_000) +
        "'s end";
      const whole = [...tokenizer.encode(text, { batchLength: 1 << 20 })];
      const { tokens, byteLength } = encodeParts(
        tokenizer,
        cutAt(text, [1, 70_001, 90_003, 171_717]),
        {},
      );
      ok(tokens.length === whole.length && tokens.every((token, i) => token === whole[i]), unit);
      equal(byteLength, utf8.encode(text).length);
    }
  });
}
