import { deepEqual, equal, notEqual, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { createNeedles, NEEDLE_KINDS, seededRandom, writeHaystack } from "../src/eval/haystack.ts";
import { SCENES, TALK, WORDS } from "../src/eval/haystack_words.ts";

function textOf(...[options]: Parameters<typeof writeHaystack>): string {
  let text = "";
  for (const piece of writeHaystack(options)) text += piece.text;
  return text;
}

test("a seed gives the same text and needles on every runtime", () => {
  // Values of the first run: they hold this file to the same text in Deno, Bun and Node.
  const needles = createNeedles(NEEDLE_KINDS, 7);
  const text = textOf({ seed: 7, length: 100_000, needles });
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  deepEqual({ length: text.length, hash }, EXPECTED);
  notEqual(textOf({ seed: 8, length: 1000 }), textOf({ seed: 7, length: 1000 }));
});

test("each needle stands once in the text, right after its depth", () => {
  const length = 200_000;
  for (const seed of [1, 2, 3]) {
    const needles = createNeedles(NEEDLE_KINDS, seed);
    const text = textOf({ seed, length, needles });
    for (const { sentence, depth } of needles) {
      const at = text.indexOf(sentence);
      ok(at >= depth * length && at < depth * length + 1000, `${at} for ${depth}`);
      equal(text.indexOf(sentence, at + 1), -1);
      ok(/[.!?"]$/.test(text.slice(0, at)), text.slice(at - 20, at));
    }
  }
});

test("needles at both ends of the text are written", () => {
  const [needle] = createNeedles(["magic"], 1);
  for (const depth of [0, 1]) {
    const needles = [{ ...needle!, depth }];
    const text = textOf({ seed: 1, length: 5000, needles });
    ok(text.includes(needle!.sentence), `depth ${depth}`);
  }
});

test("pieces say which of them are needles", () => {
  const needles = createNeedles(["magic", "word"], 4);
  const found = [];
  for (const piece of writeHaystack({ seed: 4, length: 20_000, needles })) {
    if (piece.needle) found.push(piece.needle);
    equal(piece.needle?.sentence ?? piece.text, piece.text);
  }
  deepEqual(new Set(found), new Set(needles));
});

test("needles of one text are about different things at even depths", () => {
  const needles = createNeedles(Array.from({ length: 100 }, () => "magic" as const), 5);
  equal(new Set(needles.map(({ key }) => key)).size, 100);
  const depths = needles.map(({ depth }) => depth).sort((a, b) => a - b);
  equal(depths[0], 0.05);
  ok(Math.abs(depths[99]! - 0.95) < 1e-9);
  for (const { sentence, answer, question, key } of needles) {
    ok(sentence.endsWith(` ${answer}.`) && question.includes(key));
  }
  throws(() => createNeedles(["passkey", "passkey"], 1), RangeError);
});

test("the text is plain ASCII prose of the length that was asked for, without fields left open", () => {
  const text = textOf({ seed: 9, length: 300_000 });
  ok(text.length >= 300_000 && text.length < 303_000, `${text.length}`);
  ok(/^[\x20-\x7e\n]*$/.test(text));
  ok(!/[{}|]|undefined| {2}|\n\n/.test(text));
  ok(text.endsWith("\n"));
  const sentences = text.match(/[^.!?\n]+[.!?]"?/g)!;
  ok(new Set(sentences).size > 0.8 * sentences.length, "sentences repeat too often");
});

test("a length of nothing and depths outside of the text are refused", () => {
  throws(() => textOf({ seed: 1, length: 0 }), RangeError);
  const [needle] = createNeedles(["magic"], 1);
  throws(() => textOf({ seed: 1, length: 10, needles: [{ ...needle!, depth: 1.1 }] }), RangeError);
});

test("every field of every form is a list of words, a person or the place", () => {
  const forms = [...SCENES, ...TALK, ...Object.values(WORDS).flat()];
  for (const form of forms) {
    for (const [, name] of form.matchAll(/\{([^}]*)\}/g)) {
      ok(
        name! in WORDS || /^(A|B|here|[ab]\.(he|his|him|himself))$/.test(name!),
        `{${name}} in "${form}"`,
      );
    }
  }
});

test("seeded numbers stay in range and use all of it", () => {
  const random = seededRandom(3);
  const seen = new Set<number>();
  for (let i = 0; i < 1000; i++) seen.add(random(10));
  deepEqual([...seen].sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

const EXPECTED = { length: 100_095, hash: 457159011 };
