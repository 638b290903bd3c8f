/**
 * Perplexity of the embedded model on a text it never saw, read by ReAttention, by sinks + window,
 * and by full attention beyond the trained length, against its own value within that length.
 *
 *     deno run -A bench/perplexity.ts ../shared/text/war-and-peace.txt 16384
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { loadModel } from "../mod.ts";
import { perplexities } from "./support/perplexity.ts";

const [path, length = "16384", scored = "4096"] = process.argv.slice(2);
if (path === undefined) {
  throw new TypeError("Cannot start: a text file must be given, got none");
}
using model = await loadModel();
const began = performance.now();
const tokens = model.tokenizer.encode(
  readFileSync(path, "utf8").slice(500_000, 500_000 + Number(length) * 4),
);
for (
  const { method, perplexity, context } of await perplexities(
    model,
    tokens.subarray(0, Number(length)),
    Number(scored),
  )
) {
  console.log(
    `${method.padEnd(44)} ${context.padEnd(24)} ${perplexity.toFixed(2)}`,
  );
}
console.log(
  `${((performance.now() - began) / 1000).toFixed(1)} s, ${model.backend.description}`,
);
