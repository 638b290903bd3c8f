// Whole processes with threads at work: each must end by itself, as it was told to, whatever it does.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { buildBundles } from "./support/bundles.ts";
import { repository } from "./support/shared.ts";

/** A place to run a script with the library. */
interface Runtime {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** The library's file, relative to the repository. */
  readonly library: string;
  readonly skip: string | false;
}

interface Outcome {
  readonly status: number | null;
  /** What the scenario said. */
  readonly facts: Readonly<Record<string, unknown>>;
  readonly error: string;
  /** From when it had said that until it had ended, in seconds. */
  readonly endSeconds: number;
}

/** What ends later than that after its last word does not end by itself. */
const END_SECONDS = 5;

/** What hangs is killed after that. */
const PATIENCE_MS = 60_000;

const { deno, bun } = process.versions as Record<string, string | undefined>;
const { execPath } = process;

const node: Runtime = {
  name: "Node",
  command: ["node"],
  library: "dist/node/mod.js",
  skip: spawnSync("node", ["--version"]).status !== 0 && "there is no Node",
};
if (node.skip) console.error(`!! ${node.skip}: the tests of threads in Node were skipped`);
const runtimes: readonly Runtime[] = [
  ...deno
    ? [{ name: "Deno", command: [execPath, "run", "-A"], library: "mod.ts", skip: false } as const]
    : [],
  ...bun ? [{ name: "Bun", command: [execPath], library: "mod.ts", skip: false } as const] : [],
  // It does not matter who starts Node's processes: Deno's suite does.
  ...bun ? [] : [node],
];

/** Runs one of threads/scenarios.js. */
async function run(runtime: Runtime, scenario: string): Promise<Outcome> {
  if (runtime === node) buildBundles();
  const [command, ...options] = runtime.command;
  const script = fileURLToPath(new URL("tests/threads/scenarios.js", repository));
  const library = new URL(runtime.library, repository).href;
  const child = spawn(command, [...options, script, library, scenario], {
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let error = "";
  let said = performance.now();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    said = performance.now();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => error += text);
  const patience = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  clearTimeout(patience);
  const endSeconds = (performance.now() - said) / 1000;
  return { status, facts: out === "" ? {} : JSON.parse(out), error, endSeconds };
}

/** The process has ended well, soon, and with nothing to complain about. */
function assertEnded({ status, error, endSeconds }: Outcome): void {
  equal(error, "");
  equal(status, 0);
  ok(endSeconds < END_SECONDS, `it took ${endSeconds} s to end`);
}

/** The process has failed with the scenario's own error and no other. */
function assertThrown({ status, error }: Outcome): void {
  match(error, /Error: thrown on purpose|error: thrown on purpose/);
  ok(!/panic|fatal|worker|segmentation/i.test(error), error);
  equal(status, 1);
}

for (const runtime of runtimes) {
  const check = (title: string, scenario: string, judge: (outcome: Outcome) => void) =>
    test(
      `${runtime.name} with threads: ${title}`,
      { skip: runtime.skip },
      async () => judge(await run(runtime, scenario)),
    );

  const text = "Yet, and the roof";

  check("a program that never disposes ends", "ends without disposing", (outcome) => {
    assertEnded(outcome);
    match(String(outcome.facts.description), /, 3 threads$/);
    equal(outcome.facts.text, text);
  });

  check("the workers are gone when the model is disposed", "disposes and ends", (outcome) => {
    assertEnded(outcome);
    const { text: written, ended, description } = outcome.facts;
    equal(written, text);
    match(String(description), /, 1 thread \(3 wanted, but the backend has been disposed of\)$/);
    // Where the system does not list threads, only the end of the process tells.
    if (ended !== null) ok((ended as number) >= 2, `${ended} threads have ended`);
  });

  check("an abort ends reading and leaves a usable session", "aborts while it reads", (outcome) => {
    assertEnded(outcome);
    equal(outcome.facts.reason, "TimeoutError");
    ok((outcome.facts.length as number) > 0);
    ok((outcome.facts.text as string).length > 0);
  });

  check(
    "an abort ends writing and leaves a usable session",
    "aborts while it writes",
    (outcome) => {
      assertEnded(outcome);
      deepEqual([outcome.facts.reason, outcome.facts.pieces], ["AbortError", 5]);
      ok((outcome.facts.text as string).length > 0);
    },
  );

  check("an error thrown while a session reads ends it", "throws while it reads", (outcome) => {
    assertThrown(outcome);
    // Bun finishes what the main module awaits before it ends.
    if (runtime.name !== "Bun") deepEqual(outcome.facts, {});
  });

  check("an error thrown while a session writes ends it", "throws while it writes", assertThrown);

  check(
    "an error thrown while the threads sleep ends it",
    "throws while its threads sleep",
    assertThrown,
  );

  for (const scenario of ["exits while it reads", "exits while its threads sleep"]) {
    check(`a program that ${scenario} does so at once`, scenario, (outcome) => {
      deepEqual([outcome.status, outcome.facts, outcome.error], [7, {}, ""]);
    });
  }

  check(
    "a worker whose session reads can be terminated",
    "terminates a worker whose session reads",
    (outcome) => {
      assertEnded(outcome);
      match(String(outcome.facts.description), /, 3 threads$/);
    },
  );

  check(
    "fifty backends leave neither threads nor memory behind",
    "opens and disposes fifty backends",
    (outcome) => {
      assertEnded(outcome);
      const { moreThreads, moreMebibytes } = outcome.facts as Record<string, number | null>;
      // A worker that stays is a thread and some 3 to 5 MiB.
      if (moreThreads !== null) ok(moreThreads! <= 10, `${moreThreads} threads more`);
      ok(moreMebibytes! < 60, `${moreMebibytes} MiB more`);
    },
  );

  check("two models work at once", "uses two models at once", (outcome) => {
    assertEnded(outcome);
    deepEqual(outcome.facts.texts, [text, text]);
  });
}
