/** LongBench, L-Eval, InfiniteBench: cases from rows in the official formats, with our own texts. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import type { EvalCase } from "../src/eval/case.ts";
import { infinitebenchCases, scoreInfinitebench } from "../src/eval/infinitebench.ts";
import { MAX_LINE_BYTES, readJsonLines } from "../src/eval/json_lines.ts";
import { levalCases, levalRouge } from "../src/eval/leval.ts";
import { longbenchCases } from "../src/eval/longbench.ts";
import { fillTemplate, parseTemplate } from "../src/eval/prompt_template.ts";
import { MAX_QUESTION_CHARACTERS } from "../src/eval/suite.ts";
import { cutMiddle, cutWords } from "../src/eval/truncation.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";
import { all, contextOf, folderOf, lines } from "./support/suite_folders.ts";

/** A token for each character: what is cut is easy to see. */
const characters = {
  addBos: false,
  encode: (text: string) => Uint32Array.from([...text], (c) => c.codePointAt(0)!),
  decode: (tokens: Uint32Array) => String.fromCodePoint(...tokens),
};
/** A token for each word. */
function wordTokens(addBos: boolean) {
  return {
    ...characters,
    addBos,
    encode: (text: string) => new Uint32Array(text.split(" ").length),
  };
}

const hotpot = {
  input: "Who keeps the lighthouse of Skerry?",
  context: "Passage 1:\nThe lighthouse of Skerry is kept by Ann Rae.\nPassage 2:\nIt rains there.",
  answers: ["Ann Rae", "Rae"],
  length: 17,
  dataset: "hotpotqa",
  language: "en",
  all_classes: null,
  _id: "00aa",
};
const prompts = {
  hotpotqa: "Read.\n{context}\n\nAsked: {input}\nSaid:",
  trec: "{context}\n{input}",
  multifieldqa_zh: "{context}\n问：{input}",
  passage_retrieval_en: "{context}\n{input}\nWhere:",
  "repobench-p": "{context}{input}Next:\n",
};
const longbench = (files: Record<string, string>, more: Record<string, string> = {}) =>
  folderOf({ "config/dataset2prompt.json": JSON.stringify(prompts), ...files, ...more });

test("a LongBench row becomes a case: context, question, length, score", async () => {
  const folder = longbench({ "hotpotqa.jsonl": lines(hotpot, { ...hotpot, answers: ["no one"] }) });
  const cases = await all(longbenchCases(folder));
  equal(cases.length, 2);
  const [first] = cases as [EvalCase, EvalCase];
  equal(first.id, "hotpotqa/0");
  equal(first.task, "hotpotqa");
  deepEqual(first.at, { row: 0, metric: "f1", words: 17 });
  equal(await contextOf(first), `Read.\n${hotpot.context}\n\n`);
  equal(first.question, "Asked: Who keeps the lighthouse of Skerry?\nSaid:");
  equal(await contextOf(first), `Read.\n${hotpot.context}\n\n`); // again from the start
  equal(first.maxTokens, 32);
  deepEqual(first.expected, ["Ann Rae", "Rae"]);
  equal(first.score("It is Ann Rae"), 2 / 3); // the best reference: 2 of 4 words, both
  equal(first.score("rae."), 1);
  equal(folder.openFiles(), 0);
});

test("LongBench's answers have the lengths of the repository's file", async () => {
  const folder = longbench({ "data/hotpotqa.jsonl": lines(hotpot) }, {
    "config/dataset2maxlen.json": '{"hotpotqa": 7}',
  });
  const [first] = await all(longbenchCases(folder));
  equal(first!.maxTokens, 7);
});

test("LongBench without prompts says where they are", async () => {
  const folder = folderOf({ "hotpotqa.jsonl": lines(hotpot) });
  await rejects(all(longbenchCases(folder)), /dataset2prompt\.json.*config.*--prompts/);
  const given = { prompts: { hotpotqa: "{context}" } };
  equal((await all(longbenchCases(folder, given))).length, 1);
});

test("LongBench's few-shot tasks count the first line", async () => {
  const row = { ...hotpot, answers: ["City"], all_classes: ["City", "Food"] };
  const [first] = await all(longbenchCases(longbench({ "trec.jsonl": lines(row) })));
  equal(first!.score("\nCity\nQuestion: what is bread?\nType: Food"), 1);
  equal(first!.score("City or Food"), 0.5);
  const bad = longbench({ "trec.jsonl": lines({ ...row, all_classes: null }) });
  await rejects(all(longbenchCases(bad)), /line 1 of "data\/trec\.jsonl": "all_classes" must be/);
});

test("LongBench's Chinese answers are scored by characters, and it is said", async () => {
  const notes: string[] = [];
  const row = { ...hotpot, answers: ["安·雷"] };
  const folder = longbench({ "multifieldqa_zh.jsonl": lines(row) });
  const [first] = await all(longbenchCases(folder, { note: (text) => notes.push(text) }));
  equal(first!.at.metric, "f1 by characters");
  ok(first!.score("安·雷。") > 0.8);
  equal(notes.length, 1);
  ok(/multifieldqa_zh: f1 by characters.*jieba.*not comparable/.test(notes[0]!), notes[0]);
});

test("LongBench's retrieval wants the number of a paragraph", async () => {
  const row = { ...hotpot, answers: ["Paragraph 4"] };
  const [first] = await all(
    longbenchCases(longbench({ "passage_retrieval_en.jsonl": lines(row) })),
  );
  equal(first!.score("Paragraph 4"), 1);
  equal(first!.score("Paragraph 4, or 5"), 0.5);
  const bad = longbench({ "passage_retrieval_en.jsonl": lines({ ...row, answers: ["four"] }) });
  await rejects(all(longbenchCases(bad)), /line 1 .*"answers" must name paragraphs, got "four"/);
});

test("LongBench-E is binned by length", async () => {
  const rows = [3999, 4000, 8000].map((length) => ({ ...hotpot, length }));
  const cases = await all(longbenchCases(longbench({ "hotpotqa_e.jsonl": lines(...rows) })));
  deepEqual(cases.map(({ at }) => at.bin), ["0-4k", "4-8k", "8k+"]);
  deepEqual(cases.map(({ id }) => id), ["hotpotqa_e/0", "hotpotqa_e/1", "hotpotqa_e/2"]);
});

test("what is too long for a question is read with the context", async () => {
  const input = "def f():\n    return 1\n".repeat(200);
  const folder = longbench({
    "repobench-p.jsonl": lines({ ...hotpot, context: "import os\n", input }),
  });
  const [first] = await all(longbenchCases(folder));
  equal(await contextOf(first!) + first!.question, `import os\n${input}Next:\n`);
  ok(first!.question.length <= MAX_QUESTION_CHARACTERS);
  ok(/^ {4}return|^def/.test(first!.question), first!.question.slice(0, 20)); // whole lines
});

test("tasks, their number and a file's absence", async () => {
  const folder = longbench({ "hotpotqa.jsonl": lines(hotpot, hotpot, hotpot) });
  equal((await all(longbenchCases(folder, { limit: 2 }))).length, 2);
  equal(folder.openFiles(), 0);
  await rejects(all(longbenchCases(folder, { tasks: ["hotpot"] })), /There is no task "hotpot"/);
  await rejects(
    all(longbenchCases(folder, { tasks: ["qasper"] })),
    /Cannot run qasper: there must be a file qasper\.jsonl in "data" or its data\//,
  );
  await rejects(all(longbenchCases(folderOf({}))), /Cannot find a task in "data"/);
  await rejects(
    all(longbenchCases(longbench({ "qasper.jsonl": lines(hotpot) }))),
    /Cannot run qasper: the prompts have none for "qasper"/,
  );
});

for (
  const [title, content, complaint] of [
    [
      "cut off",
      '{"input": "a", "con',
      /Cannot read line 2 of "data\/hotpotqa\.jsonl": it must be JSON/,
    ],
    ["two objects", "{}{}", /line 2 .*: it must be JSON/],
    ["an array", "[1]", /line 2 .*: it must be a JSON object, it is an array/],
    ["null", "null", /line 2 .*: it must be a JSON object, it is null/],
    ["without answers", '{"context": "a"}', /line 2 .*: "answers" must be a list of strings/],
    ["with no answers", '{"context": "a", "answers": []}', /line 2 .*: "answers" must be/],
    ["with a number for a text", '{"context": 1, "answers": ["a"]}', /line 2 .*: "context" must/],
    ["named by the prototype", '{"__proto__": {"context": "a"}}', /line 2 .*: "answers" must/],
  ] as const
) {
  test(`a hostile line is named: ${title}`, async () => {
    const folder = longbench({ "hotpotqa.jsonl": `\n${content}\n` });
    await rejects(all(longbenchCases(folder)), complaint);
    equal(folder.openFiles(), 0);
  });
}

test("a line that is no UTF-8 is named", async () => {
  const bytes = new Uint8Array([123, 125, 10, 34, 255, 34]);
  const source = (await folderOf({ x: bytes }).open("x"))!;
  await rejects(async () => {
    for await (const _ of readJsonLines(source));
  }, /SyntaxError: Cannot read line 2 of "data\/x": it must be UTF-8/);
});

test("a line without an end is refused before it fills the memory", async () => {
  let read = 0;
  const source = {
    name: "endless",
    byteLength: 2 ** 40,
    read: (target: Uint8Array) => Promise.resolve(void (read += target.byteLength)),
  };
  await rejects(async () => {
    for await (const _ of readJsonLines(source));
  }, /RangeError: Cannot read line 1 of "endless": a line may have at most 268435456 bytes/);
  ok(read <= MAX_LINE_BYTES + 2 ** 21, `${read}`);
});

test("rows are found wherever the chunks of a file end", async () => {
  const rows = Array.from({ length: 5 }, (_, i) => ({ i, text: "x".repeat(i * 600_000) + "é" }));
  const source = (await folderOf({ x: `\ufeff${lines(...rows).trimEnd()}` }).open("x"))!;
  const found = [];
  for await (const row of readJsonLines(source)) found.push([row.line, row.value]);
  deepEqual(found, rows.map((row, i) => [i + 1, row]));
});

test("a file that changed between two readings is noticed", async () => {
  const files: Record<string, string> = { "hotpotqa.jsonl": lines(hotpot) };
  const [first] = await all(longbenchCases(folderOf(files), { prompts }));
  files["hotpotqa.jsonl"] = "{}";
  await rejects(contextOf(first!), /line 1 of "data\/hotpotqa\.jsonl": the file has changed/);
});

test("a template is Python's: doubled braces, every field known, one context", () => {
  const template = parseTemplate("t", "{{x}} {a}{context}{b}!");
  deepEqual(fillTemplate(template, { a: "A{b}", b: "B" }), { before: "{x} A{b}", after: "B!" });
  const bad = (text: string, complaint: RegExp) => {
    let message = "";
    try {
      fillTemplate(parseTemplate("t", text), { input: "" });
    } catch (error) {
      message = String(error);
    }
    ok(complaint.test(message), message);
  };
  bad("no field", /must have \{context\} once, it has it 0 times/);
  bad("{context}{context}", /it has it 2 times/);
  bad("{context} {", /a "\{" must belong to a field/);
  bad("{file:{context}}", /a "\{" must belong/);
  bad("{context} {other}", /there is no \{other\}, only \{context\}, \{input\}/);
});

test("LongBench's cut keeps the first and the last half of the tokens", () => {
  const parts = { before: "<<", after: ">>" };
  const cut = (tokens: number, odd: "dropped" | "last" = "dropped") =>
    cutMiddle("abcdefgh", parts, { tokens, tokenizer: characters }, odd) + parts.after;
  equal(cut(12), "<<abcdefgh>>");
  equal(cut(11), "<<abcfgh>>"); // 5 and 5
  equal(cut(11, "last"), "<<abcdefgh>>".slice(0, 5) + "<<abcdefgh>>".slice(-6));
  equal(cut(6), "<<ah>>");
  let message = "";
  try {
    cut(2);
  } catch (error) {
    message = String(error);
  }
  ok(/RangeError: Cannot cut a prompt to 2 tokens: .*">>".* half/.test(message), message);
});

test("L-Eval's cut drops 250 words at a time", () => {
  const document = Array.from({ length: 1000 }, (_, i) => `w${i}`).join(" ");
  const cut = (tokens: number, addBos: boolean, end: "first" | "last") =>
    cutWords(document, { tokens, tokenizer: wordTokens(addBos) }, end).split(" ");
  equal(cut(1000, false, "first").length, 1000);
  equal(cut(999, false, "first").length, 999);
  equal(cut(999, true, "first").length, 749); // one too many with the token that begins a text
  equal(cut(999, true, "first")[0], "w0");
  equal(cut(600, false, "last")[0], "w400");
});

test("a prompt that is cut is cut when it is read", async () => {
  const folder = longbench({
    "hotpotqa.jsonl": lines({ ...hotpot, context: "0123456789".repeat(99) }),
  });
  const truncate = { tokens: 200, tokenizer: characters };
  const [first] = await all(longbenchCases(folder, { truncate }));
  const prompt = await contextOf(first!) + first!.question;
  equal(prompt.length, 200);
  ok(prompt.startsWith("Read.\n0123") && prompt.endsWith("of Skerry?\nSaid:"), prompt);
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
  deepEqual(cases.map(({ at }) => at.metric), ["f1", "f1", "rouge-l", "rouge-l"]);
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
