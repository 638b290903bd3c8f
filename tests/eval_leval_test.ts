/** L-Eval's cases, from rows in the official format with our own texts; tables of scores. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { EvalCase, EvalResult } from "../src/eval/case.ts";
import { levalCases, levalRouge } from "../src/eval/leval.ts";
import { suiteScores } from "../src/eval/suite_scores.ts";
import { cutWords } from "../src/eval/truncation.ts";
import { all, characters, contextOf, folderOf, lines } from "./support/suite_folders.ts";

test("L-Eval's cut drops 250 words at a time", () => {
  const document = Array.from({ length: 1000 }, (_, i) => `w${i}`).join(" ");
  // As if some of the words were two tokens.
  const cut = (tokens: number, longer: number, end: "first" | "last") => {
    const encode = (text: string) => {
      const count = text.split(" ").length;
      return new Uint32Array(count + Math.min(count, longer));
    };
    return cutWords(document, { tokens, units: { ...characters, encode } }, end).split(" ");
  };
  equal(cut(1000, 0, "first").length, 1000);
  equal(cut(999, 0, "first").length, 999);
  equal(cut(999, 1, "first").length, 749);
  equal(cut(999, 300, "first").length, 499);
  equal(cut(999, 1, "first")[0], "w0");
  equal(cut(600, 0, "last")[0], "w400");
});

const coursera = {
  instructions: ["Which are primes? A. 2 B. 3 C. 4 D. 6", "Which is even? A. 2 B. 3 C. 5 D. 7"],
  outputs: ["AB", "A"],
  input: "Two and three are primes. Two is even.",
  source: "https://example.org",
  evaluation: "exam",
};

test("an L-Eval row becomes a case for each instruction", async () => {
  const notes: string[] = [];
  const folder = folderOf({ "Closed-ended-tasks/coursera.jsonl": lines(coursera) });
  const cases = await all(levalCases(folder, { note: (text) => notes.push(text) }));
  deepEqual(cases.map(({ id }) => id), ["coursera/0/0", "coursera/0/1"]);
  const [first] = cases as [EvalCase];
  equal(first.maxTokens, 512);
  equal(await contextOf(first), `${coursera.input}\n\n`);
  ok(first.question.startsWith(coursera.instructions[0]!));
  deepEqual([first.score("AB"), first.score("B."), first.score("CD")], [1, 0.25, 0]);
  ok(/prompts of our own/.test(notes.join()), notes.join());
});

test("L-Eval's prompts may name the fields as the official code does", async () => {
  const folder = folderOf({ "LEval-data/Closed-ended-tasks/coursera.jsonl": lines(coursera) });
  const prompt = "System. {document} \nQ: {inst} ({n_words_of_reference})";
  const [first] = await all(levalCases(folder, { prompts: { coursera: prompt } }));
  equal(
    await contextOf(first!) + first!.question,
    `System. ${coursera.input} \nQ: ${coursera.instructions[0]} (1)`,
  );
});

test("L-Eval's science fiction is asked twice: by the document and by the world", async () => {
  const row = {
    ...coursera,
    instructions: ["True or False: snow is red, based on the world described in the document."],
    outputs: ["True [fact: False]"],
  };
  const cases = await all(levalCases(folderOf({ "sci_fi.jsonl": lines(row) })));
  deepEqual(cases.map(({ id }) => id), ["sci_fi/0/0/loyalty", "sci_fi/0/0/fact"]);
  const [loyalty, fact] = cases as [EvalCase, EvalCase];
  deepEqual([loyalty.expected, fact.expected], [["true"], ["false"]]);
  equal(await contextOf(fact), "");
  ok(!fact.question.includes("document"), fact.question);
  deepEqual([loyalty.score("True."), loyalty.score("False"), fact.score("It is false")], [1, 0, 1]);
  const bad = folderOf({ "sci_fi.jsonl": lines({ ...row, outputs: ["True"] }) });
  await rejects(all(levalCases(bad)), /line 1 .*"outputs" must be like/);
});

test("L-Eval's long answers have F1 or ROUGE; what people judge is left out, and said", async () => {
  const notes: string[] = [];
  const row = { ...coursera, outputs: ["the two of them", "two"] };
  const cases = await all(levalCases(
    folderOf({
      "Open-ended-tasks/multidoc_qa.jsonl": lines({ ...row, evaluation: "f1" }),
      "Open-ended-tasks/news_summ.jsonl": lines({ ...row, evaluation: "rouge" }, {
        ...row,
        evaluation: "LLM",
      }),
    }),
    { note: (text) => notes.push(text) },
  ));
  deepEqual(cases.map(({ at }) => at.metric), ["f1", "f1", "rouge", "rouge"]);
  equal(cases[0]!.score("two of them"), 1);
  equal(cases[2]!.score("two of them"), 2 * 1 * 0.75 / 1.75);
  ok(cases[0]!.question.includes("4 words"), cases[0]!.question);
  ok(/news_summ: 2 questions left out/.test(notes.join()), notes.join());
});

test("L-Eval's other closed tasks read numbers, outputs and texts", async () => {
  const one = (output: string, evaluation = "exam") =>
    lines({ ...coursera, instructions: ["?"], outputs: [output], evaluation });
  const cases = await all(levalCases(folderOf({
    "gsm100.jsonl": one("18"),
    "codeU.jsonl": one("[1, 2]"),
    "topic_retrieval_longchat.jsonl": one("the birth of stars"),
    "quality.jsonl": one("B) a lamp"),
  })));
  const scoreOf = (task: string, prediction: string) =>
    cases.find((each) => each.task === task)!.score(prediction);
  equal(scoreOf("gsm100", "So 9 * 2 = 18. The answer is 18."), 1);
  equal(scoreOf("codeU", "The final output of the code will be [1,2]"), 1);
  equal(scoreOf("codeU", "It prints [2, 1]"), 0);
  equal(scoreOf("topic_retrieval_longchat", "It was the Birth of Stars."), 1);
  equal(scoreOf("quality", "The right one is B."), 1);
  await rejects(
    all(levalCases(folderOf({ "tpo.jsonl": lines({ ...coursera, outputs: ["A"] }) }))),
    /line 1 .*as many "outputs" as "instructions", there are 1 and 2/,
  );
});

test("questions about one text share its reading, as long as they follow one another", async () => {
  const row = { ...coursera, instructions: ["A?", "B?"] };
  const folder = folderOf({
    "quality.jsonl": lines(row, { ...row, input: "Another text." }, row),
    "sci_fi.jsonl": lines({ ...row, outputs: ["True [fact: True]", "True [fact: True]"] }),
  });
  const cases = await all(levalCases(folder, { units: characters }));
  const bases = cases.map(({ shared }) => shared?.base);
  const numbers = bases.map((base) => base === undefined ? null : bases.indexOf(base));
  deepEqual(numbers, [0, 0, 2, 2, 4, 4, 6, 6, null, null]);
  const [first] = cases;
  equal(characters.decode(await first!.shared!.base.tokens()), await contextOf(first!));
  deepEqual(first!.shared!.patches(new Uint32Array(0)), []);
});

test("L-Eval's ROUGE is the geometric mean of three means", () => {
  const rows = [
    { prediction: "a b c d", expected: ["a b c d"] },
    { prediction: "a b", expected: ["c d"] },
  ];
  const { rouge1, rouge2, rougeL, geometricMean } = levalRouge(rows);
  deepEqual([rouge1, rouge2, rougeL].map((x) => Math.round(x * 1e6) / 1e6), [50, 50, 50]);
  ok(Math.abs(geometricMean - 50) < 1e-9);
  equal(levalRouge([]).geometricMean, 0);
});

/** A row of results as a runner writes it. */
function resultOf(
  task: string,
  score: number,
  at: EvalResult["at"],
  more: Partial<EvalResult> = {},
) {
  return {
    ...{ id: `${task}/0`, task, method: "window", at, prediction: "", expected: [""], score },
    ...{ tokens: 1, seconds: 1, ...more },
  };
}

test("a benchmark's table has percents by task, and their mean", () => {
  const rows = [
    resultOf("qasper", 0.5, { metric: "f1" }),
    resultOf("qasper", 1, { metric: "f1" }),
    resultOf("trec", 0, { metric: "classification" }),
    resultOf("trec", 0, { metric: "classification" }, { error: "no memory" }),
    resultOf("lcc_e", 1, { metric: "code similarity", bin: "8k+" }),
    resultOf("lcc_e", 0.5, { metric: "code similarity", bin: "0-4k" }),
    resultOf("news_summ", 0.9, { metric: "rouge" }, { prediction: "a b", expected: ["a b c d"] }),
    resultOf("news_summ", 0.9, { metric: "rouge" }, { method: "full", error: "too long" }),
  ];
  const { window, full } = suiteScores(rows);
  deepEqual(window!.tasks.qasper, { metric: "f1", n: 2, errors: 0, score: 75 });
  deepEqual(window!.tasks.trec, { metric: "classification", n: 1, errors: 1, score: 0 });
  deepEqual(window!.tasks.lcc_e!.parts, { "8k+": 100, "0-4k": 50 });
  // 2 of 2 and 2 of 4 words; 1 of 1 and 1 of 3 pairs; as words.
  deepEqual(window!.tasks.news_summ!.parts, { rouge1: 66.6667, rouge2: 50, rougeL: 66.6667 });
  equal(window!.tasks.news_summ!.score, 60.5707); // the cube root of their product
  equal(window!.average, Number(((75 + 0 + 75 + 60.5707) / 4).toFixed(4)));
  deepEqual(full, {
    tasks: { news_summ: { metric: "rouge", n: 0, errors: 1, score: null } },
    average: null,
  });
});
