/**
 * All tests, in Deno and in Bun, on a machine that has only one of them; the last line adds both up.
 * Arguments are test files; default: all of tests/.
 */
import { existsSync } from "node:fs";
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

/** Runs one runner and adds up what its closing lines say. `after` is what to wait for before its output is shown. */
async function suite(
  name: string,
  command: string,
  args: readonly string[],
  patterns: Readonly<Record<keyof Counts, RegExp>>,
  after?: Promise<void>,
): Promise<void> {
  if (after === undefined) console.log(`\n== ${name} ==`);
  const { code, output } = await run(command, [...args, ...files], { quiet: after !== undefined });
  if (after !== undefined) {
    await after;
    console.log(`\n== ${name} ==\n${output}`);
  }
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const key of ["passed", "failed", "skipped"] as const) {
    counts[key] = Number([...output.matchAll(patterns[key])].at(-1)?.[1] ?? 0);
    total[key] += counts[key];
  }
  // What a test file says aloud of all its tests that were skipped.
  for (const [line] of output.matchAll(/^!! .*$/gm)) skips.add(line);
  if (code !== 0 || counts.passed === 0) {
    broken = true;
    console.error(`${name}: exit code ${code}, ${counts.passed} tests passed`);
  }
}

const bunPath = await bun();
// Side by side: much of a test waits, or has one thread.
const inDeno = suite("Deno", DENO, ["test", "-A", "--frozen"], {
  passed: /(\d+) passed/g,
  failed: /(\d+) failed/g,
  skipped: /(\d+) ignored/g,
});
await suite("Bun", bunPath, ["test", "--timeout", "300000"], {
  passed: /^\s*(\d+) pass$/gm,
  failed: /^\s*(\d+) fail$/gm,
  skipped: /^\s*(\d+) skip$/gm,
}, inDeno);

if (!existsSync(`${ROOT}../shared`)) {
  skips.add(
    "!! ../shared is not there: the tests against third-party models, tokenizers, texts and the " +
      "authors' vectors were skipped",
  );
}
if (skips.size > 0) console.log(`\n${[...skips].join("\n")}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = broken || total.failed > 0 ? 1 : 0;
