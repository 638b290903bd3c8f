/**
 * What loading takes beside the weights themselves: writes models of some layers of Llama-3.2-1B's
 * shape, with few tokens and with its own vocabulary, loads each in a process of its own, in Deno and in
 * Bun, and compares the most memory that the process ever held with what the weights occupy.
 *
 *     deno run -A bench/load_memory.ts [FOLDER]
 *
 * The models stay in the folder, if one is given, and are written once: 2 GB.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { loadModel } from "../mod.ts";
import { peakMemoryBytes, runtimeName } from "../src/system/system.ts";
import { bun, DENO, run } from "../scripts/tools.ts";
import { SHAPES } from "./shapes.ts";
import type { Format } from "./support/quantize.ts";
import { writeSyntheticModel } from "./synthetic_model.ts";

const MEBIBYTE = 2 ** 20;
/** What loading may take beside the weights and the runtime itself. */
const ALLOWED_MEBIBYTES = 64;

const CASES: readonly (readonly [format: Format, container: "gguf" | "safetensors"])[] = [
  ["q4_k", "gguf"],
  ["q8_0", "gguf"],
  ["f16", "safetensors"],
];

/** What a process took. */
interface Taken {
  readonly runtime: string;
  /** Before loading: the runtime and the library's code. */
  readonly before: number;
  readonly peak: number;
  readonly weights: number;
}

/** Loads a model, and says what that took. */
async function measure(path: string): Promise<void> {
  const before = peakMemoryBytes();
  using model = await loadModel(path, { threads: 1 });
  const taken: Taken = {
    runtime: runtimeName(),
    before,
    peak: peakMemoryBytes(),
    weights: model.weightBytes,
  };
  console.log(JSON.stringify(taken));
}

async function compare(folder: string): Promise<void> {
  const script = fileURLToPath(import.meta.url);
  const columns = [
    "tokens",
    "weights in",
    "runtime",
    "weights",
    "peak",
    "runtime alone",
    "beside both",
    "allowed",
  ];
  console.log(`| ${columns.join(" | ")} |\n| ${columns.map(() => "---").join(" | ")} |`);
  const llama = SHAPES["Llama-3.2-1B"];
  const shapes = [
    { ...llama, numLayers: 3, vocabSize: 1024, name: "few-tokens" },
    { ...llama, numLayers: 2, name: "Llama-3.2-1B" },
  ];
  const cases = shapes.flatMap((shape) => CASES.map((each) => [shape, ...each] as const));
  for (const [shape, format, container] of cases) {
    const path = await writeSyntheticModel({ shape, format, container, folder });
    for (const [command, ...args] of [[DENO, "run", "-A"], [await bun()]] as const) {
      const { code, output } = await run(command, [...args, script, "--measure", path], {
        quiet: true,
      });
      if (code !== 0) throw new Error(`Cannot load ${path} in ${command}: ${output}`);
      const { runtime, before, peak, weights } = JSON.parse(output) as Taken;
      const cells = [weights, peak, before, peak - weights - before]
        .map((bytes) => `${Math.round(bytes / MEBIBYTE)} MiB`);
      console.log(
        `| ${shape.vocabSize} | ${format.toUpperCase()}, ${container} | ${runtime} | ${
          cells.join(" | ")
        } | ` +
          `${ALLOWED_MEBIBYTES} MiB |`,
      );
    }
  }
}

const [first, second] = process.argv.slice(2);
if (first === "--measure") await measure(second!);
else if (first !== undefined) await compare(first);
else {
  const folder = await mkdtemp(join(tmpdir(), "reattention-bench-"));
  try {
    await compare(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
