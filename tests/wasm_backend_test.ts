// What only the wasm backend promises: the same bits on any number of threads, memory that is given
// back and has a limit, kernels that can be handed in, a process that ends.

import { deepEqual, equal, match, notDeepEqual, ok, rejects, throws } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Backend, KvStore, Tensor, WeightSource } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";
import { BackendUnavailableError, OutOfMemoryError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import { fitScope, type Scope, type ScopeConfig } from "../src/reattention/scope.ts";
import { compileKernels, hasRelaxedSimd } from "../wasm/loader.ts";
import { append, randomWeight, storeOf, tensorOf } from "./support/handles.ts";
import { integers, uniform } from "./support/random.ts";

const canShare = typeof SharedArrayBuffer === "function" && typeof Worker === "function";
const threadsSkip = { skip: !canShare && "this host has no shared memory or no workers" };
const FORMATS = ["f32", "f16", "bf16"] as const;
const KV_FORMATS = ["f32", "i16"] as const;

/** A layer whose rows are few and odd enough to need all the padding there is. */
const SHAPE = { numHeads: 6, numKvHeads: 2, headDim: 10 };

const CONFIG: ScopeConfig = {
  ...fitScope(512),
  globalSize: 3,
  localSize: 20,
  topK: 2,
  maxSpans: 5,
  spanSize: 4,
};

/** What a layer computes, all of it: one array a verb. */
async function computeAll(backend: Backend, tokens = 300, rows = 19): Promise<Float32Array[]> {
  const results: Float32Array[] = [];
  const cols = SHAPE.numHeads * SHAPE.headDim;
  const kvCols = SHAPE.numKvHeads * SHAPE.headDim;
  using x = tensorOf(backend, rows, cols, uniform(1, rows * cols));
  for (const format of FORMATS) {
    using weight = await backend.weight(randomWeight(2, format, 500, cols).source);
    using out = backend.tensor(rows, 500);
    backend.matmul(out, x, weight);
    results.push(await backend.read(out));
    using one = backend.tensor(1, 500);
    backend.matmul(one, backend.rows(x, 4, 5), weight);
    results.push(await backend.read(one));
  }
  using gain = await backend.weight(randomWeight(3, "f16", 1, cols).source);
  using normed = backend.tensor(rows, cols);
  backend.rmsNorm(normed, x, gain, 1e-5);
  backend.swiGlu(normed, normed, x);
  backend.add(normed, normed, x);
  results.push(await backend.read(normed));
  for (const format of KV_FORMATS) {
    const [key, value] = [uniform(4, tokens * kvCols), uniform(5, tokens * kvCols)];
    using store = storeOf(backend, SHAPE, { format, chunkSize: 16 }, key, value, 37);
    const scope: Scope = { globalEnd: 3, localStart: tokens - Math.max(20, rows), length: tokens };
    for (const sharing of ["layer", "kvHead"] as const) {
      for (const selector of ["exact", "blockmax"] as const) {
        const config = { ...CONFIG, sharing, selector };
        const selection = backend.select(store, 0, x, scope, config);
        for (const list of await selection.tokens()) results.push(Float32Array.from(list));
        using out = backend.tensor(rows, cols);
        const rope = createRope(10000, SHAPE.headDim);
        for (const positions of ["scope", "sequence"] as const) {
          backend.attend(out, x, store, 0, scope, selection, rope, positions);
          results.push(await backend.read(out));
        }
      }
    }
  }
  ok(results.every((values) => values.every(Number.isFinite)), "a result is not finite");
  return results;
}

// --- threads ---

test("results have the same bits on 1, 2 and 3 threads", threadsSkip, async () => {
  using alone = await openBackend("wasm", { threads: 1 });
  // Long enough that every verb shares its work.
  const expected = await computeAll(alone, 9000, 70);
  for (const threads of [2, 3]) {
    using crew = await openBackend("wasm", { threads });
    match(crew.description, new RegExp(`, ${threads} threads$`));
    for (let i = 0; i < 3; i++) deepEqual(await computeAll(crew, 9000, 70), expected);
  }
});

test(
  "a few rows over a long scope have the same bits on 1, 2 and 3 threads",
  threadsSkip,
  async () => {
    const length = 6000;
    const attendAll = async (backend: Backend): Promise<Float32Array[]> => {
      const kvSize = length * SHAPE.numKvHeads * SHAPE.headDim;
      const options = { format: "i16", chunkSize: 256 } as const;
      using store = storeOf(backend, SHAPE, options, uniform(4, kvSize), uniform(5, kvSize));
      const results: Float32Array[] = [];
      for (const rows of [1, 2, 5, 6]) {
        const cols = SHAPE.numHeads * SHAPE.headDim;
        using query = tensorOf(backend, rows, cols, uniform(rows, rows * cols));
        using out = backend.tensor(rows, cols);
        const scope = { globalEnd: length, localStart: length, length };
        const rope = createRope(10000, SHAPE.headDim);
        backend.attend(out, query, store, 0, scope, null, rope, "scope");
        results.push(await backend.read(out));
      }
      return results;
    };
    using alone = await openBackend("wasm", { threads: 1 });
    const expected = await attendAll(alone);
    for (const threads of [2, 3]) {
      using crew = await openBackend("wasm", { threads });
      for (let i = 0; i < 3; i++) deepEqual(await attendAll(crew), expected);
    }
  },
);

test("workers that went for want of work come back", threadsSkip, async () => {
  using backend = await openBackend("wasm", { threads: 2 });
  using alone = await openBackend("wasm", { threads: 1 });
  const expected = await computeAll(alone, 2000, 70);
  deepEqual(await computeAll(backend, 2000, 70), expected);
  await new Promise((resolve) => setTimeout(resolve, 1300));
  for (let i = 0; i < 3; i++) {
    deepEqual(await computeAll(backend, 2000, 70), expected);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  // What ended them, and what they said then, is no failure to start.
  await new Promise((resolve) => setTimeout(resolve, 1300));
  match(backend.description, /2 threads$/);
});

test("a worker that comes while nobody listens has come", threadsSkip, async () => {
  using backend = await openBackend("wasm", { threads: 2 });
  await computeAll(backend, 2000, 70);
  await new Promise((resolve) => setTimeout(resolve, 1300));
  await computeAll(backend, 2000, 70);
  // As a step of a large model does; longer than a worker may take to start.
  for (const end = performance.now() + 5300; performance.now() < end;);
  await new Promise((resolve) => setTimeout(resolve, 50));
  match(backend.description, /2 threads$/);
});

test("a disposed backend can be followed by another, many times", threadsSkip, async () => {
  for (let i = 0; i < 8; i++) {
    using backend = await openBackend("wasm", { threads: 2 });
    await computeAll(backend, 100, 70);
  }
});

test("a process ends by itself, whether its backend was disposed or not", threadsSkip, () => {
  const open = fileURLToPath(new URL("../src/backend/open.ts", import.meta.url));
  for (const end of ["", "backend[Symbol.dispose]();"]) {
    const script = `
      import { openBackend } from ${JSON.stringify(open)};
      const backend = await openBackend("wasm", { threads: 2 });
      const x = backend.tensor(300, 300);
      const weight = await backend.weight({ name: "w", format: "f32", rows: 300, cols: 300, read: async () => {} });
      for (let i = 0; i < 10; i++) backend.matmul(x, x, weight);
      ${end}
      console.log("done");`;
    const isDeno = "Deno" in globalThis;
    const args = isDeno ? ["eval", "--ext=ts", script] : ["-e", script];
    const { stdout, stderr, status, signal } = spawnSync(process.execPath, args, {
      timeout: 30000,
      encoding: "utf8",
    });
    deepEqual({ stdout, status, signal }, { stdout: "done\n", status: 0, signal: null }, stderr);
  }
});

test("threads must be a count", async () => {
  for (const threads of [0, -1, 1.5, NaN, 1000]) {
    await rejects(openBackend("wasm", { threads }), RangeError);
  }
});

// --- which kernels ---

test("the description names the build and the threads", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  equal(
    backend.description,
    `wasm, ${hasRelaxedSimd() ? "relaxed" : "plain"} SIMD, 1 thread`,
  );
});

test("compiled kernels can be handed in, of either kind of memory", async () => {
  using own = await openBackend("wasm", { threads: 1 });
  const expected = await computeAll(own);
  for (const shared of canShare ? [false, true] : [false]) {
    for (const threads of shared ? [1, 2] : [1]) {
      const relaxed = hasRelaxedSimd();
      const module = await compileKernels({ relaxed, shared });
      using backend = await openBackend("wasm", { module, threads });
      deepEqual(await computeAll(backend), expected);
    }
  }
});

test(
  "kernels for one thread do not serve two, and the description says so",
  threadsSkip,
  async () => {
    const module = await compileKernels({ relaxed: false, shared: false });
    using backend = await openBackend("wasm", { module, threads: 2 });
    match(backend.description, /plain SIMD, 1 thread \(2 wanted/);
  },
);

test("a module that is not the kernels is refused", async () => {
  const module = await WebAssembly.compile(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
  await rejects(openBackend("wasm", { module, threads: 1 }), BackendUnavailableError);
});

// --- the same bits wherever things are ---

test("a row's product has the same bits whatever its company", async () => {
  using backend = await openBackend("wasm");
  for (const format of FORMATS) {
    for (const [cols, outputs] of [[64, 172], [172, 64], [63, 7], [256, 600]] as const) {
      using weight = await backend.weight(randomWeight(cols, format, outputs, cols).source);
      const x = uniform(outputs, 130 * cols);
      using all = tensorOf(backend, 130, cols, x);
      using out = backend.tensor(130, outputs);
      backend.matmul(out, all, weight);
      const expected = await backend.read(out);
      for (const [start, end] of [[0, 1], [129, 130], [3, 5], [10, 27], [1, 130]] as const) {
        using part = backend.tensor(end - start, outputs);
        backend.matmul(part, backend.rows(all, start, end), weight);
        deepEqual(await backend.read(part), expected.slice(start * outputs, end * outputs));
      }
    }
  }
});

for (const format of KV_FORMATS) {
  test(`equal ${format} keys tie exactly wherever they stand, and the earliest is picked`, async () => {
    using backend = await openBackend("wasm");
    const [cols, best] = [12, uniform(8, 12)];
    const shape = { numHeads: 3, numKvHeads: 1, headDim: cols };
    for (const tokens of [150, 1500]) {
      for (const first of [2, 7, 8, 15, 16, 63, 64, 65, 127, 128, 129, tokens - 30]) {
        const key = uniform(tokens, tokens * cols).map((x) => x / 4);
        for (let t = first; t < tokens; t += 1 + t % 5) key.set(best, t * cols);
        using store = storeOf(backend, shape, { format, chunkSize: 48 }, key, key, 100);
        for (const rows of [1, 2, 3, 5]) {
          // Every head of every row asks for the key itself.
          const query = Float32Array.from({ length: rows * 3 * cols }, (_, i) => best[i % cols]!);
          using q = tensorOf(backend, rows, 3 * cols, query);
          const scope = { globalEnd: 1, localStart: tokens - 1, length: tokens };
          for (const scores of ["qk", "qkv1", "qkv2"] as const) {
            for (const selector of ["exact", "blockmax"] as const) {
              const config = { ...CONFIG, scores, selector, topK: 1, maxSpans: 9, spanSize: 2 };
              const [picked] = await backend.select(store, 0, q, scope, config).tokens();
              deepEqual([...picked!], [first - 1, first], `first at ${first}`);
            }
          }
        }
      }
    }
  });

  test(`a query picks the same ${format} keys whatever its company`, async () => {
    using backend = await openBackend("wasm");
    const [tokens, rows] = [700, 17];
    const key = integers(3, tokens * 20, 3); // ties abound
    using store = storeOf(backend, SHAPE, { format, chunkSize: 64 }, key, key);
    using query = tensorOf(backend, rows, 60, integers(5, rows * 60, 3));
    const scope = { globalEnd: 5, localStart: 680, length: tokens };
    const config: ScopeConfig = { ...CONFIG, sharing: "kvHead", maxSpans: Infinity, spanSize: 2 };
    const pick = async (start: number, end: number) =>
      await backend.select(store, 0, backend.rows(query, start, end), scope, config).tokens();
    const union: Set<number>[] = [new Set(), new Set()];
    for (let r = 0; r < rows; r++) {
      (await pick(r, r + 1)).forEach((list, head) => list.forEach((t) => union[head]!.add(t)));
    }
    const all = await pick(0, rows);
    all.forEach((list, head) =>
      deepEqual([...list], [...union[head]!].sort((a, b) => a - b), `KV head ${head}`)
    );
  });
}

test("what memory held before changes nothing", async () => {
  using fresh = await openBackend("wasm", { threads: 1 });
  const expected = await computeAll(fresh);
  for (const junk of [NaN, 1e38, -Infinity]) {
    using backend = await openBackend("wasm", { threads: 1 });
    const blocks = [100_000, 2_000_000, 64, 4096, 300_000].map((length) =>
      tensorOf(backend, 1, length, new Float32Array(length).fill(junk))
    );
    for (const block of blocks) block[Symbol.dispose]();
    deepEqual(await computeAll(backend), expected);
  }
});

test("pointers above 2 GiB are as good as those below", async () => {
  using low = await openBackend("wasm", { threads: 1 });
  using high = await openBackend("wasm", { threads: 1 });
  // Untouched pages cost address space only.
  using _filler = high.tensor(1, 2 ** 29 + 2 ** 27);
  deepEqual(await computeAll(high), await computeAll(low));
});

test("weights and caches go on where one memory of 4 GiB ends", async () => {
  using backend = await openBackend("wasm", { threads: 1, memoryLimit: 13 * 2 ** 30 });
  const { byteLength } = backend;
  // 3 x 1.6 GB, of which nothing but the first rows is touched.
  using store = backend.kvStore({ numLayers: 3, numHeads: 2, numKvHeads: 2, headDim: 128 });
  store.reserve(1_550_000);
  ok(store.byteLength > 2 ** 32 + 2 ** 28, `${store.byteLength} bytes`);
  ok(backend.byteLength - byteLength >= store.byteLength);
  throws(
    () => store.reserve(4_200_000),
    /a layer's must be in one memory of at most 4294901760; keep the cache/,
  );
  for (let layer = 0; layer < 3; layer++) {
    append(
      backend,
      store,
      layer,
      0,
      uniform(layer + 1, 20 * 256),
      uniform(layer + 9, 20 * 256),
      20,
    );
  }
  const bytes = new Uint8Array(store.chunkBytes);
  store.readChunk(bytes, 0, 20);
  using small = backend.kvStore(store.shape);
  small.reserve(20);
  for (let layer = 0; layer < 3; layer++) {
    append(
      backend,
      small,
      layer,
      0,
      uniform(layer + 1, 20 * 256),
      uniform(layer + 9, 20 * 256),
      20,
    );
  }
  const same = new Uint8Array(small.chunkBytes);
  small.readChunk(same, 0, 20);
  deepEqual(bytes, same);
});

// --- memory ---

test("what is given back is held no longer, and is given out again", async () => {
  const memoryLimit = 6 * 2 ** 20;
  using backend = await openBackend("wasm", { threads: 1, memoryLimit });
  await computeAll(backend);
  const before = backend.byteLength;
  equal(before, 0);
  // Many times what fits at once, in ever different sizes and orders.
  const held: Disposable[] = [];
  for (let i = 0; i < 400; i++) {
    if (i % 3 === 0) held.push(await backend.weight(randomWeight(i, "f16", 20 + i, 33).source));
    else held.push(backend.tensor(1 + i * 7 % 64, 100 + i * 31 % 700));
    if (held.length > 12) held.splice(i * 5 % 12, 1)[0]![Symbol.dispose]();
  }
  ok(backend.byteLength > 0);
  for (const handle of held) {
    handle[Symbol.dispose]();
    handle[Symbol.dispose]();
  }
  equal(backend.byteLength, before);
  using _all = backend.tensor(1, 2 ** 20);
});

test("chunks of forks, truncations and disposed stores are given back", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  const store = backend.kvStore({ numLayers: 2, ...SHAPE }, { chunkSize: 32 });
  const channels = backend.byteLength;
  const chunkBytes = 32 * store.bytesPerToken;
  const lengths = [0, 1, 31, 32, 33, 64, 65, 100];
  for (const length of lengths) {
    store.reserve(length);
    equal(store.byteLength, Math.ceil(length / 32) * chunkBytes);
  }
  equal(backend.byteLength, channels + 4 * chunkBytes);
  const forks: KvStore[] = lengths.map((length) => store.fork(length));
  forks.forEach((fork, i) => equal(fork.byteLength, Math.ceil(lengths[i]! / 32) * chunkBytes));
  equal(backend.byteLength, 4 * chunkBytes + (1 + forks.length) * channels);
  // Where a fork goes on, its partial last chunk becomes its own.
  forks.forEach((fork, i) => fork.reserve(Math.ceil(lengths[i]! / 32) * 32));
  equal(backend.byteLength, 4 * chunkBytes + 5 * chunkBytes + (1 + forks.length) * channels);
  store.truncate(33);
  equal(store.byteLength, 2 * chunkBytes);
  store.truncate(0);
  store[Symbol.dispose]();
  store[Symbol.dispose]();
  for (const fork of forks) fork[Symbol.dispose]();
  equal(backend.byteLength, 0);
});

test("writing after a truncation leaves a fork's past alone", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  const cols = SHAPE.numKvHeads * SHAPE.headDim;
  const old = uniform(1, 64 * cols);
  using store = storeOf(backend, SHAPE, { format: "f32", chunkSize: 32 }, old, old);
  using fork = store.fork(64);
  using query = tensorOf(backend, 1, 60, uniform(2, 60));
  const rope = createRope(10000, SHAPE.headDim);
  const attend = async (from: KvStore, length: number) => {
    using out = backend.tensor(1, 60);
    const scope = { globalEnd: length, localStart: length, length };
    backend.attend(out, query, from, 0, scope, null, rope, "scope");
    return await backend.read(out);
  };
  const before = await attend(fork, 64);
  store.truncate(40);
  throws(() => append(backend, store, 0, 40, old, old, 41), RangeError);
  store.reserve(45);
  append(backend, store, 0, 40, uniform(9, 64 * cols), old, 45);
  deepEqual(await attend(fork, 64), before);
  notDeepEqual(await attend(store, 45), await attend(fork, 45));
  deepEqual(await attend(store, 40), await attend(fork, 40));
});

test("memory that ends says how much was asked for, and harms nothing", async () => {
  const memoryLimit = 3 * 2 ** 20;
  using backend = await openBackend("wasm", { threads: 1, memoryLimit });
  using x = tensorOf(backend, 1, 100, uniform(1, 100));
  const before = backend.byteLength;
  const refuse = (action: () => unknown, requestedBytes: number, advice: RegExp) =>
    throws(action, (error) => {
      ok(error instanceof OutOfMemoryError);
      deepEqual([error.requestedBytes, error.limitBytes], [requestedBytes, memoryLimit]);
      match(error.message, advice);
      return true;
    });
  refuse(() => backend.tensor(1024, 1024), 2 ** 22, /shorter steps/);
  // More than 4 GiB, and more than 2^53.
  refuse(() => backend.tensor(2 ** 20, 2 ** 12), 2 ** 34, /shorter steps/);

  let reads = 0;
  const read = () => {
    reads++;
    return Promise.resolve();
  };
  const source: WeightSource = { name: "w", format: "f16", rows: 6000, cols: 600, read };
  await rejects(backend.weight(source), (error) => {
    ok(error instanceof OutOfMemoryError);
    match(error.message, /"w".*7200000 bytes.*smaller model/);
    return true;
  });
  equal(reads, 0);

  using store = backend.kvStore({ numLayers: 1, ...SHAPE }, { chunkSize: 256 });
  store.reserve(256);
  const held = backend.byteLength;
  const chunkBytes = 256 * store.bytesPerToken;
  // 391 chunks in all, asked for at once.
  refuse(() => store.reserve(100_000), 390 * chunkBytes, /i16/);
  equal(store.byteLength, chunkBytes);
  equal(backend.byteLength, held);
  store[Symbol.dispose]();
  equal(backend.byteLength, before);
  deepEqual(await backend.read(x), uniform(1, 100));
});

test("a weight is read once, in small windows, and several at a time do not disturb each other", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  const load = async (seed: number, rows: number, cols: number) => {
    const { source, values } = randomWeight(seed, "f32", rows, cols);
    let [next, largest] = [0, 0];
    const table = await backend.weight({
      ...source,
      async read(target, byteOffset) {
        equal(byteOffset, next);
        next += target.byteLength;
        largest = Math.max(largest, target.byteLength);
        // Other loads, and growing memory, come in between.
        await new Promise((resolve) => setTimeout(resolve, 1));
        await source.read(target, byteOffset);
      },
    });
    equal(next, rows * cols * 4);
    ok(largest <= 2 ** 20, `a window of ${largest} bytes`);
    using out = backend.tensor(3, cols);
    const tokens = Uint32Array.of(0, rows >> 1, rows - 1);
    backend.embed(out, table, tokens);
    const rowsOf = [...tokens].flatMap((t) => [...values.subarray(t * cols, (t + 1) * cols)]);
    deepEqual(await backend.read(out), Float32Array.from(rowsOf));
    return table;
  };
  const tables = await Promise.all([load(1, 3001, 501), load(2, 1, 70_000), load(3, 2000, 700)]);
  equal(backend.byteLength, tables.reduce((sum, { byteLength }) => sum + align(byteLength), 0));
  for (const table of tables) table[Symbol.dispose]();
  equal(backend.byteLength, 0);
});

test("a weight whose reading fails is given back", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  const read = () => Promise.reject(new Error("gone"));
  await rejects(
    backend.weight({ name: "w", format: "f16", rows: 9, cols: 9, read }),
    /gone/,
  );
  equal(backend.byteLength, 0);
});

test("16-bit weights take two bytes a number, padded to whole panels", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  for (const format of ["f16", "bf16"] as const) {
    using weight = await backend.weight(randomWeight(1, format, 600, 256).source);
    equal(weight.byteLength, 600 * 256 * 2);
    using odd = await backend.weight(randomWeight(1, format, 7, 5).source);
    equal(odd.byteLength, 12 * 8 * 2);
  }
});

test("a weight of one row multiplies like any other", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  const { source, values } = randomWeight(1, "f16", 1, 37);
  using weight = await backend.weight(source);
  using x = tensorOf(backend, 2, 37, uniform(2, 74));
  using out = backend.tensor(2, 1);
  backend.matmul(out, x, weight);
  const input = uniform(2, 74);
  const expected = [0, 1].map((r) => values.reduce((sum, w, i) => sum + w * input[r * 37 + i]!, 0));
  const actual = await backend.read(out);
  expected.forEach((sum, r) => ok(Math.abs(actual[r]! - sum) < 1e-5));
});

test("handles of another backend, and calls that make no sense, are refused", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  using other = await openBackend("wasm", { threads: 1 });
  using mine: Tensor = backend.tensor(1, 60);
  using theirs: Tensor = other.tensor(1, 60);
  throws(() => backend.add(mine, mine, theirs), TypeError);
  throws(() => backend.rows(mine, 1, 3), RangeError);
  throws(() => backend.tensor(-1, 4), RangeError);
  using store = backend.kvStore({ numLayers: 1, ...SHAPE }, { chunkSize: 16 });
  const rope = createRope(10000, SHAPE.headDim);
  const scope = { globalEnd: 20, localStart: 20, length: 20 };
  // Nothing is reserved, so nothing may be read.
  throws(() => backend.attend(mine, mine, store, 0, scope, null, rope, "scope"), RangeError);
  store.reserve(32);
  throws(() => backend.attend(mine, mine, store, 1, scope, null, rope, "scope"), RangeError);
  throws(
    () => backend.attend(mine, mine, store, 0, scope, null, createRope(10000, 4), "scope"),
    TypeError,
  );
  throws(() => backend.kvStore({ numLayers: 1, ...SHAPE }, { chunkSize: 24 }), RangeError);
  throws(() => backend.kvStore({ numLayers: 1, ...SHAPE, headDim: 7 }), RangeError);
  throws(() => backend.kvStore({ numLayers: 1, ...SHAPE, numKvHeads: 4 }), RangeError);
});

/** Blocks begin at multiples of 64 bytes. */
function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}
