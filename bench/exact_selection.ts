/**
 * Compares selection with sums in float64 over all keys, for 10,000 queries that the embedded model asks while it
 * reads a text.
 *
 *     deno run -A bench/exact_selection.ts ../shared/text/war-and-peace.txt 16384
 *     bun bench/exact_selection.ts ../shared/text/war-and-peace.txt 16384
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { openBackend } from "../mod.ts";
import { checkSelection } from "./support/exactness.ts";

const [path, length = "16384"] = process.argv.slice(2);
if (path === undefined) throw new TypeError("Cannot start: a text file must be given, got none");
using backend = await openBackend("wasm");
const text = readFileSync(path, "utf8").slice(0, Number(length) * 4);
const began = performance.now();
const { queries, equal, tied, keys } = await checkSelection(backend, {
  tokens: (model) => model.tokenizer.encode(text).subarray(0, Number(length)),
  // 64 rows, 2 layers and 2 KV heads a step: 40 steps are 10,240 queries.
  stride: Math.max(1, Math.floor(Number(length) / 64 / 40)),
});
console.log(
  `${backend.description}: ${queries} queries over up to ${keys} keys; ${equal} picked what float64 picks, ` +
    `${tied} others where two scores are closer than f32 tells apart, ${
      queries - equal - tied
    } wrong; ` +
    `${Math.round((performance.now() - began) / 1000)} s`,
);
if (equal + tied < queries) process.exitCode = 1;
