/**
 * One reading that goes on: a seeded text streams through the embedded model, and at each length three facts,
 * at depths 0.1, 0.5 and 0.9 of what was read by then, are asked for. What reading, asking and memory cost is
 * written down at each.
 *
 *     deno task endless --lengths 16K,64K,256K,1M
 *     bun bench/endless.ts --lengths 16K,1M,4M,10M --cache-bytes 11G --memory-limit 14G --spill /tmp
 *
 * With --json every length is a line; the lines of several runs are a picture of cost by length:
 *
 *     deno task endless --json > cost.jsonl
 *     bun bench/endless.ts --json >> cost.jsonl
 *     deno task picture cost cost.jsonl --out cost.svg
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { loadModel, openBackend } from "../mod.ts";
import { createNeedles, type Needle, writeHaystack } from "../src/eval/haystack.ts";
import { peakMemoryBytes } from "../src/system/system.ts";

const DEPTHS = [0.1, 0.5, 0.9];

const { values: flags } = parseArgs({
  options: {
    lengths: { type: "string", default: "16K,64K,256K,1M" },
    seed: { type: "string", default: "1" },
    select: { type: "string", default: "ask" },
    selector: { type: "string", default: "exact" },
    "select-layers": { type: "string" },
    "cache-bytes": { type: "string" },
    "memory-limit": { type: "string", default: "4G" },
    spill: { type: "string" },
    threads: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** 16K is 16,384 tokens, 4G are 2^32 bytes; 10M tokens are 10,000,000, as people mean it. */
function size(text: string, thousand: number): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)([KMG]?)$/.exec(text) ?? [];
  if (digits === undefined) {
    throw new RangeError(`Cannot start: a size like 64K must be given, got "${text}"`);
  }
  return Number(digits) * thousand ** " KMG".indexOf(unit || " ");
}

const lengths = flags.lengths.split(",").map((text) =>
  size(text, text.endsWith("K") ? 1024 : 1000)
);

/** Facts of one length, in the order in which they come. */
interface Stop {
  readonly length: number;
  readonly facts: { readonly at: number; readonly needle: Needle }[];
}

const keys = createNeedles(
  lengths.flatMap(() => DEPTHS.map(() => "magic" as const)),
  Number(flags.seed),
);
const stops: Stop[] = lengths.map((length, i) => ({
  length,
  facts: DEPTHS.map((depth, j) => ({ at: depth * length, needle: keys[i * DEPTHS.length + j]! })),
}));
const waiting = stops.flatMap(({ facts }) => facts).sort((a, b) => a.at - b.at);

using backend = await openBackend("wasm", {
  memoryLimit: size(flags["memory-limit"], 1024),
  ...flags.threads === undefined ? {} : { threads: Number(flags.threads) },
});
using model = await loadModel(undefined, { backend });
const layers = flags["select-layers"];
using session = model.session({
  select: flags.select as "ask" | "always" | "never",
  scope: { selector: flags.selector as "exact" | "blockmax" },
  ...layers === undefined
    ? {}
    : { selectLayers: layers === "all" ? layers : layers.split(",").map(Number) },
  ...flags["cache-bytes"] === undefined ? {} : { cacheBytes: size(flags["cache-bytes"], 1024) },
  ...flags.spill === undefined ? {} : { spill: flags.spill },
});
const writer = session.writable().getWriter();
const runtime = "Deno" in globalThis ? "Deno" : "Bun" in globalThis ? "Bun" : "Node";
if (!flags.json) {
  console.log(`${runtime}, ${backend.description}, selection ${flags.select}, ${flags.selector}`);
  console.log(
    "    tokens  tokens/s here   overall  first text  question  right  memory MiB  spilled",
  );
}

let reading = 0; // ms
let [lastLength, lastReading] = [0, 0];
let right = 0;
let next = 0;
const endless = { seed: Number(flags.seed), length: Number.MAX_SAFE_INTEGER };
for (const { text } of writeHaystack(endless)) {
  let piece = text;
  // What was read so far is known to a step; the encoder holds back a few tokens.
  while (waiting.length > 0 && session.length >= waiting[0]!.at) {
    piece += waiting.shift()!.needle.sentence;
  }
  const start = performance.now();
  await writer.write(piece);
  reading += performance.now() - start;
  const stop = stops[next]!;
  if (session.length < stop.length) continue;
  await ask(stop);
  [lastLength, lastReading] = [session.length, reading];
  if (++next === stops.length) break;
}
await writer.close();
const asked = stops.length * DEPTHS.length;
if (!flags.json) console.log(`${right} of ${asked} right`);
process.exitCode = right === asked ? 0 : 1;

/** Asks for the facts of a length on forks, and tells what it cost. */
async function ask({ facts }: Stop): Promise<void> {
  const seconds: number[] = [];
  const firsts: number[] = [];
  let here = 0;
  for (const { needle } of facts) {
    using fork = session.fork();
    const start = performance.now();
    let answer = "";
    let first = 0;
    for await (const text of fork.ask(needle.question, { maxTokens: 16 })) {
      first ||= performance.now() - start;
      answer += text;
    }
    seconds.push((performance.now() - start) / 1000);
    firsts.push(first / 1000);
    if (answer.includes(needle.answer)) here++;
    else console.error(`${needle.key}: "${needle.answer}" wanted, got "${answer}"`);
  }
  right += here;
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const row = {
    runtime,
    selector: `${flags.select}, ${flags.selector}${
      layers === undefined ? "" : `, layers ${layers}`
    }`,
    tokens: session.length,
    tokensPerSecondHere: (session.length - lastLength) / (reading - lastReading) * 1000,
    tokensPerSecond: session.length / reading * 1000,
    firstTextSeconds: mean(firsts),
    questionSeconds: mean(seconds),
    right: here,
    of: facts.length,
    peakMemoryBytes: peakMemoryBytes(),
    cacheBytes: session.stats.cacheBytes,
    spilledTokens: session.stats.spilledTokens,
  };
  if (flags.json) return console.log(JSON.stringify(row));
  console.log([
    row.tokens.toLocaleString("en-US").padStart(10),
    Math.round(row.tokensPerSecondHere).toLocaleString("en-US").padStart(14),
    Math.round(row.tokensPerSecond).toLocaleString("en-US").padStart(9),
    `${row.firstTextSeconds.toFixed(2)} s`.padStart(11),
    `${row.questionSeconds.toFixed(2)} s`.padStart(9),
    `${here} of ${facts.length}`.padStart(6),
    Math.round(row.peakMemoryBytes / 2 ** 20).toLocaleString("en-US").padStart(11),
    row.spilledTokens.toLocaleString("en-US").padStart(11),
  ].join(" "));
}
