/** LongBench's cases, from rows in the official format with our own texts; hostile files. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { EvalCase } from "../src/eval/case.ts";
import { MAX_LINE_BYTES, readJsonLines } from "../src/eval/json_lines.ts";
import { longbenchCases } from "../src/eval/longbench.ts";
import { fillTemplate, parseTemplate } from "../src/eval/prompt_template.ts";
import { MAX_QUESTION_CHARACTERS } from "../src/eval/suite.ts";
import { cutMiddle } from "../src/eval/truncation.ts";
import { all, characters, contextOf, folderOf, lines } from "./support/suite_folders.ts";

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
  deepEqual(first.at, { row: 0, metric: "f1", characters: hotpot.context.length });
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
  equal(first!.raw, true); // the official code leaves the chat template out here
  const [other] = await all(longbenchCases(longbench({ "hotpotqa.jsonl": lines(hotpot) })));
  equal(other!.raw, undefined);
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
  const cut = { cutChinese: (text: string) => text.split("·") };
  const [second] = await all(longbenchCases(folder, cut));
  equal(second!.at.metric, "f1 by jieba's words");
  equal(second!.score("安"), 2 / 3);
  ok(/multifieldqa_zh: f1 by characters.*jieba.*not comparable/.test(notes[0]!), notes[0]!);
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
    cutMiddle("abcdefgh", parts, { tokens, units: characters }, odd) + parts.after;
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

test("a prompt that is cut is cut when it is read", async () => {
  const folder = longbench({
    "hotpotqa.jsonl": lines({ ...hotpot, context: "0123456789".repeat(99) }),
  });
  const truncate = { tokens: 200, units: characters };
  const [first] = await all(longbenchCases(folder, { truncate }));
  const prompt = await contextOf(first!) + first!.question;
  equal(prompt.length, 200);
  ok(prompt.startsWith("Read.\n0123") && prompt.endsWith("of Skerry?\nSaid:"), prompt);
});
