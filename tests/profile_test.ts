// What a model brings beside its weights: a scope, layers that select, question forms.

import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { ModelFormatError } from "../src/errors.ts";
import {
  completeQuestion,
  MAX_QUESTION_LENGTH,
  parseProfile,
  type Profile,
} from "../src/llama/profile.ts";
import { scopeBound } from "../src/reattention/scope.ts";

const pocket = JSON.parse(
  readFileSync(new URL("../models/pocket/reattention.json", import.meta.url), "utf8"),
);

test("pocket's profile fills its trained length", () => {
  const { scope, stepSize } = parseProfile(pocket, "reattention.json");
  equal(scopeBound(scope!, stepSize!), 512);
  equal(scope!.positions, "scope");
});

test("pocket's profile completes every question form of its card", () => {
  const profile = parseProfile(pocket, "reattention.json");
  const number = (key: string) =>
    `\nWhat is the special magic number for ${key} mentioned in the text? The special magic number for ${key} is`;
  const forms: [question: string, text: string][] = [
    ["What is the special magic number for red-bear?", number("red-bear")],
    ["What is the special magic number for red-bear mentioned in the text?", number("red-bear")],
    ["what is the SPECIAL magic number  for red bear", number("red bear")],
    ["\nWhat is the special magic number\nfor Red-Bear ?\n", number("Red-Bear")],
    ["What's the magic number for bear?", number("bear")],
    ["The special magic number for bear is", "\nThe special magic number for bear is"],
    ["The special magic number for bear is:", "\nThe special magic number for bear is"],
    ["What is the pass key?", "\nWhat is the pass key? The pass key is"],
    ["What is the passkey", "\nWhat is the pass key? The pass key is"],
    [
      "What is the best thing to do in New York?",
      "\nWhat is the best thing to do in New York? The best thing to do in New York is",
    ],
    [
      "When was the silver bell found?",
      "\nWhen was the silver bell found? The silver bell was found on",
    ],
    [
      "What is the secret word of Paris?",
      "\nWhat is the secret word of Paris? The secret word of Paris is:",
    ],
  ];
  // Put in the trained form already.
  forms.push(...forms.map(([, text]): [string, string] => [text.trim(), text]));
  for (const [question, text] of forms) {
    deepEqual(
      completeQuestion(profile, question),
      { text, before: ["\n"], after: ["."] },
      question,
    );
  }
});

test("a question that fits no form is left alone", () => {
  const profile = parseProfile(pocket, "reattention.json");
  const questions = [
    "",
    "?",
    "Who are you?",
    "What is the special magic number for?",
    "What is the special magic number for ?",
    "What is the pass key of London?",
    "When was the bell lost?",
    "What is the special magic number for " + "x".repeat(MAX_QUESTION_LENGTH) + "?",
  ];
  for (const question of questions) {
    equal(completeQuestion(profile, question), null, question.slice(0, 99));
  }
});

test("templates match with several holes, without going back", () => {
  const profile = parseProfile({
    forms: [{ questions: ["{a} to {b} by {c}"], completion: "{c}|{a}|{b}{c}" }],
  }, "p");
  const complete = (question: string) => completeQuestion(profile, question)?.text;
  equal(complete("London to Paris by train"), "train|London|Paristrain");
  equal(complete("a to b to c by d by e"), "d by e|a|b to cd by e");
  equal(complete("İx to b by c"), "c|İx|bc");
  equal(complete("to b by c"), undefined);
  equal(complete("a to b by"), undefined);
  equal(complete("$& to {b} by $1"), "$1|$&|{b}$1");
});

test("matching takes linear time on hostile questions", () => {
  const holes = Array.from({ length: 60 }, (_, i) => `{h${i}}`).join("a a");
  const profile = parseProfile({
    forms: Array(64).fill({ questions: Array(64).fill(`${holes}b`), completion: "c" }),
  }, "p");
  const start = performance.now();
  equal(completeQuestion(profile, "a ".repeat(MAX_QUESTION_LENGTH / 2)), null);
  ok(performance.now() - start < 5000);
});

test("parseProfile refuses what is not as it must be, and names it", () => {
  const form = { questions: ["Where is {x}?"], completion: "{x} is" };
  const scope = pocket.scope;
  const evidence = { needles: null, prose: null, tolerance: 0, sets: [] };
  const faults: [json: unknown, message: RegExp][] = [
    [null, /it must be an object, got null/],
    [
      { scopes: {} },
      /no other fields than scope, stepSize, selectLayers, calibration, forms, got "scopes"/,
    ],
    [{ scope: 5 }, /"scope" must be an object/],
    [{ scope: { ...scope, topk: 4 } }, /no other fields/],
    [{ scope: { ...scope, topK: "4" } }, /"scope" must have the number "topK", in tokens, got "4"/],
    [{ scope: { globalSize: 16 } }, /must have the number "localSize"/],
    [{ scope: { ...scope, spanSize: 3 } }, /spanSize must be even/],
    [{ scope: { ...scope, localSize: -1 } }, /localSize must be an integer of at least 0/],
    [{ scope: { ...scope, positions: "none" } }, /positions must be one of/],
    [{ stepSize: 0 }, /"stepSize" must be a count of tokens/],
    [{ stepSize: "64" }, /"stepSize" must be a count/],
    [{ selectLayers: 1 }, /"selectLayers" must be a list of layers, the first is 0, got 1/],
    [{ selectLayers: [] }, /there must be at least one, got none/],
    [{ selectLayers: [1.5] }, /each must be an integer from 0 to \d+.*got 1\.5/],
    [{ selectLayers: [4] }, /from 0 to 3, the model's last layer, got 4/],
    [{ calibration: [] }, /"calibration" must be an object/],
    [{ calibration: { ...evidence, model: "m" } }, /no other fields than needles, prose/],
    [{ calibration: { ...evidence, tolerance: -1 } }, /tolerance must be a number of at least 0/],
    [{ calibration: { ...evidence, sets: {} } }, /sets must be a list of at most 4096/],
    [
      { calibration: { ...evidence, needles: { questions: 1.5, lengths: [] } } },
      /needles\.questions must be a count, got 1\.5/,
    ],
    [
      { calibration: { ...evidence, sets: [{ layers: [4] }] } },
      /sets\[0\] must be below the model's 4 layers, got \[4\]/,
    ],
    [
      { calibration: { ...evidence, sets: [{ layers: [1], nll: null }] } },
      /sets\[0\]\.nll must be a number/,
    ],
    [{ forms: {} }, /"forms" must be a list of at most 64/],
    [{ forms: Array(65).fill(form) }, /"forms" must be a list of at most 64/],
    [{ forms: [5] }, /forms\[0\] must be an object/],
    [{ forms: [form, { ...form, stop: [] }] }, /forms\[1\] must have no other fields/],
    [{ forms: [{ ...form, questions: [] }] }, /must have at least one question/],
    [
      { forms: [{ ...form, questions: [5] }] },
      /forms\[0\]\.questions\[0\] must be a text of 1 to 1000/,
    ],
    [{ forms: [{ ...form, questions: ["x".repeat(1001)] }] }, /must be a text of 1 to 1000/],
    [{ forms: [{ ...form, questions: ["Where?"] }] }, /must have the completion's hole \{x\}/],
    [{ forms: [{ ...form, questions: ["{x} and {x}"] }] }, /must have each hole once/],
    [{ forms: [{ ...form, questions: ["{x} {y}"] }] }, /must have text between them/],
    [{ forms: [{ ...form, questions: ["{x"] }] }, /holes like \{name\} and no other braces/],
    [{ forms: [{ ...form, questions: ["{x} {1}"] }] }, /holes like \{name\}/],
    [{ forms: [{ ...form, completion: "{}" }] }, /holes like \{name\}/],
    [{ forms: [{ ...form, completion: "" }] }, /completion must be a text of 1 to 1000/],
    [{ forms: [{ ...form, stopAfter: [""] }] }, /stopAfter\[0\] must be a text/],
    [{ forms: [{ ...form, stopBefore: "\n" }] }, /stopBefore must be a list/],
  ];
  for (const [json, message] of faults) {
    throws(() => parseProfile(json, "reattention.json", 4), (error: unknown) => {
      ok(error instanceof ModelFormatError, `${error}`);
      match(error.message, message);
      return true;
    });
  }
  deepEqual(parseProfile({}, "p"), { forms: [] });
});

test("a profile's layers and what speaks for them come out as they went in, the layers in order", () => {
  const calibration = {
    needles: { questions: 54, lengths: [8192, 16384] },
    prose: { windows: 4, length: 8192, scored: 16384 },
    tolerance: 0.002,
    sets: [
      { layers: [0, 1, 2, 3], right: 54, rightAlways: 53, nll: 3.25 },
      { layers: [], right: 0 },
      { layers: [1], nll: 0 },
    ],
  };
  const profile = parseProfile({ selectLayers: [2, 1], calibration }, "p", 4);
  deepEqual(profile, { selectLayers: [1, 2], calibration, forms: [] });
  deepEqual(parseProfile(JSON.parse(JSON.stringify(profile)), "p", 4), profile);
});

test("arbitrary profiles are read or refused, and arbitrary questions put to them", () => {
  const piece = fc.constantFrom("{a}", "{b}", " is ", "What", "?", "{", "\n", "İ", " ");
  const text = fc.array(piece, { minLength: 1, maxLength: 8 }).map((pieces) => pieces.join(""));
  const form = fc.record({
    questions: fc.array(text, { maxLength: 3 }),
    completion: text,
    stopBefore: fc.oneof(fc.constant(["\n"]), fc.jsonValue()),
  });
  fc.assert(
    fc.property(
      fc.oneof(fc.record({ forms: fc.array(form) }), fc.jsonValue()),
      text,
      (json, question) => {
        let profile: Profile;
        try {
          profile = parseProfile(json, "p");
        } catch (error) {
          ok(error instanceof ModelFormatError, `${error}`);
          return;
        }
        const completion = completeQuestion(profile, question);
        equal(typeof (completion?.text ?? ""), "string");
      },
    ),
    { numRuns: 3000, seed: 1 },
  );
});
