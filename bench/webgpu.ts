/**
 * WebGPU on this machine: products at the shapes of a real model, a selection over many keys, whole models with
 * random weights; on request beside the wasm backend. One command on a machine with a GPU gives the table:
 *
 *     deno run -A bench/webgpu.ts                                    # kernels, and Llama-3.2-1B in q8_0
 *     deno run -A bench/webgpu.ts --model Llama-3.1-8B:q4_k --keys 4M --bandwidth 4800 --cpu
 *     bun bench/webgpu.ts                                            # with npm webgpu installed
 *
 * `--bandwidth` is the device's memory in GB/s, of which shares are given then. `--model none` leaves models out.
 * `--allow-software` is for trying the script, with a small `--size`, `--rounds` and model: its figures say nothing.
 */
import { parseArgs } from "node:util";
import type { Backend, Weight } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";
import { fitScope } from "../src/reattention/scope.ts";
import { loadModel } from "../mod.ts";
import { parseCount } from "../src/cli/args.ts";
import { type ShapeName, SHAPES } from "./shapes.ts";
import { ROOT } from "./support/machine.ts";
import { poolWeight } from "./support/numbers.ts";
import type { Format } from "./support/quantize.ts";
import { randomTokens, readTokens } from "./support/steps.ts";
import { writeSyntheticModel } from "./synthetic_model.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: "Llama-3.2-1B:q8_0" },
    keys: { type: "string", default: "1M" },
    bandwidth: { type: "string" },
    size: { type: "string", default: "8192x2048" },
    rounds: { type: "string", default: "5" },
    cpu: { type: "boolean", default: false },
    "allow-software": { type: "boolean", default: false },
  },
});
const bandwidth = flags.bandwidth === undefined ? null : Number(flags.bandwidth);

/** Seconds of one run, the shortest of several; each but the first is a batch that is waited for once. */
async function time(
  backend: Backend,
  run: () => void | Promise<void>,
  batch: number,
): Promise<number> {
  await run();
  await backend.sync();
  let best = Infinity;
  for (let round = 0; round < Number(flags.rounds); round++) {
    const start = performance.now();
    for (let i = 0; i < batch; i++) await run();
    await backend.sync();
    best = Math.min(best, (performance.now() - start) / 1000 / batch);
  }
  return best;
}

function say(name: string, value: number, unit: string, bytesPerSecond?: number): void {
  const share = bandwidth !== null && bytesPerSecond !== undefined
    ? `  ${(bytesPerSecond / 1e7 / bandwidth).toFixed(1)} % of ${bandwidth} GB/s`
    : "";
  console.log(`${name.padEnd(56)}${value.toPrecision(4).padStart(10)} ${unit}${share}`);
}

/** One row, which is memory's speed, and 512 of them, which is arithmetic's. */
async function products(backend: Backend): Promise<void> {
  const [rows, cols] = flags.size.split("x").map(Number) as [number, number];
  for (const format of ["f16", "q8_0", "q4_0", "q4_k"] as const) {
    const { source } = poolWeight(format, rows, cols);
    // Several, so that none stays in a cache of the device.
    const weights: Weight[] = [];
    for (let i = 0; i < 8; i++) weights.push(await backend.weight(source));
    const bytes = weights[0]!.byteLength;
    for (const tokens of [1, 512]) {
      using x = backend.tensor(tokens, cols);
      using out = backend.tensor(tokens, rows);
      backend.write(x, new Float32Array(tokens * cols).fill(0.5));
      let next = 0;
      const seconds = await time(backend, () => {
        backend.matmul(out, x, weights[next++ % 8]!);
      }, tokens === 1 ? 64 : 8);
      const name = `${backend.name}: ${format} ${rows} x ${cols}, ${tokens} rows`;
      if (tokens === 1) say(name, bytes / seconds / 1e9, "GB/s", bytes / seconds);
      else say(name, 2 * rows * cols * tokens / seconds / 1e9, "GFLOPS");
    }
    for (const weight of weights) weight[Symbol.dispose]();
  }
}

/** A selection of one token over many keys, of a layer of Llama-3.2-1B: 32 heads, 8 for keys, of 64 numbers. */
async function scan(backend: Backend, keys: number): Promise<void> {
  const shape = { numLayers: 1, numHeads: 32, numKvHeads: 8, headDim: 64 };
  using store = backend.kvStore(shape);
  const step = 4096;
  using block = backend.tensor(step, 512);
  backend.write(block, Float32Array.from({ length: step * 512 }, () => Math.random() - 0.5));
  for (let start = 0; start < keys; start += step) {
    store.reserve(start + step);
    backend.append(store, 0, start, block, block);
    await backend.sync();
  }
  const config = fitScope(8192);
  const scope = { globalEnd: config.globalSize, localStart: keys - config.localSize, length: keys };
  for (const rows of [1, 32]) {
    using query = backend.tensor(rows, 2048);
    backend.write(query, Float32Array.from({ length: rows * 2048 }, () => Math.random() - 0.5));
    const seconds = await time(
      backend,
      () => void backend.select(store, 0, query, scope, config),
      4,
    );
    const bytes = keys * 8 * (64 * 2 + 4);
    say(
      `${backend.name}: select among ${keys} keys, ${rows} rows of 32 heads`,
      seconds * 1000,
      "ms",
      bytes / seconds,
    );
  }
}

/** Reading in steps of 512, and writing token by token, beside 4,096 tokens that were read. */
async function model(backend: Backend, wanted: string): Promise<void> {
  const [shape, format] = wanted.split(":") as [ShapeName, Format];
  if (!(shape in SHAPES)) {
    throw new RangeError(
      `Cannot time a model: it must be one of ${Object.keys(SHAPES).join(", ")}, got "${shape}"`,
    );
  }
  const folder = `${ROOT}.tools/models`;
  const path = await writeSyntheticModel({ shape, format, container: "gguf", folder });
  const start = performance.now();
  using loaded = await loadModel(path, { backend });
  const title = `${backend.name}: ${shape} in ${format}`;
  say(`${title}, load`, loaded.weightBytes / 1e9 / ((performance.now() - start) / 1000), "GB/s");
  const scope = fitScope(8192);
  using read = await readTokens(loaded, 4096, scope);
  const { llama, config } = loaded;
  const { cache } = read;
  const forward = async (tokens: number, wantsHidden: boolean) => {
    const { length } = cache;
    const hidden = await llama.forward(randomTokens(loaded, tokens, 1), cache, {
      scope,
      selects: wantsHidden,
      wantsHidden,
    });
    cache.truncate(length);
    return hidden;
  };
  say(
    `${title}, read 512 tokens`,
    512 / await time(backend, async () => void await forward(512, false), 1),
    "tokens/s",
  );
  using out = backend.tensor(1, config.vocabSize);
  let best = Infinity;
  for (let i = 0; i < 12; i++) {
    const began = performance.now();
    llama.logits(out, await forward(1, true));
    await backend.read(out);
    best = Math.min(best, (performance.now() - began) / 1000);
  }
  say(`${title}, write`, 1 / best, "tokens/s", loaded.weightBytes / best);
}

const backends: (() => Promise<Backend>)[] = [
  () => openBackend("webgpu", { allowSoftware: flags["allow-software"], memoryLimit: 2 ** 40 }),
  ...flags.cpu ? [() => openBackend("wasm", { memoryLimit: 2 ** 36 })] : [],
];
for (const open of backends) {
  using backend = await open();
  console.log(backend.description);
  await products(backend);
  await scan(backend, parseCount(flags.keys));
  if (flags.model !== "none") await model(backend, flags.model);
}
