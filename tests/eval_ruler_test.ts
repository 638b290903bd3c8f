// RULER's prompts against those that RULER's own generators made, row by row: what a row draws is
// read back from it, and the prompt made of that must be the row's, to the last character.

import { deepEqual, equal, match, notEqual, ok, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { EvalCase } from "../src/eval/case.ts";
import {
  amongLines,
  commonWordsPrompt,
  frequentWordsPrompt,
  needleSentence,
  niahPrompt,
  NOISE,
  noiseLines,
  type RulerPrompt,
  trackingPrompt,
  type ValueType,
  type VariableChain,
  type WordList,
} from "../src/eval/ruler_prompts.ts";
import { createRulerCases, OWN_RULER_TASKS, ownWords, rulerLength } from "../src/eval/ruler.ts";
import { codedCount, RULER_TASKS, type RulerMaterial } from "../src/eval/ruler_tasks.ts";
import { modelTokens, wordTokens } from "../src/eval/text_tokens.ts";
import { createTokenizer } from "../src/text/tokenizer.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";

interface Row {
  readonly input: string;
  readonly outputs: readonly string[];
  readonly length: number;
  readonly answer_prefix: string;
}

const folder = "eval/ruler/generated_llama3_4096";
const skip = missing(folder);

function rowsOf(task: string): Row[] {
  return readFileSync(sharedUrl(`${folder}/${task}.jsonl`), "utf8").trim().split("\n")
    .map((line) => JSON.parse(line) as Row);
}

function checkRow(row: Row, prompt: RulerPrompt): void {
  equal(prompt.context + prompt.question, row.input);
  equal(prompt.answerPrefix, row.answer_prefix);
}

for (
  const [task, type] of [
    ["niah_single_1", "numbers"],
    ["niah_multikey_2", "numbers"],
    ["niah_multikey_3", "uuids"],
  ] as const
) {
  test(`${task} has the words of RULER's own rows`, { skip }, () => {
    for (const row of rowsOf(task)) {
      const lines = row.input.split("\n").slice(1, -1);
      const at = lines.findIndex((line) => line.includes(row.outputs[0]!));
      const [, key] = /for (.+) is: \S+\.$/.exec(lines[at]!)!;
      const needle = needleSentence(type, key!, row.outputs[0]!);
      const others = [...lines.slice(0, at), ...lines.slice(at + 1)];
      const layout = { lines: others.length, before: [at] };
      if (task === "niah_single_1") deepEqual(others, noiseLines(others.length));
      else for (const line of others) equal(line, sentenceAgain(type, line));
      checkRow(row, niahPrompt(type, amongLines(others, layout, [needle]), [key!], true));
    }
  });
}

/** A needle's sentence, made anew from its key and value. */
function sentenceAgain(type: ValueType, line: string): string {
  const [, key, value] = /for (.+) is: (\S+)\.$/.exec(line)!;
  return needleSentence(type, key!, value!);
}

test("vt has the words of RULER's own rows", { skip }, () => {
  for (const row of rowsOf("vt")) {
    const chains = row.input.split("\n\n").filter((_, i) => i % 2 === 1)
      .map((body): VariableChain => {
        const lines = body.split("\nQuestion:")[0]!.split("\n");
        const names: string[] = [];
        const before: number[] = [];
        let value = "";
        let noise = 0;
        for (const line of lines) {
          const [, name, assigned] = /^VAR (\w+) = (.*)$/.exec(line) ?? [];
          if (name === undefined) {
            equal(line, NOISE);
            noise++;
            continue;
          }
          if (names.length === 0) value = assigned!;
          names.push(name);
          before.push(noise);
        }
        return { names, value, layout: { lines: noise, before } };
      });
    equal(chains.length, 2);
    deepEqual(chains[1]!.names, row.outputs);
    checkRow(row, trackingPrompt(chains[0]!, chains[1]!));
  }
});

test("cwe has the words of RULER's own rows", { skip }, () => {
  for (const row of rowsOf("cwe")) {
    const lists = [...row.input.matchAll(/often\.\n(1\. .*)\nQuestion.*list\?(.*)/g)];
    equal(lists.length, 2);
    const [example, list] = lists.map(([, body, answer]): WordList => ({
      words: numberedWords(body!),
      common: answer === "" ? row.outputs : numberedWords(answer!.split("are: ")[1]!),
    }));
    checkRow(row, commonWordsPrompt(example!, list!));
    deepEqual(frequenciesOf(example!.words), frequenciesLike(10, 10, 3));
    deepEqual(frequenciesOf(list!.words), frequenciesLike(10, 30, 3, list!.words.length));
  }
});

function numberedWords(text: string): string[] {
  return text.split(/ ?\d+\. /).slice(1);
}

/** How often each word occurs, descending. */
function frequenciesOf(words: readonly string[]): number[] {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts.values()].sort((a, b) => b - a);
}

function frequenciesLike(common: number, often: number, seldom: number, total = 190): number[] {
  const others = (total - common * often) / seldom;
  return [...Array<number>(common).fill(often), ...Array<number>(others).fill(seldom)];
}

test("fwe has the words and the frequencies of RULER's own rows", { skip }, () => {
  for (const row of rowsOf("fwe")) {
    const words = /coded words\. (.*)\nQuestion/.exec(row.input)![1]!.split(" ");
    checkRow(row, frequentWordsPrompt(words));
    const found = frequenciesOf(words);
    const size = [...Array(4096).keys()].find((size) => codedCount(size, 1) === found[0])!;
    const sizes = [size, size + 1];
    ok(sizes.some((size) => found.every((count, i) => count === codedCount(size, i + 1))));
  }
});

const material: RulerMaterial = {
  ...ownWords(),
  essays: [
    "A first sentence of seven words only.",
    "Then another one.",
    "And the last of them all.",
  ],
};

test("a length counts prompt and answer in the model's tokens, as RULER's does", { skip }, () => {
  const units = modelTokens(createTokenizer(readJson("tokenizers/llama3/tokenizer.json"), null));
  for (const task of ["niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"]) {
    for (const { input, answer_prefix: answerPrefix, length } of rowsOf(task)) {
      const { maxTokens } = RULER_TASKS[task]!;
      equal(rulerLength(units, { context: input, question: "", answerPrefix }, maxTokens), length);
    }
  }
});

async function textOf(task: EvalCase): Promise<string> {
  let text = "";
  for await (const piece of task.context()) text += piece;
  return text;
}

test("every task fills its length, asks what is in it, and is the same each time", async () => {
  const units = wordTokens();
  const documents = Array.from({ length: 40 }, (_, i) => `About ${i}: it is ${i * i}, they say.`);
  const set = {
    documents,
    questions: [{ query: "What is 7?", answers: ["49", "seven"], documents: [7], related: [8] }],
  };
  const all = { ...material, squad: set, hotpotqa: set };
  const tasks = Object.keys(RULER_TASKS);
  equal(tasks.length, 13);
  equal(OWN_RULER_TASKS.length, 11);
  const plan = { tasks, lengths: [2048, 5000], repeats: 2, seed: 3 };
  const cases = createRulerCases(units, all, plan);
  const again = createRulerCases(units, all, plan);
  equal(cases.length, 52);
  for (const [i, task] of cases.entries()) {
    const text = await textOf(task);
    equal(text, await textOf(again[i]!));
    const length = units.encode(text + task.question).length / 0.75 + task.maxTokens;
    const { length: wanted } = task.at as { readonly length: number };
    ok(length <= wanted && length > 0.8 * wanted, `${task.id}: ${length}`);
    for (const answer of task.expected.slice(0, 1)) ok(text.includes(answer), task.id);
    equal(task.score(`so: ${task.expected.join(" and ").toUpperCase()}`), 1, task.id);
    equal(task.score("nothing"), 0);
  }
  notEqual(await textOf(cases[0]!), await textOf(cases[1]!));
  equal(cases.find(({ task }) => task === "qa_1")!.score("49"), 1);
  equal(cases.find(({ task }) => task === "vt")!.expected.length, 5);
  match(cases.find(({ task }) => task === "niah_multiquery")!.question, /for .*, .*, .*, and .* m/);
});

test("a task without its data is refused", () => {
  const plan = { lengths: [4096], repeats: 1, seed: 1 };
  throws(
    () => createRulerCases(wordTokens(), material, { ...plan, tasks: ["qa_1"] }),
    /samples of qa_1: its data must be given \(squad\)/,
  );
  throws(
    () => createRulerCases(wordTokens(), material, { ...plan, tasks: ["qa_9"] }),
    /must be one of niah_single_1/,
  );
  throws(
    () => createRulerCases(wordTokens(), { ...material, essays: [] }, { ...plan, tasks: ["vt"] }),
    /must be essays/,
  );
});
