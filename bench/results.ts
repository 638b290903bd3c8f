/**
 * Writes bench/results.md: all benchmarks, in Deno and in Bun, as they come out on this machine.
 * Arguments go to both, e.g. `--threads 1,2`.
 *
 *     deno run -A bench/results.ts --threads 1,2
 */
import { writeFile } from "node:fs/promises";
import process from "node:process";
import { bun, DENO, run } from "../scripts/tools.ts";

const DEFAULT = ["--threads", "1,2", "--only", "matmul,scan,attend,forward,stream,model"];

const args = process.argv.length > 2 ? process.argv.slice(2) : DEFAULT;
const runs: readonly (readonly [string, readonly string[]])[] = [
  [DENO, ["run", "-A", "bench/main.ts"]],
  [await bun(), ["bench/main.ts"]],
];
const sections: string[] = [];
for (const [command, before] of runs) {
  const { code, output } = await run(command, [...before, ...args, "--markdown"]);
  // What is left out goes to standard error and stands in the section as well.
  sections.push(output.slice(output.indexOf("## ")));
  if (code !== 0) process.exitCode = code;
}
await writeFile(
  new URL("results.md", import.meta.url),
  `# Results

Written by \`deno run -A bench/results.ts ${
    args.join(" ")
  }\`. Each rate is the median of rounds in which
ours, the peers and the machine's limit were timed in turn; each ratio is the median of those within
a round. *Peak* is what one core does in 128-bit multiply-adds, *read* how fast it reads memory, both
through WebAssembly and in the same rounds. Ratios above 1 mean that ours is faster.

${sections.join("\n")}`,
);
