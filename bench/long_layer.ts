/**
 * One attention layer of a large model over a long past: what storing a step, selecting from everything and
 * attending cost, for one token and for a step of 512, and whether the picks are the best keys in float64.
 *
 *     deno run -A bench/long_layer.ts
 *     bun bench/long_layer.ts --shape Llama-3.1-8B --tokens 1M --threads 1
 *
 * Keys are like real ones: heads have means far from zero, stretches of 64 tokens share a direction, and the
 * rest is noise. Queries look for stretches. All can be computed again from the token.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { createRope, fitScope, openBackend } from "../mod.ts";
import type { Backend, Selection } from "../src/backend/backend.ts";
import { planScope, type Scope } from "../src/reattention/scope.ts";
import { peakMemoryBytes } from "../src/system/system.ts";
import { type ShapeName, SHAPES } from "./shapes.ts";
import { mulberry32 } from "../src/llama/random.ts";
import { normals } from "./support/numbers.ts";

const { values: flags } = parseArgs({
  options: {
    shape: { type: "string", default: "Llama-3.1-8B" },
    tokens: { type: "string", default: "1M" },
    threads: { type: "string", default: "2" },
    trained: { type: "string", default: "8192" },
    json: { type: "boolean", default: false },
  },
});

const count = /^(\d+)([KM]?)$/.exec(flags.tokens);
if (count === null || !(flags.shape in SHAPES)) {
  throw new RangeError(
    `Cannot start: a shape of ${Object.keys(SHAPES).join(", ")} and tokens like 64K or 1M must ` +
      `be given, got ${flags.shape} and ${flags.tokens}`,
  );
}
const { numHeads, numKvHeads, headDim, ropeTheta } = SHAPES[flags.shape as ShapeName];
const shape = { numLayers: 1, numHeads, numKvHeads, headDim };
const KEY_COLS = numKvHeads * headDim;
const STEP = 512;
/** 1M are 1,000,000, in whole steps. */
const LENGTH = Math.floor(Number(count[1]) * 1000 ** " KM".indexOf(count[2] || " ") / STEP) * STEP;
/** Tokens that share a direction. */
const STRETCH = 64;
/** The paper's rule, and its sizes. */
const config = fitScope(Number(flags.trained));

const noise = normals(1_048_573, 1);
const means = normals(KEY_COLS, 2).map((x) => 2 * x);
const directions = Array.from({ length: 4093 }, (_, i) => normals(KEY_COLS, 3 + i));
const directionOf = (token: number) =>
  directions[Math.imul(Math.floor(token / STRETCH), 2654435761) >>> 4 & 4095] ?? directions[0]!;

/** out = keys of a token, all heads; values are the same noise from elsewhere. */
function keyOf(out: Float32Array, token: number): void {
  const direction = directionOf(token);
  let from = token * KEY_COLS % noise.length;
  for (let i = 0; i < KEY_COLS; i++) {
    out[i] = means[i]! + direction[i]! + noise[from]!;
    if (++from === noise.length) from = 0;
  }
}

const GIB = 2 ** 30;
using backend = await openBackend("wasm", {
  threads: Number(flags.threads),
  memoryLimit: 3 * GIB + LENGTH * KEY_COLS * 5,
});
using store = backend.kvStore(shape);
store.reserve(LENGTH);
using keys = backend.tensor(STEP, KEY_COLS);
using values = backend.tensor(STEP, KEY_COLS);
const block = new Float32Array(STEP * KEY_COLS);
let [filling, appending] = [0, 0]; // ms
for (let start = 0; start < LENGTH; start += STEP) {
  const began = performance.now();
  for (let i = 0; i < STEP; i++) {
    keyOf(block.subarray(i * KEY_COLS, (i + 1) * KEY_COLS), start + i);
  }
  backend.write(keys, block);
  for (let i = 0, from = start * 7; i < block.length; i++) block[i] = noise[from++ % noise.length]!;
  backend.write(values, block);
  const written = performance.now();
  backend.append(store, 0, start, keys, values);
  filling += written - began;
  appending += performance.now() - written;
}

const rope = createRope(ropeTheta, headDim);
const rows: Record<string, unknown>[] = [];
for (const queries of [1, STEP]) rows.push(await step(backend, queries));
if (flags.json) { for (const row of rows) console.log(JSON.stringify(row)); }
else {
  console.log(
    `${
      "Deno" in globalThis ? "Deno" : "Bun" in globalThis ? "Bun" : "Node"
    }, ${backend.description}`,
  );
  console.log(
    `${flags.shape}, one layer, ${LENGTH.toLocaleString("en-US")} tokens, ${
      (store.byteLength / GIB).toFixed(2)
    } GiB of cache; ${(appending / LENGTH * 1000).toFixed(2)} us a token to append; peak ${
      (peakMemoryBytes() / GIB).toFixed(2)
    } GiB`,
  );
  console.table(rows);
}
process.exitCode = rows.every(({ right, of }) => right === of) ? 0 : 1;

/** Selects and attends for the newest tokens; medians of three, after a first. */
async function step(backend: Backend, queries: number): Promise<Record<string, unknown>> {
  const cols = numHeads * headDim;
  const group = numHeads / numKvHeads;
  const random = mulberry32(queries);
  const asked = normals(queries * cols, 9);
  for (let row = 0; row < queries; row++) {
    // Neighbouring queries look for the same.
    const direction = directionOf(Math.floor(random() * 8) * (LENGTH >> 3));
    for (let head = 0; head < numHeads; head++) {
      const key = Math.floor(head / group) * headDim;
      for (let d = 0; d < headDim; d++) {
        asked[row * cols + head * headDim + d]! += direction[key + d]!;
      }
    }
  }
  using query = backend.tensor(queries, cols);
  using out = backend.tensor(queries, cols);
  backend.write(query, asked);
  const scope = planScope(config, LENGTH - queries, queries);
  const selecting: number[] = [];
  const attending: number[] = [];
  let selection: Selection | null = null;
  for (let i = 0; i < 4; i++) {
    const began = performance.now();
    selection = backend.select(store, 0, query, scope, config);
    const selected = performance.now();
    backend.attend(out, query, store, 0, scope, selection, rope, config.positions);
    selecting.push(selected - began);
    attending.push(performance.now() - selected);
    if (selecting[0]! > 20_000) break;
  }
  const [select, attend] = [median(selecting.slice(-3)), median(attending.slice(-3))];
  const operations = 2 * queries * cols * (scope.localStart - scope.globalEnd);
  const { right, of } = await check(backend, asked, scope);
  return {
    tokens: queries,
    "select ms": Number(select.toFixed(1)),
    "attend ms": Number(attend.toFixed(1)),
    "scan GFLOPS": Number((operations / select / 1e6).toFixed(1)),
    "key bytes scanned GB/s": Number(
      (numKvHeads * (headDim + 4) * (scope.localStart - scope.globalEnd) / select / 1e6).toFixed(2),
    ),
    right,
    of,
  };
}

/** How many of some queries' best keys, in float64, are selected when one query's heads select alone. */
async function check(
  backend: Backend,
  asked: Float32Array,
  scope: Scope,
): Promise<{ right: number; of: number }> {
  const cols = numHeads * headDim;
  const last = asked.slice(asked.length - cols);
  using query = backend.tensor(1, cols);
  backend.write(query, last);
  // Room for every pick, so that none is voted out.
  const roomy = { ...config, maxSpans: numHeads * config.topK };
  const selected = new Set((await backend.select(store, 0, query, scope, roomy).tokens())[0]);
  const key = new Float32Array(KEY_COLS);
  const group = numHeads / numKvHeads;
  const heads = [0, numHeads - 1];
  const best: { token: number; score: number }[][] = heads.map(() => []);
  for (let token = scope.globalEnd; token < scope.localStart; token++) {
    keyOf(key, token);
    for (const [i, head] of heads.entries()) {
      const at = Math.floor(head / group) * headDim;
      let score = 0;
      for (let d = 0; d < headDim; d++) score += last[head * headDim + d]! * key[at + d]!;
      const picks = best[i]!;
      if (picks.length === config.topK && score <= picks[config.topK - 1]!.score) continue;
      picks.push({ token, score });
      picks.sort((a, b) => b.score - a.score);
      picks.length = Math.min(picks.length, config.topK);
    }
  }
  const all = best.flat();
  return { right: all.filter(({ token }) => selected.has(token)).length, of: all.length };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
