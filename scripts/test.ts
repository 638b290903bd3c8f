/**
 * All tests, in Deno and in Bun, on a machine that has only one of them; the last line adds both up.
 * Arguments are test files; default: all of tests/.
 */
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import process from "node:process";
import { bun, DENO, ROOT, run, webGpu } from "./tools.ts";

/** How to run a file of tests, and how what is printed last counts them. */
interface Runner {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly patterns: Readonly<Record<keyof Counts, RegExp>>;
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** A file of tests to be run by a runner, in a process of its own. */
interface Job {
  readonly runner: Runner;
  readonly file: string;
}

/** What the largest tests hold, so that machines with many cores and little memory run fewer at once. */
const JOB_BYTES = 4 * 2 ** 30;

/** What is printed once more of a file that failed. */
const LAST_LINES = 40;

const deno: Runner = {
  name: "Deno",
  command: DENO,
  // Types are checked by `deno task check`; in each process anew they would take as long as the tests.
  args: ["test", "-A", "--frozen", "--no-check"],
  patterns: { passed: /(\d+) passed/g, failed: /(\d+) failed/g, skipped: /(\d+) ignored/g },
};
const inBun: Runner = {
  name: "Bun",
  command: await bun(),
  args: ["test", "--timeout", "300000"],
  patterns: {
    passed: /^\s*(\d+) pass$/gm,
    failed: /^\s*(\d+) fail$/gm,
    skipped: /^\s*(\d+) skip$/gm,
  },
};

// Built once: tests that run side by side would take the bundles from under each other.
const { code: built } = await run(DENO, ["run", "-A", "scripts/build.ts"], { quiet: true });
const env = { ...await webGpu(), REATTENTION_BUNDLES: built === 0 ? "built" : "" };
const files = (process.argv.length > 2 ? process.argv.slice(2) : ["tests/"]).flatMap(testFiles);
// The longest, of wasm and webgpu, have names at the end: begun first, they do not run alone at last.
const jobs: Job[] = files.reverse().flatMap((file) => [{ runner: deno, file }, {
  runner: inBun,
  file,
}]);
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const skips = new Set<string>();
const broken: string[] = [];
const seconds = new Map<string, number>();

// A process for each file: in one that has had hundreds of WebAssembly memories, Bun is four times slower.
const atOnce = Math.min(
  availableParallelism(),
  Math.max(1, Math.floor(totalmem() / JOB_BYTES)),
);
await Promise.all(Array.from({ length: atOnce }, async () => {
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) await runJob(job);
}));

/** Runs a file, prints what it printed, and adds up what its closing lines say. */
async function runJob({ runner, file }: Job): Promise<void> {
  const { name, command, args, patterns } = runner;
  const began = performance.now();
  const { code, output } = await run(command, [...args, file], { quiet: true, env });
  const took = (performance.now() - began) / 1000;
  seconds.set(`${name} ${file}`, took);
  console.log(`\n== ${name}: ${file}, ${took.toFixed(1)} s ==\n${output.trimEnd()}`);
  let ran = 0;
  for (const key of ["passed", "failed", "skipped"] as const) {
    const count = Number([...output.matchAll(patterns[key])].at(-1)?.[1] ?? 0);
    total[key] += count;
    ran += count;
  }
  // What a test file says aloud of all its tests that were skipped.
  for (const [line] of output.matchAll(/^!! .*$/gm)) skips.add(line);
  if (code !== 0 || ran === 0) {
    const end = output.trimEnd().split("\n").slice(-LAST_LINES).join("\n");
    broken.push(
      `== ${name}: ${file}: exit code ${code}, ${ran} tests ran; its last lines:\n${end}`,
    );
  }
}

/** The test files that a path means. */
function testFiles(path: string): string[] {
  if (!path.endsWith("/")) return [path];
  return readdirSync(`${ROOT}${path}`).filter((name) => name.endsWith("_test.ts")).sort()
    .map((name) => `${path}${name}`);
}

if (!existsSync(`${ROOT}../shared`)) {
  skips.add(
    "!! ../shared is not there: the tests against third-party models, tokenizers, texts and the " +
      "authors' vectors were skipped",
  );
}
const longest = [...seconds].sort((a, b) => b[1] - a[1]).slice(0, 8);
console.log(`\nlongest: ${longest.map(([job, took]) => `${job} ${took.toFixed(0)} s`).join(", ")}`);
if (skips.size > 0) console.log(`\n${[...skips].join("\n")}`);
// Again: it may be far up where it happened.
for (const what of broken) console.log(`\n${what}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = broken.length > 0 || total.failed > 0 ? 1 : 0;
