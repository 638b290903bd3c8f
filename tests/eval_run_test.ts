import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { Answerer } from "../src/eval/answerer.ts";
import type { EvalCase, EvalResult } from "../src/eval/case.ts";
import { EvalAbort, type EvalRunOptions, runCases, summarize } from "../src/eval/run.ts";
import { shareOf } from "../src/eval/statistics.ts";

function createCase(id: string, length = 1000): EvalCase {
  return {
    id,
    task: id.split("/")[0]!,
    at: { length, repeat: 0 },
    context: () => ["text"],
    question: "?",
    answerPrefix: "",
    maxTokens: 4,
    expected: [id],
    score: (prediction) => Number(prediction === id),
  };
}

/** Answers with the case's id, but for some. */
function createAnswerer(name: string, wrong: Readonly<Record<string, string | Error>> = {}) {
  const asked: string[] = [];
  const answerer: Answerer & { readonly asked: readonly string[] } = {
    name,
    asked,
    cost: () => 1,
    answer({ id }) {
      asked.push(id);
      const answer = wrong[id] ?? id;
      if (answer instanceof Error) return Promise.reject(answer);
      return Promise.resolve({ prediction: answer, tokens: 7 });
    },
    [Symbol.dispose]() {},
  };
  return answerer;
}

/** A journal in memory. */
function createJournal(...lines: string[]) {
  const all = [...lines];
  return {
    all,
    lines,
    append(line: string) {
      all.push(line);
      return Promise.resolve();
    },
  };
}

async function rowsOf(
  cases: readonly EvalCase[],
  answerers: readonly Answerer[],
  options: EvalRunOptions = {},
): Promise<EvalResult[]> {
  const rows: EvalResult[] = [];
  for await (const row of runCases({ cases, answerers }, options)) rows.push(row);
  return rows;
}

const cases = ["a/1", "a/2", "b/1"].map((id) => createCase(id));

test("rows come by method, then case, with what was answered and what it is worth", async () => {
  const rows = await rowsOf(cases, [createAnswerer("one", { "a/2": "no" }), createAnswerer("two")]);
  deepEqual(rows.map(({ method, id, score }) => [method, id, score]), [
    ["one", "a/1", 1],
    ["one", "a/2", 0],
    ["one", "b/1", 1],
    ["two", "a/1", 1],
    ["two", "a/2", 1],
    ["two", "b/1", 1],
  ]);
  const { seconds, ...row } = rows[1]!;
  ok(seconds >= 0);
  deepEqual(row, {
    id: "a/2",
    task: "a",
    method: "one",
    at: { length: 1000, repeat: 0 },
    prediction: "no",
    expected: ["a/2"],
    score: 0,
    tokens: 7,
  });
});

test("a run that was ended goes on where it was; rows with an error are tried again", async () => {
  const header = { suite: "x", seed: 1 };
  const journal = createJournal();
  const failing = createAnswerer("one", { "a/2": new Error("too long"), "b/1": new EvalAbort("") });
  await rejects(rowsOf(cases, [failing], { journal, header }), EvalAbort);
  equal(journal.all.length, 3); // the header, a/1 and the error of a/2
  equal((JSON.parse(journal.all[2]!) as EvalResult).error, "too long");

  const again = createJournal(...journal.all);
  const answerer = createAnswerer("one");
  const rows = await rowsOf(cases, [answerer], { journal: again, header });
  deepEqual(answerer.asked, ["a/2", "b/1"]);
  deepEqual(rows.map(({ id, score }) => [id, score]), [["a/1", 1], ["a/2", 1], ["b/1", 1]]);
  equal(again.all.length, 5);

  const other = rowsOf(cases, [answerer], { journal: again, header: { ...header, seed: 2 } });
  await rejects(other, /differ in seed; --fresh begins anew/);
  await rejects(
    rowsOf(cases, [answerer], { journal: createJournal('{"a":1}'), header }),
    /first line must be a header/,
  );
  await rejects(
    rowsOf(cases, [answerer], { journal: createJournal(again.all[0]!, "{}"), header }),
    /line 2 must be a row/,
  );
});

test("only the cases that are named run; unknown names and equal ids are refused", async () => {
  const rows = await rowsOf(cases, [createAnswerer("one")], { only: ["b/1"] });
  deepEqual(rows.map(({ id }) => id), ["b/1"]);
  await rejects(
    rowsOf(cases, [createAnswerer("one")], { only: ["c/1"] }),
    /only "c\/1": it must be one of the 3 cases, such as "a\/1"/,
  );
  await rejects(rowsOf([cases[0]!, cases[0]!], []), /ids must differ, got "a\/1" twice/);
});

test("progress says which row it is, and after a while how long the rest will take", async () => {
  const lines: string[] = [];
  await rowsOf(cases, [createAnswerer("one")], {
    formatSeconds: (seconds) => `${seconds.toFixed(0)} seconds`,
    onProgress: (line) => {
      lines.push(line());
      return Promise.resolve();
    },
  });
  match(lines[0]!, /^row 1 of 3; one a\/1$/);
  match(lines[2]!, /^row 3 of 3, about 0 seconds left; one b\/1$/);
});

test("a summary is of the first method, and has all; errors are no scores", async () => {
  const first = createAnswerer("one", { "a/2": "no", "b/1": new Error("too long") });
  const rows = await rowsOf(cases, [first, createAnswerer("two")]);
  const summary = summarize("needle", rows);
  deepEqual([summary.type, summary.suite, summary.method], ["summary", "needle", "one"]);
  deepEqual([summary.score, summary.n, summary.errors], [0.5, 2, 1]);
  deepEqual(summary.byTask["a"]!.n, 2);
  deepEqual([summary.byMethod["two"]!.score, summary.byMethod["two"]!.average], [1, 1]);
  deepEqual(summary.byMethod["two"]!.byLength["1000"]!.n, 3);
  const { score, n, interval } = summarize("needle", []);
  deepEqual([score, n, interval], [0, 0, [0, 1]]);
});

test("intervals are Wilson's for right and wrong, the bootstrap's between", () => {
  // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20.
  for (const [right, n, low, high] of [[81, 263, 0.2553, 0.3662], [15, 148, 0.0624, 0.1605]]) {
    const scores = Array.from({ length: n! }, (_, i) => Number(i < right!));
    const { interval } = shareOf(scores);
    ok(Math.abs(interval[0] - low!) < 5e-5 && Math.abs(interval[1] - high!) < 5e-5, `${interval}`);
  }
  deepEqual(shareOf(Array(20).fill(0)).interval.map((x) => x.toFixed(4)), ["0.0000", "0.1611"]);
  // A mean of 100 uniform numbers has a standard error of 0.0289.
  const { score, interval } = shareOf(Array.from({ length: 100 }, (_, i) => (i + 0.5) / 100));
  ok(Math.abs(score - 0.5) < 1e-9);
  ok(Math.abs(interval[1] - interval[0] - 2 * 1.96 * 0.0289) < 0.012, `${interval}`);
  const many = Array.from({ length: 40 }, (_, i) => i % 3 / 2);
  deepEqual(shareOf(many), shareOf(many));
  // One score says little, whatever it is.
  const [low, high] = shareOf([0.25]).interval;
  ok(low < 0.05 && high > 0.8, `${low} to ${high}`);
});
