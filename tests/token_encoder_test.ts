import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { Tokenizer as PackageTokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { MAX_CARRY_LENGTH } from "../src/text/piece_encoder.ts";
import {
  TokenEncoder,
  type TokenEncoderOptions,
  TokenEncoderStream,
} from "../src/text/token_encoder.ts";
import { TokenLog } from "../src/text/token_log.ts";
import type { EncodedTokens } from "../src/text/token_places.ts";
import type { Tokenizer } from "../src/text/tokenizer.ts";
import {
  anyText,
  filesOf,
  missingTokenizer,
  names,
  sharedText,
  tokenizerOf,
} from "./support/tokenizers.ts";

const options = { seed: 7, numRuns: 150 } as const;
const utf8 = new TextEncoder();

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

/** Asserts that two long lists of tokens are equal, without printing them. */
function same(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  const tokens = Array.from(expected);
  const different = tokens.findIndex((token, i) => token !== actual[i]);
  equal(different, -1, `${what}: token ${different} differs`);
  equal(actual.length, tokens.length, what);
}

function cutAt(text: string, places: readonly number[]): string[] {
  const sorted = [0, ...places.filter((at) => at < text.length).sort((a, b) => a - b), text.length];
  return sorted.slice(1).map((end, i) => text.slice(sorted[i], end));
}

for (const name of names) {
  const skip = missingTokenizer(name);

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

  test(
    `TokenEncoder forks anywhere in ${name}'s text, and neither disturbs the other`,
    { skip },
    () => {
      const tokenizer = tokenizerOf(name);
      fc.assert(
        fc.property(anyText, cuts, fc.constantFrom(1, 7, 50), (text, places, batchLength) => {
          const parts = cutAt(text, places);
          const encoder = new TokenEncoder(tokenizer, { batchLength });
          const tokens: number[] = [];
          parts.forEach((part, i) => {
            tokens.push(...encoder.push(part).tokens);
            const begun = encodeParts(tokenizer, parts.slice(0, i + 1), { batchLength });
            const { tokens: rest } = encoder.fork().flush();
            deepEqual([...tokens, ...rest], begun.tokens);
          });
          deepEqual([...tokens, ...encoder.flush().tokens], [...tokenizer.encode(text)]);
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

for (const name of ["llama3", "llama2", "tinyStories"] as const) {
  test(`TokenEncoder cuts unbroken runs of ${name}'s exactly as the package encodes them whole`, {
    skip: missingTokenizer(name),
  }, () => {
    const tokenizer = tokenizerOf(name);
    const { json, config } = filesOf(name);
    const whole = new PackageTokenizer(json as object, config as object);
    // Longer than a piece of a word, so that pieces meet.
    for (const unit of ["a", "=", " ", "中", "👍", "'", "\n", "the", "0"]) {
      const text = "x" + unit.repeat(Math.ceil(11_000 / unit.length)) + "'s end";
      const expected = whole.encode(text, { add_special_tokens: false }).ids;
      const { tokens } = encodeParts(tokenizer, cutAt(text, [1, 4_001, 9_999]), {
        batchLength: 500,
      });
      same(tokens, expected, unit);
    }
  });
}

test("TokenEncoder holds back no more than its bound, exactly but for line breaks after it", {
  skip: missingTokenizer("pocket"),
}, () => {
  const tokenizer = tokenizerOf("pocket");
  for (const unit of ["a", " ", "中", "'"]) {
    const text = "x" + unit.repeat(Math.ceil(200_000 / unit.length)) + "'s end";
    const expected = tokenizer.encode(text, { batchLength: 1 << 20 });
    const encoder = new TokenEncoder(tokenizer);
    const tokens: number[] = [];
    let held = 0;
    for (const part of cutAt(text, Array.from({ length: 200 }, (_, i) => i * 1000))) {
      const encoded = encoder.push(part);
      held += utf8.encode(part).length - encoded.byteLength;
      ok(held <= 3 * (MAX_CARRY_LENGTH + (1 << 15)), `${unit}: ${held} bytes`);
      for (const token of encoded.tokens) tokens.push(token);
    }
    for (const token of encoder.flush().tokens) tokens.push(token);
    same(tokens, expected, unit);
  }
});

test("TokenEncoder emits the tokens of 300,000 characters of prose whatever arrives", {
  skip: missingTokenizer("pocket"),
}, () => {
  const tokenizer = tokenizerOf("pocket");
  const text = sharedText("text/war-and-peace.txt").slice(1_000_000, 1_300_000);
  const expected = tokenizer.encode(text);
  for (const size of [1, 17, 1000, 65_536]) {
    const encoder = new TokenEncoder(tokenizer);
    const tokens: number[] = [];
    const take = ({ tokens: more }: EncodedTokens) => more.forEach((token) => tokens.push(token));
    for (let start = 0; start < text.length; start += size) {
      take(encoder.push(text.slice(start, start + size)));
    }
    take(encoder.flush());
    same(tokens, expected, `${size}`);
  }
});

test("TokenEncoder is as new after flush", { skip: missingTokenizer("llama2") }, () => {
  const encoder = new TokenEncoder(tokenizerOf("llama2"));
  const once = () => {
    const { tokens } = encoder.push("Hello ");
    return [...tokens, ...encoder.flush().tokens];
  };
  deepEqual(once(), once());
});

test("TokenEncoder says where tokens start although a space was put before the text", {
  skip: missingTokenizer("llama2"),
}, () => {
  const encoder = new TokenEncoder(tokenizerOf("llama2"));
  encoder.push("Hello wörld▁x again");
  const { tokens, byteLength, anchors } = encoder.flush();
  equal(byteLength, 22);
  const log = new TokenLog((token) => tokenizerOf("llama2").tokenBytes(token).length);
  log.append(tokens, byteLength, anchors);
  const starts = Array.from(tokens, (_, i) => log.byteOffset(i));
  deepEqual(starts.slice(0, 3), [0, 5, 7]); // ▁Hello | ▁w | ö
  equal(starts.at(-1), 16); // ▁again
});

test("TokenEncoder declines a batch length that is none", {
  skip: missingTokenizer("pocket"),
}, () => {
  for (const batchLength of [0, -1, 1.5, NaN]) {
    throws(() => new TokenEncoder(tokenizerOf("pocket"), { batchLength }), RangeError);
  }
});

test("TokenEncoderStream encodes what is piped through it", {
  skip: missingTokenizer("pocket"),
}, async () => {
  const tokenizer = tokenizerOf("pocket");
  const text = sharedText("text/tinystories_sample.txt");
  const stream = new TokenEncoderStream(tokenizer, { batchLength: 100 });
  const writer = stream.writable.getWriter();
  const written = (async () => {
    for (const part of cutAt(text, [10, 500, 501, 2000])) await writer.write(part);
    await writer.close();
  })();
  const tokens: number[] = [];
  for await (const part of stream.readable) tokens.push(...part);
  await written;
  same(tokens, tokenizer.encode(text), "sample");
});

for (
  const [name, before, after] of [
    ["llama3", "<|begin_of_text|>Hello<|reserved_special_token_1|>\n\n", " \n<|end_of_text|>\n\n"],
    ["qwen2", "<|im_start|>user\né", "<|im_end|>\n<|im_start|>assistant\n"],
    ["gpt2", " [INST] ", " [/INST]"],
    ["llama2", "[INST] <<SYS>>", " 👍[/INST]"],
    ["tinyStories", "Once", " upon"],
  ] as const
) {
  test(`markup around ${name}'s input is encoded as one with it, and has none of its bytes`, {
    skip: missingTokenizer(name),
  }, () => {
    const tokenizer = tokenizerOf(name);
    fc.assert(
      fc.property(anyText, cuts, (any, cuts) => {
        // Marks would join the markup under a normalization; white space at the end, what follows.
        const text = `a${any.toWellFormed().replaceAll(/<[|/a-z]/g, "")}z`;
        const encoder = new TokenEncoder(tokenizer, { special: false, batchLength: 9 });
        encoder.pushMarkup(before);
        const batches = cutAt(text, cuts).map((part) => encoder.push(part));
        encoder.pushMarkup(after);
        batches.push(encoder.flush());
        const tokens = batches.flatMap((batch) => [...batch.tokens]);
        deepEqual(tokens, [...tokenizer.encode(before + text + after)]);
        ok(batches.every(({ byteLength }) => byteLength >= 0));
        equal(batches.reduce((sum, batch) => sum + batch.byteLength, 0), utf8.encode(text).length);
      }),
      { ...options, numRuns: 60 },
    );
  });
}
