/**
 * Every architecture in every format against native llama.cpp on the same file of random weights: how
 * far the two expectations of the next token are apart, and whether the likeliest token is the same.
 * Writes a table in Markdown.
 *
 *     deno run -A bench/architectures.ts
 *     bun bench/architectures.ts qwen3 internlm2
 *
 * Needs node-llama-cpp: bench/install_peers.ts. Words pick the models that have one of them in their
 * name.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { runtimeName } from "../src/system/system.ts";
import {
  type Agreement,
  agreementOf,
  FORMATS,
  LONG_TEXT,
  mostDivergence,
  POSITIONS,
} from "../tests/support/agreement.ts";
import { BLOCK_MODELS } from "../tests/support/small_models.ts";
import { type LlamaCpp, openLlamaCpp } from "./peers/llama_cpp.ts";
import { writeSyntheticModel } from "./synthetic_model.ts";

const words = process.argv.slice(2).map((word) => word.toLowerCase());
const models = BLOCK_MODELS.filter(({ name }) =>
  words.length === 0 || words.some((word) => name.toLowerCase().includes(word))
);
const folder = await mkdtemp(join(tmpdir(), "reattention-bench-"));
let llamaCpp: LlamaCpp | null = null;
try {
  const rows: string[] = [];
  let clear = 0;
  let wrong = 0;
  for (const shape of models) {
    const length = shape.ropeScaling === undefined ? POSITIONS : LONG_TEXT;
    const cells: string[] = [];
    for (const format of FORMATS) {
      if (llamaCpp === null) {
        const first = { shape, format, container: "gguf", folder, outputNorm: 1 } as const;
        llamaCpp = await openLlamaCpp(await writeSyntheticModel(first), LONG_TEXT + 8, 1, true);
      }
      if (llamaCpp === null) throw new Error("Cannot compare: native llama.cpp must run here");
      const found = await agreementOf(llamaCpp, shape, format, { folder, length });
      clear += found.clear;
      if (found.sameOfClear < found.clear || found.mean >= mostDivergence(format)) wrong++;
      cells.push(cellOf(found));
    }
    rows.push(`| ${shape.name} | ${length} | ${cells.join(" | ")} |`);
    console.error(rows.at(-1));
  }
  console.log(`${runtimeName()} against ${llamaCpp?.name}, ${POSITIONS} positions a cell:\n`);
  const header = ["model", "tokens", ...FORMATS.map((format) => format.toUpperCase())];
  console.log(`| ${header.join(" | ")} |\n| ${header.map(() => "---").join(" | ")} |`);
  console.log(rows.join("\n"));
  console.log(
    `\nMean divergence in nats; positions of ${POSITIONS} with the same likeliest token. Where that leads ` +
      `by more than rounding can make up for, in ${clear} positions, it is the same in all of them ` +
      `and all means are below their bounds in ${models.length * FORMATS.length - wrong} of ` +
      `${models.length * FORMATS.length} cells.`,
  );
  if (wrong > 0) process.exitCode = 1;
} finally {
  await llamaCpp?.close();
  await rm(folder, { recursive: true });
}

function cellOf({ mean, same, clear, sameOfClear }: Agreement): string {
  const missed = sameOfClear < clear ? `, ${clear - sameOfClear} clear ones missed` : "";
  return `${mean.toExponential(1)}; ${same}${missed}`;
}
