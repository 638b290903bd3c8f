// What the wasm backend holds: all of it is given back, none of it passes the limit, and where that is, it is said.

import { deepEqual, equal, match, notDeepEqual, ok, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import type { KvStore, WeightSource } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import { append, randomWeight, storeOf, tensorOf } from "./support/handles.ts";
import { uniform } from "./support/random.ts";
import { computeAll, SHAPE } from "./support/wasm_layer.ts";

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

/** Blocks begin at multiples of 64 bytes. */
function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}
