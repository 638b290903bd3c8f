import { deepEqual, equal, match, notEqual, ok, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { EvalCase } from "../src/eval/case.ts";
import { generatedSource, textSource } from "../src/eval/haystack_source.ts";
import { baseText, placeFacts } from "../src/eval/hidden_facts.ts";
import {
  createNeedleCases,
  createUuid,
  foundShare,
  joinNames,
  parseNeedleTask,
  textLength,
} from "../src/eval/needle.ts";
import {
  createNeedleBenchCases,
  NEEDLEBENCH,
  needleBenchScore,
  parseNeedleRecords,
} from "../src/eval/needlebench.ts";
import { seededRandom } from "../src/eval/haystack.ts";
import { modelTokens, type TextTokens, wordTokens } from "../src/eval/text_tokens.ts";
import { createTokenizer } from "../src/text/tokenizer.ts";
import { missing, readJson } from "./support/shared.ts";
import { missingTokenizer, tokenizerOf } from "./support/tokenizers.ts";

const pocket = modelTokens(createTokenizer(
  JSON.parse(
    readFileSync(new URL("../models/pocket/tokenizer.json", import.meta.url), "utf8"),
  ) as unknown,
  null,
));

async function textOf(task: EvalCase): Promise<string> {
  let text = "";
  for await (const piece of task.context()) text += piece;
  return text;
}

function createCases(units: TextTokens, kinds: readonly string[], depths = [0, 0.5, 1]) {
  const grid = { lengths: [1024, 4096], depths, kinds, repeats: 2, seed: 5 };
  return createNeedleCases(units, generatedSource(units), grid);
}

test("kinds have a count where they need one", () => {
  deepEqual(parseNeedleTask("single"), { kind: "single", count: 0 });
  deepEqual(parseNeedleTask("multikey:16"), { kind: "multikey", count: 16 });
  deepEqual(parseNeedleTask("uuid"), { kind: "uuid", count: 4 });
  for (const name of ["many", "single:2", "multivalue:1", "multikey:0", "multikey:2000", ""]) {
    throws(() => parseNeedleTask(name), /it must be single, multikey:K/, name);
  }
});

for (const [name, units] of [["pocket's tokens", pocket], ["words", wordTokens()]] as const) {
  test(`a text has its length in ${name}, and the facts at their depths`, async () => {
    const kinds = ["single", "multikey:6", "multivalue:3", "multiquery:3", "uuid:2"];
    for (const task of createCases(units, kinds)) {
      const { length, depth } = task.at as { readonly length: number; readonly depth: number };
      const text = await textOf(task);
      const count = Math.floor(textLength(length) * units.perToken);
      equal(units.encode(text).length, count, task.id);
      for (const answer of task.expected) equal(text.split(`: ${answer}.`).length, 2, task.id);
      const place = units.encode(text.slice(0, text.indexOf(task.expected[0]!))).length / count;
      // From past the untouched start to the end, a sentence's start away from where it is wanted.
      const untouched = Math.min(512, count >> 4) / count;
      const wanted = untouched + depth * (1 - untouched);
      ok(Math.abs(place - wanted) < 0.1 * 1024 / length + 0.03, `${task.id}: ${place}`);
      equal(task.score(task.expected.join(" ")), 1);
      equal(task.score(""), 0);
    }
  });
}

test("a case is the same in every grid, and others differ", async () => {
  const [first] = createCases(pocket, ["multikey:2"]);
  const again = createCases(pocket, ["single", "multikey:2"], [0.25, 0])
    .find(({ id }) => id === first!.id);
  equal(await textOf(again!), await textOf(first!));
  deepEqual(again!.expected, first!.expected);
  const texts = await Promise.all(createCases(pocket, ["single"]).map(textOf));
  equal(new Set(texts).size, texts.length);
});

test("what is asked names its keys as RULER does", () => {
  const question = (kind: string) => createCases(pocket, [kind])[0]!;
  match(
    question("single").question,
    /^\nWhat is the special magic number for \S+ mentioned in the/,
  );
  match(question("multiquery:2").question, /^\nWhat are all .* for \S+, and \S+ mentioned in/);
  match(question("uuid:2").answerPrefix, /^ The special magic uuid for [0-9a-f-]{36} mentioned/);
  equal(joinNames(["a"]), "a");
  equal(joinNames(["a", "b", "c"]), "a, b, and c");
  equal(foundShare("It is 12 or 15.", ["12", "13"]), 0.5);
});

test("UUIDs are of version 4", () => {
  const random = seededRandom(1);
  for (let i = 0; i < 20; i++) {
    match(
      createUuid(random),
      /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
  }
});

for (const name of ["llama3", "llama2"] as const) {
  const skip = missingTokenizer(name);
  test(`the changed text has the tokens of its patches in ${name}'s tokens`, { skip }, async () => {
    const units = modelTokens(tokenizerOf(name));
    const [task] = createCases(units, ["multikey:5"], [0.3]);
    const base = await task!.shared!.base.tokens();
    const patches = task!.shared!.patches(base);
    equal(patches.length, 6);
    const expected = base.slice();
    for (const { start, tokens } of patches) expected.set(tokens, start);
    deepEqual(units.encode(await textOf(task!)), expected);
  });
}

test("somebody's text is repeated where it is too short, and has no holes", async () => {
  const source = textSource(pocket, "two sentences", () => Promise.resolve(" One. And two."));
  const text = pocket.decode(await source.tokens(40, 1));
  ok(" One. And two.".repeat(10).includes(text), text);
  const empty = textSource(pocket, "nothing", () => Promise.resolve(""));
  await empty.tokens(10, 1).then(
    () => ok(false),
    (error: Error) => match(error.message, /"nothing": it is empty/),
  );
});

test("facts that find no room are refused", async () => {
  const base = await baseText(pocket, generatedSource(pocket), 300, 1).tokens();
  const facts = Array.from({ length: 20 }, (_, i) => ({
    sentence: ` One of the special magic numbers for key number ${i} is: 1234567.`,
    depth: i / 20,
  }));
  throws(() => placeFacts(pocket, base, facts), /Cannot hide 20 facts: 300 tokens must have room/);
});

test("NeedleBench's records, wording and score are the authors'", async () => {
  const facts = readFacts();
  if (facts) {
    const { context_lengths: lengths, depths, repeats } = facts;
    deepEqual(
      { lengths, depths: depths.map((depth) => depth / 100), repeats },
      { ...NEEDLEBENCH, lengths: [...NEEDLEBENCH.lengths], depths: [...NEEDLEBENCH.depths] },
    );
  }
  const line = JSON.stringify({
    needle: "The lamp on Grey Hill is made of tin.",
    retrieval_question: "What is the lamp on Grey Hill made of? Please answer in the format " +
      "'The lamp on Grey Hill is made of ________.'",
    arg1: "lamp",
    arg2: "tin",
    language: "English",
  });
  const records = parseNeedleRecords(`${line}\n${line.replace("English", "Chinese")}\n`, "x");
  deepEqual(records, [{
    needle: "The lamp on Grey Hill is made of tin.",
    question: "What is the lamp on Grey Hill made of?",
    answerPrefix: " The lamp on Grey Hill is made of ",
    keyword: "tin",
  }]);
  throws(() => parseNeedleRecords("{}\n", "x"), /line 1 must have needle/);
  const plan = { lengths: [2000], depths: [0, 1], repeats: 1, seed: 1, records };
  const cases = createNeedleBenchCases(pocket, generatedSource(pocket), plan);
  const text = await textOf(cases[0]!);
  const [before, after] = text.split("\nThe lamp on Grey Hill is made of tin.\n");
  const head = /^You are an intelligent AI assistant [^]* given to you by the user is/;
  match(before!, head);
  ok(before!.replace(head, "").length < 500 && after!.length > 3000);
  const prompt = text + cases[0]!.question + cases[0]!.answerPrefix;
  match(
    prompt,
    /\n\nNow, the question is: What is the lamp on Grey Hill made of\? The lamp .* of $/,
  );
  if (facts) {
    const [start, end] = facts.prompt_en.split("{context}");
    ok((await textOf(cases[1]!)).startsWith(start!));
    ok(cases[0]!.question.startsWith(end!.split("{")[0]!));
  }
  equal(cases[0]!.score("It is tin."), 1);
  equal(needleBenchScore("", "", "x"), 0);
  equal(needleBenchScore("kitten", "sit ting", "x").toFixed(6), (0.2 * (1 - 3 / 7)).toFixed(6));
  notEqual(await textOf(cases[1]!), text);
});

function readFacts() {
  if (missing("eval/needle/facts.json")) return null;
  return readJson<{
    readonly needlebench_in_reattention: {
      readonly single: {
        readonly context_lengths: readonly number[];
        readonly depths: readonly number[];
        readonly repeats: number;
        readonly prompt_en: string;
      };
    };
  }>("eval/needle/facts.json").needlebench_in_reattention.single;
}
