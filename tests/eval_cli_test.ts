// `reattention eval` as people run it: with the embedded model, killed and begun again, and at a server.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { createProgram } from "../src/cli/args.ts";
import type { EvalSettings } from "../src/cli/eval_suites.ts";
import type { EvalResult } from "../src/eval/case.ts";
import type { EvalSummary } from "../src/eval/run.ts";
import { launch, notBuilt as skip } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "reattention-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function start(args: readonly string[], environment: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [...launch, "eval", ...args, "--threads", "1"], {
    env: { ...process.env, NO_COLOR: "1", ...environment },
  });
}

async function run(args: readonly string[], environment: Record<string, string> = {}) {
  const child = start(args, environment);
  let out = "";
  let error = "";
  child.stdin!.end();
  child.stdout!.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr!.setEncoding("utf8").on("data", (text: string) => error += text);
  const status = await new Promise((resolve) => child.on("close", resolve));
  return { status, out, error };
}

/** The lines of an output: rows, then the summary. */
function parse(out: string): { readonly rows: EvalResult[]; readonly summary: EvalSummary } {
  const lines = out.trim().split("\n").map((line) => JSON.parse(line) as unknown);
  return { rows: lines.slice(0, -1) as EvalResult[], summary: lines.at(-1) as EvalSummary };
}

const GRID = ["needle", "--lengths", "2K", "--depths", "0.1,0.4", "--repeats"];

test("eval needle finds by ReAttention what a window does not", { skip }, async () => {
  const { status, out, error } = await run([
    ...GRID,
    "1",
    "--methods",
    "reattention,window",
    "--json",
  ]);
  equal(status, 0, error);
  const { rows, summary } = parse(out);
  equal(rows.length, 4);
  deepEqual(rows[0]!.at, { length: 2048, depth: 0.1, repeat: 0 });
  deepEqual([summary.suite, summary.method, summary.n], ["needle", "reattention", 2]);
  equal(summary.score, 1);
  ok(summary.interval[0] > 0.3 && summary.interval[1] === 1);
  equal(summary.byMethod["window"]!.score, 0);
});

test("a run that was killed goes on, and a row alone is the same row", { skip }, async () => {
  const path = join(folder, "rows.jsonl");
  const args = [...GRID, "2", "--kinds", "single,multikey:2", "--json", "--out", path];
  const child = start(args);
  const ended = new Promise((resolve) => child.on("close", resolve));
  const countLines = () => existsSync(path) ? readFileSync(path, "utf8").split("\n").length - 1 : 0;
  while (countLines() < 4 && child.exitCode === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill("SIGKILL");
  await ended;
  // And its last line was not written to the end.
  const before = readFileSync(path, "utf8").trimEnd().split("\n");
  writeFileSync(path, before.slice(0, 4).join("\n") + `\n${before[3]!.slice(0, 40)}`);
  const { status, out, error } = await run(args);
  equal(status, 0, error);
  const { rows, summary } = parse(out);
  deepEqual([rows.length, summary.n], [8, 8]);
  deepEqual(rows.slice(0, 3), before.slice(1, 4).map((line) => JSON.parse(line) as EvalResult));
  equal(readFileSync(path, "utf8").trim().split("\n").length, 9);

  const { id } = rows[6]!;
  const alone = parse((await run([...args.slice(0, -2), "--only", id])).out);
  equal(alone.rows.length, 1);
  deepEqual({ ...alone.rows[0]!, seconds: 0 }, { ...rows[6]!, seconds: 0 });

  const other = await run([...args, "--seed", "2"]);
  equal(other.status, 1);
  match(other.error, /must be of the same evaluation, but differ in seed; --fresh begins anew/);
});

test("eval perplexity and eval ruler give tables for people", { skip }, async () => {
  const methods = ["--methods", "reattention,full,dynamic-ntk:2"];
  const prose = await run(["perplexity", "--lengths", "128,1K", "--scored", "64", ...methods]);
  equal(prose.status, 0, prose.error);
  match(prose.out, /^task +length +reattention +full +dynamic-ntk:2\nperplexity +128 +\d+\.\d\d/);
  const [, selected, full] = /perplexity +1,024 +([\d.]+) +([\d.]+)/.exec(prose.out)!;
  ok(Number(full) > 1.5 * Number(selected), prose.out);
  const args = ["ruler", "--lengths", "1K", "--tasks", "niah_single_1,vt", "--repeats", "1"];
  const ruler = await run([...args, "--full-limit", "512", ...methods]);
  equal(ruler.status, 0, ruler.error);
  match(ruler.out, /^task +length +reattention\nniah_single_1 +1,024 +100\.0 \(21-100\) of 1\nvt/);
});

test("eval --server measures an endpoint by the same cases", { skip }, async () => {
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (part: string) => text += part).on("end", () => {
      const { prompt, model } = JSON.parse(text) as { prompt: string; model: string };
      const isKnown = request.headers.authorization === "Bearer s3" && model === "tiny";
      const isShort = prompt.length < 6000;
      response.statusCode = !isKnown ? 401 : isShort ? 200 : 400;
      const [, key] = /number for (\S+) mentioned in the text is$/.exec(prompt) ?? [];
      const [, answer] = new RegExp(`for ${key} is: (\\d+)`).exec(prompt) ?? [];
      response.end(JSON.stringify({ choices: [{ text: ` ${answer}.` }], error: "too long" }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/completions`;
    const args = ["--lengths", "1K,2K", "--depths", "0.5", "--repeats", "1", "--json"];
    const { status, out, error } = await run(
      ["needle", "--server", url, "--model", "tiny", ...args],
      { REATTENTION_API_KEY: "s3" },
    );
    equal(status, 0, error);
    const { rows, summary } = parse(out);
    deepEqual(rows.map(({ method, score }) => [method, score]), [["tiny", 1], ["tiny", 0]]);
    deepEqual([summary.score, summary.n, summary.errors], [1, 1, 1]);
    match(
      error,
      /note: tiny single\/2048\/0.5\/0: the server answered with status 400: .*too long/,
    );
    const refused = await run(["needle", "--server", url, ...args]);
    deepEqual([refused.status, refused.out], [1, ""]);
    match(refused.error, /Cannot ask .*status 401/);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

/** Parses a command line; gives what it would run. */
async function settingsOf(...args: string[]): Promise<EvalSettings> {
  let found: EvalSettings | null = null;
  const nothing = () => Promise.resolve();
  const program = createProgram({
    ...{ ask: nothing, follow: nothing, generate: nothing },
    ...{ inspect: nothing, demo: nothing, calibrate: nothing, picture: nothing },
    eval(settings) {
      found = settings;
      return Promise.resolve();
    },
  }, { version: "1", output: { out: () => {}, error: () => {} } });
  await program.parseAsync(["eval", ...args], { from: "user" });
  return found!;
}

test("every option of eval needle arrives, and a preset has its own", async () => {
  const settings = await settingsOf(
    "needle",
    ...["--lengths", "16K,1M", "--depths", "0,0.5", "--kinds", "single,uuid:3", "--repeats", "7"],
    ...["--file", "a.txt", "--methods", "reattention:blockmax,full", "--select", "always"],
    ...["--only", "x", "--only", "y", "--out", "o", "--seed", "3", "--raw", "--full-limit", "all"],
  );
  ok(settings.suite === "needle");
  deepEqual([settings.lengths, settings.depths], [[16384, 2 ** 20], [0, 0.5]]);
  deepEqual([settings.kinds, settings.repeats, settings.seed], [["single", "uuid:3"], 7, 3]);
  deepEqual([settings.methods, settings.only], [["reattention:blockmax", "full"], ["x", "y"]]);
  deepEqual([settings.select, settings.fullLimit, settings.raw], ["always", Infinity, true]);
  const preset = await settingsOf("needle", "--preset", "needlebench", "--repeats", "2");
  ok(preset.suite === "needle");
  deepEqual([preset.lengths.at(-1), preset.depths.length, preset.repeats], [200_000, 11, 2]);
});

test("wrong usage of eval is refused with a reason", { skip }, async () => {
  const refusals: readonly [args: string[], status: number, message: RegExp][] = [
    [["needle", "--kinds", "many"], 2, /it must be single, multikey:K/],
    [["needle", "--depths", "2"], 2, /It must be a number, from 0 to 1/],
    [["needle", "--needles", "x"], 2, /--needles goes with --preset needlebench/],
    [["needle", "--methods", "magic"], 1, /a method must be reattention, .*got "magic"/],
    [["needle", "--methods", "reattention:odd"], 1, /got the rule "odd"/],
    [["needle", "--lengths", "100"], 1, /lengths must be at least 256 tokens, got 100/],
    [["needle", "--file", join(folder, "none")], 1, /there is no such file/],
    [["ruler", "--tasks", "niah_9"], 2, /It must be among niah_single_1/],
    [["ruler", "--tasks", "qa_1"], 2, /qa_1 needs others' data: name their file with --squad/],
    [["perplexity", "--server", "http://x"], 2, /a model's logits, which a server does not give/],
  ];
  const outcomes = await Promise.all(refusals.map(([args]) => run(args)));
  for (const [i, [args, status, message]] of refusals.entries()) {
    match(outcomes[i]!.error, message, args.join(" "));
    equal(outcomes[i]!.status, status, outcomes[i]!.error);
  }
});
