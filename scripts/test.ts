/**
 * All tests, in Deno and in Bun, on a machine that has only one of them; the last line adds both up.
 * Arguments are test files; default: all of tests/.
 */
import { existsSync, readdirSync } from "node:fs";
import process from "node:process";
import { bun, DENO, ROOT, run } from "./tools.ts";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const files = process.argv.length > 2 ? process.argv.slice(2) : ["tests/"];
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const skips = new Set<string>();
let broken = false;

/** How to run tests, and how what is printed last counts them. */
interface Runner {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly patterns: Readonly<Record<keyof Counts, RegExp>>;
}

/** Runs some files and adds up what the runner's closing lines say; gives the output. */
async function runFiles(runner: Runner, files: readonly string[], quiet: boolean): Promise<string> {
  const { name, command, args, patterns } = runner;
  const { code, output } = await run(command, [...args, ...files], { quiet });
  let ran = 0;
  for (const key of ["passed", "failed", "skipped"] as const) {
    const count = Number([...output.matchAll(patterns[key])].at(-1)?.[1] ?? 0);
    total[key] += count;
    ran += count;
  }
  // What a test file says aloud of all its tests that were skipped.
  for (const [line] of output.matchAll(/^!! .*$/gm)) skips.add(line);
  if (code !== 0 || ran === 0) {
    broken = true;
    console.error(`${name}: exit code ${code}, ${ran} tests ran`);
  }
  return output;
}

const deno: Runner = {
  name: "Deno",
  command: DENO,
  args: ["test", "-A", "--frozen"],
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

// Side by side: much of a test waits, or has one thread.
console.log("\n== Deno ==");
const first = runFiles(deno, files, false);
// A process for each file: in one that has had hundreds of WebAssembly memories, Bun is four times slower.
const outputs: string[] = [];
for (const file of files.flatMap(testFiles)) outputs.push(await runFiles(inBun, [file], true));
await first;
console.log(`\n== Bun ==\n${outputs.join("")}`);

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
if (skips.size > 0) console.log(`\n${[...skips].join("\n")}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = broken || total.failed > 0 ? 1 : 0;
