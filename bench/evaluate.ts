/**
 * What the embedded model finds in long texts: needles and RULER's tasks, and perplexity by position,
 * against a window and full attention. Writes bench/evaluation.md.
 *
 * Rows are kept in .tools/evaluation, and a run that was ended goes on with them. On two cores with
 * nobody else there it takes about 25 minutes, ten of them for needles; `--short` is a look of two
 * minutes, which writes its table to .tools/evaluation.
 *
 *     deno task evaluate [--short] [--threads 2] [--text book.txt]
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { DENO, ROOT, run } from "../scripts/tools.ts";
import { resultTable } from "../src/cli/eval_report.ts";
import { formatSeconds, plural } from "../src/cli/format.ts";
import { parseRow } from "../src/eval/run.ts";
import { describeMachine } from "./support/machine.ts";

const { values: { short, threads, text: given } } = parseArgs({
  options: {
    short: { type: "boolean", default: false },
    threads: { type: "string", default: "2" },
    text: { type: "string" },
  },
});
const book = fileURLToPath(new URL("../../shared/text/war-and-peace.txt", import.meta.url));
const text = given ?? (existsSync(book) ? book : undefined);
const folder = `${ROOT}.tools/evaluation${short ? "/short" : ""}`;

/** A table, and the commands whose rows it has. */
interface Part {
  readonly name: string;
  readonly title: string;
  readonly about: string;
  readonly commands: readonly (readonly string[])[];
}

const BASELINES = ["--methods", "window,full,dynamic-ntk", "--full-limit", "4K"];
const MULTIKEY = "multikey:4,multikey:16,multikey:64";
/** Those whose questions are of a form that the embedded model was trained on. */
const RULER_KNOWN = "niah_single_1,niah_single_2,niah_multikey_1,niah_multikey_2";

const needle = (...args: string[]) => [
  "needle",
  ...["--depths", "0.1,0.3,0.5,0.7,0.9", "--repeats", short ? "1" : "4"],
  ...args,
];
const ruler = (repeats: number, ...args: string[]) => [
  "ruler",
  ...["--repeats", String(short ? 1 : repeats)],
  ...args,
];
const perplexity = (lengths: string, methods: string) => [
  "perplexity",
  ...["--lengths", lengths, "--scored", short ? "256" : "4096", "--methods", methods],
  ...["--full-limit", "4K"],
  ...text === undefined ? [] : ["--file", text],
];

const PARTS: readonly Part[] = [
  {
    name: "needle",
    title: "Needles",
    about:
      "Numbers of seven digits in generated prose, five depths, keys that were in no training; " +
      "`multikey:K` has K facts of the same form about other keys. Right is an answer that contains " +
      "the number.",
    commands: [
      needle("--kinds", `single,${MULTIKEY}`, "--lengths", short ? "4K,16K" : "4K,16K,64K,256K,1M"),
      needle(
        "--kinds",
        "single,multikey:4",
        "--lengths",
        short ? "4K" : "384,4K,64K,1M",
        ...BASELINES,
      ),
    ],
  },
  {
    name: "ruler",
    title: "RULER",
    about:
      "Its 11 tasks that need no data, in its words, with own word lists and generated essays. " +
      "The embedded model answers questions of the forms it was trained on; the other tasks are there " +
      "to show what it cannot do.",
    commands: [
      ruler(20, "--lengths", short ? "2K" : "4K"),
      ruler(10, "--tasks", RULER_KNOWN, "--lengths", short ? "4K" : "16K,64K"),
      ruler(10, "--tasks", RULER_KNOWN, "--lengths", short ? "2K" : "4K", ...BASELINES),
    ],
  },
  {
    name: "perplexity",
    title: "Perplexity by position",
    about:
      `Of the ${short ? 256 : 4096} tokens at each position of ${
        text === undefined ? "generated prose" : text.replace(/^.*[/\\]/, "")
      }. \`reattention\` reads up to there by global and local tokens and selects for these; \`:always\` ` +
      "selects in every step. Positions from 64K on are of another stretch of it than those before.",
    commands: [
      // A place in the text depends on how much of it is read: what is compared is in one command.
      perplexity(
        short ? "256,4K" : "256,4K,16K",
        "reattention,reattention:always,window,full,dynamic-ntk",
      ),
      ...short ? [] : [perplexity("64K,256K,1M", "reattention,window")],
    ],
  },
];

await mkdir(folder, { recursive: true });
const began = performance.now();
const sections: string[] = [];
for (const { name, title, about, commands } of PARTS) {
  const lines: string[] = [];
  for (const [i, args] of commands.entries()) {
    const out = `${folder}/${name}_${i + 1}.jsonl`;
    const { code } = await run(DENO, [
      ...["run", "-A", "src/cli/main.ts", "eval", ...args],
      ...["--threads", threads, "--out", out],
    ]);
    if (code !== 0) process.exit(code);
    lines.push(...(await readFile(out, "utf8")).split("\n").slice(1, -1));
  }
  const rows = lines.map((line) => parseRow(line)!);
  const seconds = rows.reduce((sum, row) => sum + row.seconds, 0);
  sections.push(
    `## ${title}\n\n${about}\n\n${toMarkdown(resultTable(rows))}\n\n` +
      `${plural(rows.length, "row")} in ${formatSeconds(seconds)}: ` +
      commands.map((args) => `\`eval ${args.join(" ").replace(text ?? "", "book.txt")}\``).join(
        ", ",
      ),
  );
}
const { hardware, runtime, commit } = describeMachine();
const target = short ? `${folder}/evaluation.md` : `${ROOT}bench/evaluation.md`;
await writeFile(
  target,
  `# What the embedded model finds in long texts

Written by \`deno task evaluate\`: ${hardware}, ${runtime}, ${threads} threads, commit ${commit}.
Scores are percent, with the 95 % interval (Wilson's, else the bootstrap's) and the number of rows.
Lengths are tokens; the model was trained to 512. \`full\` and \`dynamic-ntk\` are not tried beyond 4096.

For comparison, of the paper's models: 93.9, 90.5 and 87.1 at 1M, 2M and 4M tokens of single needles
(NeedleBench), and 15 for look-alike UUIDs at 16K (RULER's multi-key-3), where dynamic NTK has 95.

${sections.join("\n\n")}
`,
);
console.log(`\nwrote ${target} after ${formatSeconds((performance.now() - began) / 1000)}`);

function toMarkdown([header, ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(header!), line(header!.map(() => "---")), ...rows.map(line)].join("\n");
}
