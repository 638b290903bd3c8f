/**
 * Sessions' files between processes: killed ones, other runtimes, full disks.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadModel, type Model } from "../src/llama/load.ts";
import { writeHaystack } from "../src/eval/haystack.ts";
import { hasEnded, processSpace } from "../src/system/process_life.ts";
import { replaceFile } from "../src/system/replace_file.ts";
import { mulberry32 } from "./support/random.ts";
import { repository } from "./support/shared.ts";

const { deno, bun } = process.versions as Record<string, string | undefined>;
const script = fileURLToPath(new URL("tests/sessions/scenarios.js", repository));
const library = new URL("mod.ts", repository).href;
// Node has neither TypeScript nor one of the other runtimes' tests.
const skip = !deno && !bun && "needs Deno or Bun";

/** The runtime that this one is not, if it is there. */
function otherRuntime(): string[] | null {
  const name = deno ? "bun" : "deno";
  const own = fileURLToPath(new URL(`.tools/node_modules/.bin/${name}`, repository));
  const command = [existsSync(own) ? own : name, ...name === "deno" ? ["run", "-A"] : []];
  return spawnSync(command[0]!, ["--version"]).status === 0 ? command : null;
}

const here = [process.execPath, ...deno ? ["run", "-A"] : []];
const other = skip ? null : otherRuntime();
const noOther = other === null && `there is no ${deno ? "Bun" : "Deno"} beside this runtime`;
if (noOther) console.error(`!! ${noOther}: sessions were not carried from one to the other`);

let model: Model;
let folder: string;
/** Files of sessions, by their lengths. */
const LENGTHS = [1500, 5000] as const;
const fileOf = (length: number) => join(folder, `${length}.session`);
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "reattention-save-"));
  model = await loadModel(undefined, { threads: 1 });
  let text = "";
  for (const piece of writeHaystack({ seed: 6, length: 20_000, needles: [] })) text += piece.text;
  const tokens = model.tokenizer.encode(text);
  for (const length of LENGTHS) {
    using session = model.session();
    await session.prefill(tokens.subarray(0, length));
    await session.save(fileOf(length));
  }
});
after(() => {
  model[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

function start(command: readonly string[], ...args: readonly string[]): ChildProcess {
  return spawn(command[0]!, [...command.slice(1), script, library, ...args], {
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** What a process says, line by line, until it ends. */
async function* said(child: ChildProcess): AsyncGenerator<unknown> {
  let rest = "";
  for await (const text of child.stdout!.setEncoding("utf8")) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line);
  }
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("close", () => resolve()));
}

test("a process killed while it saves leaves the old file or the new one", { skip }, async () => {
  const random = mulberry32(1);
  const place = mkdtempSync(join(folder, "killed-"));
  const target = join(place, "kept.session");
  const files = LENGTHS.map((length) => readFileSync(fileOf(length)));
  let cut = 0;
  for (let round = 0; round < 12; round++) {
    const child = start(here, "saveForever", target, ...LENGTHS.map(fileOf));
    let saved = 0;
    for await (const _ of said(child)) {
      if (++saved === 1) setTimeout(() => child.kill("SIGKILL"), random() * 60);
    }
    await ended(child);
    equal(child.signalCode, "SIGKILL");
    const kept = readFileSync(target);
    ok(files.some((file) => file.equals(kept)), `round ${round}: ${kept.length} bytes`);
    using session = await model.restore(target);
    ok((LENGTHS as readonly number[]).includes(session.length));
    // What the process before left is gone.
    const litter = readdirSync(place).filter((name) => name !== "kept.session");
    cut += litter.length;
    ok(litter.length <= 1, litter.join());
    ok(litter.every((name) => name.startsWith(`kept.session.${child.pid}-`)), litter.join());
    if (processSpace() === null) { for (const name of litter) rmSync(join(place, name)); }
  }
  ok(cut > 0, "no process was killed while it saved: the test proved nothing");
});

test("replacing a file removes what killed processes left, and nothing that another writes", {
  skip,
}, async () => {
  const place = mkdtempSync(join(folder, "left-"));
  const target = join(place, "kept.session");
  const space = processSpace();
  if (space === null) {
    console.error("!! nobody tells whose process ids are whose: only age was tested");
  }
  const child = start(here, "replaceForever", target);
  for await (const _ of said(child)) break;
  const written = readdirSync(place).join();
  ok(written.startsWith(`kept.session.${child.pid}-${space ?? "unknown"}-`), written);

  const kept = [
    "kept.session.tmp",
    `kept.session.${child.pid}-1.tmp`,
    `kept.sessions.${child.pid}-${space}-00000000.tmp`,
    `kept.session.${child.pid}-${space}-00000000.tmp.tmp`,
    // Of another machine, or container.
    `kept.session.${child.pid}-12345678-00000000.tmp`,
    `kept.session.${child.pid}-unknown-00000000.tmp`,
  ];
  const old = `kept.session.${process.pid}-12345678-11111111.tmp`;
  for (const name of [...kept, old]) writeFileSync(join(place, name), "");
  const ago = (hours: number) => new Date(Date.now() - hours * 3_600_000);
  utimesSync(join(place, old), ago(25), ago(25));
  for (const name of kept.slice(-2)) utimesSync(join(place, name), ago(23), ago(23));

  await replaceFile(target, "while it writes");
  deepEqual(readdirSync(place).sort(), ["kept.session", written, ...kept].sort());
  child.kill("SIGKILL");
  await ended(child);
  // Not before its parent has been told.
  while (!hasEnded(child.pid!)) await new Promise((resolve) => setTimeout(resolve, 10));
  await replaceFile(target, "after it was killed");
  const left = space === null ? [written] : [];
  deepEqual(readdirSync(place).sort(), ["kept.session", ...left, ...kept].sort());
  equal(readFileSync(target, "utf8"), "after it was killed");
});

test("a file that cannot grow as it must leaves the old one as it was", { skip }, async () => {
  const shell = spawnSync("bash", ["-c", "ulimit -f 100"]);
  if (shell.status !== 0) {
    return console.error("!! there is no bash with ulimit: nothing was tested");
  }
  const target = join(folder, "full.session");
  copyFileSync(fileOf(LENGTHS[0]), target);
  // 4 MB of the 10 that it takes.
  const command = ["bash", "-c", 'ulimit -f 4000; exec "$@"', "bash", ...here];
  const child = start(command, "save", target, fileOf(LENGTHS[1]));
  const facts: unknown[] = [];
  for await (const fact of said(child)) facts.push(fact);
  await ended(child);
  // The signal of the limit ends a process that does not ignore it.
  if (facts.length > 0) {
    ok(/^Cannot write ".*full\.session": /.test(String(facts[0])), String(facts[0]));
  } else equal(child.signalCode, "SIGXFSZ");
  ok(readFileSync(target).equals(readFileSync(fileOf(LENGTHS[0]))));
});

// Where an engine fuses the sums of relaxed SIMD and another does not, their last bits differ: Deno and Bun.
for (const [threads, kernels] of [["1", "plain"], ["2", "plain"], ["2", "fastest"]] as const) {
  test(
    `a session goes on in the other runtime: ${threads} threads, ${kernels} kernels`,
    { skip: skip || noOther },
    async () => {
      const runs = [];
      for (const command of [here, other!]) {
        const target = join(folder, `${threads} ${kernels} ${runs.length}.session`);
        const usedThreads = command === here ? "1" : threads;
        const child = start(command, "goOn", fileOf(LENGTHS[0]), target, usedThreads, kernels);
        const facts: unknown[] = [];
        for await (const fact of said(child)) facts.push(fact);
        await ended(child);
        equal(child.exitCode, 0);
        ok(readFileSync(`${target}.again`).equals(readFileSync(fileOf(LENGTHS[0]))));
        runs.push({ facts, file: readFileSync(target) });
      }
      equal((runs[0]!.facts[0] as { tokens: number[] }).tokens.length, 24);
      deepEqual(runs[1]!.facts, runs[0]!.facts);
      if (kernels === "plain") ok(runs[0]!.file.equals(runs[1]!.file), "the caches differ");
    },
  );
}
