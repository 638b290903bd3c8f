/** `eval longbench`, `leval`, `infinitebench` as commands, with the embedded model. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { modelAnswerer } from "../src/eval/answerer.ts";
import type { EvalResult } from "../src/eval/case.ts";
import { infinitebenchCases } from "../src/eval/infinitebench.ts";
import { resolveMethod } from "../src/eval/methods.ts";
import { modelTokens } from "../src/eval/text_tokens.ts";
import { loadModel } from "../src/llama/load.ts";
import { missing, readJson, repository, sharedUrl } from "./support/shared.ts";
import { all, folderOf, lines } from "./support/suite_folders.ts";

const folder = mkdtempSync(join(tmpdir(), "benchmarks-"));
after(() => rmSync(folder, { recursive: true }));

const launch = "Deno" in globalThis
  ? ["run", "-A", `--config=${fileURLToPath(new URL("deno.json", repository))}`]
  : [];

/** Runs `eval` with one thread. */
async function evaluate(...args: string[]) {
  const main = fileURLToPath(new URL("src/cli/main.ts", repository));
  const child = spawn(process.execPath, [...launch, main, "eval", ...args], {
    env: { ...process.env, NO_COLOR: "1", REATTENTION_DEBUG: "" },
  });
  let out = "";
  let error = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => error += text);
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, out, error };
}

/** A folder of files; gives its path. */
function write(name: string, files: Readonly<Record<string, string>>): string {
  const path = join(folder, name);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

const NOISE =
  "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back " +
  "again.\n";

/** A row of InfiniteBench's pass keys, some 1,500 tokens long. */
function passkey(id: number, answer: string) {
  const context = NOISE.repeat(20) + `The pass key is ${answer}. Remember it. ${answer} is the ` +
    `pass key.\n` + NOISE.repeat(30);
  return { id, context, input: "What is the pass key?", answer: [answer] };
}

test("eval infinitebench asks, scores, sums up, and goes on where it was", async () => {
  const data = write("infinitebench", {
    "passkey.jsonl": lines(passkey(0, "71432"), passkey(1, "90210")),
  });
  const kept = join(folder, "rows.jsonl");
  const args = ["infinitebench", "--data", data, "--threads", "1", "--out", kept];
  const first = await evaluate(...args, "--only", "passkey/1", "--json");
  equal(first.status, 0, first.error);
  const [row, summary] = first.out.trimEnd().split("\n").map((line) => JSON.parse(line));
  const { id, task, at, prediction, score } = row as EvalResult;
  deepEqual([id, task, at["metric"], score], ["passkey/1", "passkey", "first number", 1]);
  match(prediction, /90210/);
  equal(summary.type, "summary");
  const scored = { metric: "first number", n: 1, errors: 0, score: 100 };
  deepEqual(summary.benchmark, { reattention: { tasks: { passkey: scored }, average: 100 } });
  match(first.error, /note: InfiniteBench: prompts of our own, not the official ones/);
  const second = await evaluate(...args, "--methods", "reattention,window");
  equal(second.status, 0, second.error);
  // The window has not seen the key.
  match(second.out, /^passkey +first number +100\.00 of 2 +0\.00 of 2$/m);
  match(second.out, /^average +100\.00 +0\.00$/m);
  equal(readFileSync(kept, "utf8").trimEnd().split("\n").length, 5); // a header, and each row once
});

test("rows that were kept are not mixed with those of other prompts", async () => {
  const data = write("longbench", {
    "lcc.jsonl": lines({ context: "x = 1\n", input: "", answers: ["y = 2"], all_classes: null }),
    "config/dataset2prompt.json": JSON.stringify({ lcc: "{context}" }),
    "other.json": JSON.stringify({ lcc: "Go on.\n{context}" }),
  });
  const args = ["longbench", "--data", data, "--threads", "1", "--out", join(folder, "lcc.jsonl")];
  const first = await evaluate(...args);
  equal(first.status, 0, first.error);
  match(first.out, /^lcc +code similarity +\d/m);
  const second = await evaluate(...args, "--prompts", join(data, "other.json"));
  equal(second.status, 1);
  match(second.error, /differ in prompts; --fresh begins anew/);
});

test("a hostile file of data ends the command with its place, before anything is asked", async () => {
  const data = write("hostile", {
    "longbook_qa_eng.jsonl": `${lines({ context: "a", input: "b", answer: ["c"] })}{"context": `,
  });
  const { status, out, error } = await evaluate("infinitebench", "--data", data, "--threads", "1");
  deepEqual([status, out], [1, ""]);
  match(error, /line 2 of ".*longbook_qa_eng\.jsonl": it must be JSON/);
});

test("wrong usage of the benchmarks has status 2", async () => {
  const { status, error } = await evaluate("longbench");
  equal(status, 2);
  match(error, /eval longbench needs the folder with the data: --data/);
  const missing = await evaluate("infinitebench", "--data", join(folder, "nowhere"));
  equal(missing.status, 1);
  match(missing.error, /Cannot find a task in ".*nowhere"/);
});

const GOLDEN = "eval/infinitebench/golden_scores.json";
const skip = missing(GOLDEN, "eval/infinitebench/preds_kimi");

for (const model of ["kimi", "yarn-mistral"]) {
  test(`eval infinitebench --score gives the official scores of ${model}`, { skip }, async () => {
    const path = fileURLToPath(sharedUrl(`eval/infinitebench/preds_${model}`));
    const { status, out, error } = await evaluate("infinitebench", "--score", path, "--json");
    const golden = readJson<Record<string, Record<string, { n: number; score?: number }>>>(GOLDEN);
    const expected = Object.entries(golden[model]!).filter(([, { score }]) => score !== undefined)
      .map(([task, { n, score }]) => ({ task, n, score }));
    const actual = out.trimEnd().split("\n").map((line) => JSON.parse(line) as typeof expected[0]);
    const byTask = (a: { task: string }, b: { task: string }) => a.task < b.task ? -1 : 1;
    deepEqual(actual.sort(byTask), expected.sort(byTask));
    // One of yarn-mistral's files is damaged, and the official code fails at it, too.
    const isDamaged = model === "yarn-mistral";
    equal(status, isDamaged ? 1 : 0, error);
    if (isDamaged) match(error, /line 189 of ".*preds_longbook_qa_chn\.jsonl": it must be JSON/);
    else equal(error, "");
  });
}

test("questions that share a reading are answered as those that do not", async () => {
  using model = await loadModel(undefined, { threads: 1 });
  const units = modelTokens(model.tokenizer);
  const row = passkey(0, "71432");
  const other = { ...row, id: 1, input: "What is green?", answer: ["grass"] };
  const data = folderOf({ "passkey.jsonl": lines(row, other) });
  const answers = [];
  for (const options of [{ units }, {}]) {
    const cases = await all(infinitebenchCases(data, options));
    equal(cases[0]!.shared?.base, cases[1]!.shared?.base);
    equal(cases[0]!.shared === undefined, !("units" in options));
    using answerer = modelAnswerer(model, resolveMethod("reattention", model));
    const found = [];
    for (const task of cases) found.push(await answerer.answer(task));
    answers.push(found);
  }
  deepEqual(answers[0], answers[1]);
  ok(answers[0]![0]!.prediction.includes("71432"), answers[0]![0]!.prediction);
});
