// What only the wasm backend promises: the same bits on any number of threads and wherever things are, kernels
// that can be handed in, a process that ends.

import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Backend, KvStore, Tensor } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";
import { BackendUnavailableError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import type { ScopeConfig } from "../src/reattention/scope.ts";
import { compileKernels, hasRelaxedSimd } from "../wasm/loader.ts";
import { append, randomWeight, storeOf, tensorOf } from "./support/handles.ts";
import { integers, uniform } from "./support/random.ts";
import { computeAll, CONFIG, FORMATS, KV_FORMATS, SHAPE } from "./support/wasm_layer.ts";

const canShare = typeof SharedArrayBuffer === "function" && typeof Worker === "function";
const threadsSkip = { skip: !canShare && "this host has no shared memory or no workers" };
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

test("an f16 value beyond f16's range shows in its dimension alone, for a few rows", async () => {
  using backend = await openBackend("wasm", { threads: 1 });
  const length = 450;
  for (const group of [1, 2, 3, 4, 5]) {
    for (const headDim of [6, 16, 20]) {
      const shape = { numHeads: group, numKvHeads: 1, headDim };
      const attended = async (odd: number): Promise<number[]> => {
        const values = uniform(2, length * headDim);
        values[401 * headDim + 3] = odd;
        const options = { format: "i16", chunkSize: 64 } as const;
        using store = storeOf(backend, shape, options, uniform(1, values.length), values);
        using query = tensorOf(backend, 1, group * headDim, uniform(3, group * headDim));
        using out = backend.tensor(1, group * headDim);
        const scope = { globalEnd: length, localStart: length, length };
        backend.attend(out, query, store, 0, scope, null, createRope(1e4, headDim), "scope");
        return [...await backend.read(out)];
      };
      // Finite values are decoded elsewhere than infinite ones: to the same bits.
      const expected = await attended(0);
      for (const odd of [Infinity, -1e6, NaN]) {
        const shown = Math.abs(odd) > 65504 ? Math.sign(odd) * Infinity : odd;
        const wanted = expected.map((value, i) => i % headDim === 3 ? shown : value);
        deepEqual(await attended(odd), wanted, `${group} heads of ${headDim}, ${odd}`);
      }
    }
  }
});

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
  const fill = (cache: KvStore) => {
    for (let layer = 0; layer < 3; layer++) {
      const [key, value] = [uniform(layer + 1, 20 * 256), uniform(layer + 9, 20 * 256)];
      append(backend, cache, layer, 0, key, value, 20);
    }
  };
  fill(store);
  const bytes = new Uint8Array(store.chunkBytes);
  store.readChunk(bytes, 0, 20);
  using small = backend.kvStore(store.shape);
  small.reserve(20);
  fill(small);
  const same = new Uint8Array(small.chunkBytes);
  small.readChunk(same, 0, 20);
  deepEqual(bytes, same);
});

// --- calls ---

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
