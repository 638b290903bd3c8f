/**
 * Writes bench/results.md: all benchmarks, in Deno and in Bun, as they come out on this machine. Arguments go to
 * both instead of what is run by default, e.g. `--threads 4 --only scan`.
 *
 *     deno run -A bench/results.ts
 */
import { writeFile } from "node:fs/promises";
import process from "node:process";
import { bun, DENO, run } from "../scripts/tools.ts";

/** One page for both runtimes. */
const IN_CHROMIUM = "--threads 1 --only model --match Chromium";

/** One thread beside one thread of the peers; then what two gain over one. */
const PASSES: readonly string[] = [
  "--threads 1 --only matmul,scan,attend",
  "--threads 1,2 --only forward,stream",
  "--threads 1 --only model --skip Chromium --model Llama-3.2-1B:q8_0,Llama-3.2-1B:q4_0",
  "--threads 2 --only model --skip Chromium --no-peers",
  IN_CHROMIUM,
];

const given = process.argv.slice(2);
const passes = given.length > 0 ? [given.join(" ")] : PASSES;
const runtimes: readonly (readonly [string, readonly string[]])[] = [
  [DENO, ["run", "-A", "bench/main.ts"]],
  [await bun(), ["bench/main.ts"]],
];
const sections: string[] = [];
for (const pass of passes) {
  for (const [command, before] of pass === IN_CHROMIUM ? runtimes.slice(0, 1) : runtimes) {
    const { code, output } = await run(command, [...before, ...pass.split(" "), "--markdown"]);
    // What is left out goes to standard error and stands in the section as well.
    sections.push(output.slice(output.indexOf("## ")));
    if (code !== 0) process.exitCode = code;
    await write();
  }
}

/** After each run, so that what was measured is there if a later one is cut short. */
async function write(): Promise<void> {
  await writeFile(
    new URL("results.md", import.meta.url),
    `# Results

Written by \`deno run -A bench/results.ts${
      given.map((arg) => ` ${arg}`).join("")
    }\`. Each rate is the median of
rounds in which ours, the peers and the machine's limit were timed in turn; each ratio is the median of those within
a round. *Peak* is what one core does in 128-bit multiply-adds, *read* how fast it reads memory, both
through WebAssembly and in the same rounds. Ratios above 1 mean that ours is faster.

${sections.join("\n")}`,
  );
}
