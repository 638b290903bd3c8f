/** InfiniteBench's cases, and the published scores of published predictions. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { infinitebenchCases, scoreInfinitebench } from "../src/eval/infinitebench.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";
import { all, characters, contextOf, folderOf, lines } from "./support/suite_folders.ts";

const book = {
  id: 0,
  context: "Chapter 1. Ann kept the light.",
  input: "What did Ann keep?",
  answer: ["the light"],
  options: ["the light", "a dog", "a shop", "bees"],
};

test("an InfiniteBench row becomes a case of its task", async () => {
  const folder = folderOf({
    "passkey.jsonl": lines({ ...book, input: "What is the pass key?", answer: ["07143"] }),
    "longbook_choice_eng.jsonl": lines(book),
    "longbook_qa_eng.jsonl": lines(book),
    "math_find.jsonl": lines({
      ...book,
      context: "[1, 9, 4]",
      input: "You should answer with only one number, no other words. The largest number of the " +
        "list is: ",
      answer: 9,
    }),
    "code_run.jsonl": lines({
      ...book,
      input: "Please give me the exact number of the return value of func_12(-3).",
      answer: -7,
    }),
    "math_calc.jsonl": lines({ ...book, answer: [4, 8] }),
  });
  const cases = await all(infinitebenchCases(folder));
  const of = (task: string) => cases.find((each) => each.task === task)!;
  equal(cases.length, 6);
  equal(of("passkey").id, "passkey/0");
  equal(of("passkey").maxTokens, 6);
  equal(of("passkey").question, "What is the pass key?");
  equal(of("passkey").score("It is 07143."), 1);
  deepEqual(of("longbook_choice_eng").expected, ["the light", "A"]);
  equal(of("longbook_choice_eng").score("A"), 1);
  ok(/A\. the light\nB\. a dog\nC\. a shop\nD\. bees/.test(of("longbook_choice_eng").question));
  equal(of("longbook_qa_eng").score("a light"), 1);
  equal(
    await contextOf(of("math_find")),
    "What is the largest number in the following list?\n\n[1, 9, 4]\n\n",
  );
  equal(of("math_find").score("9"), 1);
  ok(of("code_run").question.includes("func_12(-3)"));
  equal(of("code_run").score("-7"), 1);
  equal(of("math_calc").score("4 9"), 0.5);
});

test("InfiniteBench's prompts may be the official ones", async () => {
  const folder = folderOf({ "longbook_choice_eng.jsonl": lines(book) });
  const prompt = "Read.\n\n{context}\n\nQ: {question}\nA. {OPTION_A}\nD. {option_D}\n";
  const notes: string[] = [];
  const [first] = await all(infinitebenchCases(folder, {
    prompts: { longbook_choice_eng: prompt },
    note: (text) => notes.push(text),
  }));
  equal(await contextOf(first!), `Read.\n\n${book.context}\n\n`);
  equal(first!.question, "Q: What did Ann keep?\nA. the light\nD. bees\n");
  deepEqual(notes, []);
});

for (
  const [task, row, complaint] of [
    ["longbook_choice_eng", { ...book, answer: ["a cat"] }, /"answer" must be one of the options/],
    ["longbook_choice_eng", { ...book, options: ["a"] }, /"options" must be 4 texts, there are 1/],
    ["longbook_qa_eng", { ...book, answer: [] }, /"answer" must be a string, or a list of them/],
    ["passkey", { ...book, answer: 7 }, /"answer" must be a string/],
    [
      "math_find",
      { ...book, input: "The largest number is", answer: "9" },
      /"answer" must be a number/,
    ],
    ["math_find", book, /"input" must have "The \.\.\. number"/],
    ["code_run", { ...book, answer: 1 }, /"input" must have a call such as func_12/],
    ["kv_retrieval", { ...book, context: null }, /"context" must be a string/],
  ] as const
) {
  test(`InfiniteBench refuses a row of ${task}: ${complaint.source}`, async () => {
    const folder = folderOf({ [`${task}.jsonl`]: lines(row) });
    await rejects(all(infinitebenchCases(folder)), complaint);
  });
}

test("books that follow one another share their reading, unless they are cut", async () => {
  const folder = folderOf({ "longbook_qa_eng.jsonl": lines(book, book) });
  const [one, two] = await all(infinitebenchCases(folder, { units: characters }));
  equal(one!.shared!.base, two!.shared!.base);
  // What a cut leaves depends on the question.
  const truncate = { tokens: 100, units: characters };
  const [cut] = await all(infinitebenchCases(folder, { units: characters, truncate }));
  equal(cut!.shared, undefined);
});

/** What came of a folder of predictions. */
async function scoresOf(folder: Parameters<typeof scoreInfinitebench>[0]) {
  const scores: Record<string, { n: number; score: number } | Error> = {};
  for await (const result of scoreInfinitebench(folder)) {
    scores[result.task] = "error" in result ? result.error : result;
  }
  return scores;
}

test("predictions are scored under either name; a damaged file gets no score", async () => {
  const scores = await scoresOf(folderOf({
    "preds_passkey.jsonl": lines(
      { id: 0, prediction: "It is 12.", ground_truth: "12" },
      { id: 1, prediction: "13", ground_truth: ["14"] },
    ),
    "preds_longbook_choice_eng.jsonl": lines({ id: 0, pred: "A", label: ["the light", "A"] }),
    "preds_math_find.jsonl": `${lines({ id: 0, prediction: "8", ground_truth: 8 })}{"id": 1}gi`,
    "preds_code_debug.jsonl": lines({ id: 0, prediction: "C", ground_truth: "C" }),
    "preds_code_run.jsonl": "",
  }, "preds"));
  deepEqual(scores.passkey, { task: "passkey", n: 2, score: 50 });
  deepEqual(scores.longbook_choice_eng, { task: "longbook_choice_eng", n: 1, score: 100 });
  ok(/line 2 of "preds\/preds_math_find\.jsonl": it must be JSON/.test(String(scores.math_find)));
  ok(/line 1 .*the right option and its letter/.test(String(scores.code_debug)));
  ok(/"preds\/preds_code_run\.jsonl": it has no predictions/.test(String(scores.code_run)));
  await rejects(scoresOf(folderOf({})), /Cannot find predictions in "data"/);
});

const GOLDEN = "eval/infinitebench/golden_scores.json";
const skip = missing(GOLDEN, "eval/infinitebench/preds_gpt4");
type Golden = Record<string, Record<string, { n: number; score: number } | { error: string }>>;
const golden: Golden = skip ? {} : readJson<Golden>(GOLDEN);
const models = skip
  ? ["gpt4"]
  : readdirSync(sharedUrl("eval/infinitebench")).filter((name) => name.startsWith("preds_"))
    .map((name) => name.slice("preds_".length));
const published = skip ? {} : readJson<
  { readme_table_percent: Record<string, Record<string, number>> }
>("eval/infinitebench/facts.json").readme_table_percent;

/** A folder of predictions, wholly read. */
function predictionsOf(model: string) {
  const root = sharedUrl(`eval/infinitebench/preds_${model}/`);
  return folderOf(
    Object.fromEntries(readdirSync(root).map((name) => [name, readFileSync(new URL(name, root))])),
    `preds_${model}`,
  );
}

for (const model of models) {
  test(
    `InfiniteBench's published predictions of ${model} have the published scores`,
    { skip },
    async () => {
      const scores = await scoresOf(predictionsOf(model));
      ok(Object.keys(scores).length >= 10);
      for (const [task, expected] of Object.entries(golden[model] ?? {})) {
        const actual = scores[task]!;
        if ("error" in expected) ok(actual instanceof Error, task);
        else {
          ok(!(actual instanceof Error), String(actual));
          equal(actual.n, expected.n, task);
          equal(Number(actual.score.toFixed(4)), expected.score, task);
        }
      }
      for (const [task, percent] of Object.entries(published[model] ?? {})) {
        const actual = scores[task];
        // The summaries' predictions are not here; one file is damaged.
        if (actual === undefined || actual instanceof Error) continue;
        equal(Number(actual.score.toFixed(2)), percent, task);
      }
    },
  );
}
