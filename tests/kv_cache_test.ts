// What is kept of the tokens read: lengths, chunks, forks, and that nobody's past is anybody else's.

import { deepEqual, equal, notDeepEqual, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import type { Backend, KvStore, KvStoreOptions } from "../src/backend/backend.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { KvCache } from "../src/reattention/kv_cache.ts";
import { createRope } from "../src/reattention/rope.ts";
import { fitScope } from "../src/reattention/scope.ts";
import { backends } from "./support/long_test_backends.ts";
import { append, storeOf, tensorOf } from "./support/handles.ts";
import { outputOf } from "./support/outputs.ts";
import { uniform } from "./support/random.ts";

const CHUNK = 16;
const LENGTHS = [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 1];
const heads = { numHeads: 2, numKvHeads: 1, headDim: 4 };
const shape = { numLayers: 2, ...heads };
const options: KvStoreOptions = { format: "f32", chunkSize: CHUNK };
const rope = createRope(1e4, heads.headDim);

/** Random keys and values of 100 tokens: what a seed's sequence is. */
function sequence(seed: number): readonly [key: Float32Array, value: Float32Array] {
  return [uniform(seed, 100 * heads.headDim), uniform(seed + 1, 100 * heads.headDim)];
}

/** Reserves and appends tokens [start, end) of a seed's sequence to layer 0. */
function extend(backend: Backend, store: KvStore, seed: number, start: number, end: number): void {
  store.reserve(end);
  append(backend, store, 0, start, ...sequence(seed), end);
}

/** What attention and selection make of the first tokens: to the last bit, every key and value counts. */
async function contents(backend: Backend, store: KvStore, length: number, layer = 0) {
  using query = tensorOf(backend, 1, 8, uniform(99, 8));
  const all = { globalEnd: length, localStart: length, length };
  const output = await outputOf(
    backend,
    1,
    8,
    (out) => backend.attend(out, query, store, layer, all, null, rope, "scope"),
  );
  const config = { ...fitScope(512), topK: 3, maxSpans: 4, spanSize: 2 };
  const middle = { globalEnd: 0, localStart: length - 1, length };
  const selection = length > 1 ? backend.select(store, layer, query, middle, config) : null;
  return [output, await selection?.tokens()];
}

/** The contents of a new store with the first tokens of one sequence and the next of another. */
async function replayed(
  backend: Backend,
  first: readonly [seed: number, end: number],
  then?: readonly [seed: number, end: number],
) {
  using store = backend.kvStore(shape, options);
  extend(backend, store, first[0], 0, first[1]);
  if (then !== undefined) extend(backend, store, then[0], first[1], then[1]);
  return await contents(backend, store, (then ?? first)[1]);
}

for (const { label, open } of backends) {
  test(`${label}: a cache counts what is advanced and forgets what is truncated`, async () => {
    using backend = await open();
    using cache = new KvCache(backend.kvStore(shape, options));
    equal(cache.length, 0);
    cache.reserve(40);
    cache.advance(40);
    equal(cache.length, 40);
    cache.truncate(17);
    equal(cache.length, 17);
    cache.truncate(17);
    cache.truncate(0);
    equal(cache.length, 0);
  });

  test(`${label}: a cache refuses to truncate to what is not within it`, async () => {
    using backend = await open();
    using cache = new KvCache(backend.kvStore(shape, options));
    cache.reserve(10);
    cache.advance(10);
    for (const length of [11, -1, 1.5, NaN, Infinity]) {
      throws(() => cache.truncate(length), RangeError);
      equal(cache.length, 10);
    }
  });

  test(`${label}: a cache reserves behind its length, in whole chunks, and gives them back`, async () => {
    using backend = await open();
    using cache = new KvCache(backend.kvStore(shape, options));
    const chunks = () => cache.store.byteLength / (CHUNK * cache.store.bytesPerToken);
    equal(chunks(), 0);
    cache.reserve(1);
    equal(chunks(), 1);
    cache.advance(1);
    cache.reserve(15);
    equal(chunks(), 1);
    cache.reserve(16);
    equal(chunks(), 2);
    cache.reserve(47);
    cache.advance(47);
    equal(chunks(), 3);
    const kept = [33, 32, 17, 16, 1, 0].map((length) => {
      cache.truncate(length);
      return chunks();
    });
    deepEqual(kept, [3, 2, 2, 1, 1, 0]);
  });

  test(`${label}: a token costs its keys and values in all layers`, async () => {
    using backend = await open();
    using f32 = backend.kvStore(shape, { format: "f32" });
    using i16 = backend.kvStore({ numLayers: 3, numHeads: 8, numKvHeads: 4, headDim: 8 });
    if (backend.name === "reference") {
      equal(f32.bytesPerToken, 2 * 1 * 4 * (4 + 4));
      equal(i16.bytesPerToken, 3 * 4 * 8 * (4 + 2));
    } else {
      // Key, value; and a scale, of f32 also the upper bits of the key besides.
      equal(f32.bytesPerToken, 2 * 1 * (4 * (4 + 4) + 4 + 4));
      equal(i16.bytesPerToken, 3 * 4 * (8 * (2 + 2) + 4));
    }
    deepEqual([i16.format, i16.chunkSize], ["i16", 256]);
  });

  test(`${label}: a store refuses shapes and chunks that are none`, async () => {
    using backend = await open();
    throws(() => backend.kvStore({ ...shape, numHeads: 3, numKvHeads: 2 }), RangeError);
    throws(() => backend.kvStore({ ...shape, headDim: 5 }), RangeError);
    throws(() => backend.kvStore({ ...shape, numLayers: 0 }), RangeError);
    throws(() => backend.kvStore(shape, { chunkSize: 24 }), RangeError);
    throws(() => backend.kvStore(shape, { chunkSize: 0 }), RangeError);
  });

  test(`${label}: a store refuses appends to where nothing is reserved`, async () => {
    using backend = await open();
    using store = backend.kvStore(shape, options);
    store.reserve(CHUNK);
    throws(() => append(backend, store, 0, 10, ...sequence(1), CHUNK + 1), RangeError);
    throws(() => append(backend, store, 2, 0, ...sequence(1), 1), RangeError);
  });

  test(`${label}: a store holds the same however its tokens arrive`, async () => {
    using backend = await open();
    const [key, value] = sequence(1);
    using whole = storeOf(backend, heads, options, key, value);
    const expected = await contents(backend, whole, 100);
    for (const stepSize of [1, 3, 7, CHUNK - 1, CHUNK, CHUNK + 1, 64]) {
      using store = storeOf(backend, heads, options, key, value, stepSize);
      deepEqual(await contents(backend, store, 100), expected, `steps of ${stepSize}`);
    }
  });

  test(`${label}: layers do not share tokens`, async () => {
    using backend = await open();
    using store = backend.kvStore(shape, options);
    store.reserve(50);
    append(backend, store, 1, 0, ...sequence(7), 50);
    append(backend, store, 0, 0, ...sequence(1), 50);
    deepEqual(await contents(backend, store, 50, 0), await replayed(backend, [1, 50]));
    deepEqual(await contents(backend, store, 50, 1), await replayed(backend, [7, 50]));
  });

  test(`${label}: what comes after a truncation replaces what was there`, async () => {
    using backend = await open();
    for (const length of LENGTHS) {
      using store = backend.kvStore(shape, options);
      extend(backend, store, 1, 0, 60);
      store.truncate(length);
      extend(backend, store, 3, length, 70);
      deepEqual(await contents(backend, store, 70), await replayed(backend, [1, length], [3, 70]));
    }
  });

  test(`${label}: a fork and its origin go on without each other`, async () => {
    using backend = await open();
    for (const length of LENGTHS) {
      using store = backend.kvStore(shape, options);
      extend(backend, store, 1, 0, length);
      using fork = store.fork(length);
      using forkOfFork = fork.fork(length);
      extend(backend, fork, 3, length, 70);
      deepEqual(await contents(backend, store, length), await replayed(backend, [1, length]));
      extend(backend, store, 5, length, 65);
      extend(backend, forkOfFork, 7, length, 60);
      deepEqual(await contents(backend, store, 65), await replayed(backend, [1, length], [5, 65]));
      deepEqual(await contents(backend, fork, 70), await replayed(backend, [1, length], [3, 70]));
      deepEqual(
        await contents(backend, forkOfFork, 60),
        await replayed(backend, [1, length], [7, 60]),
      );
    }
  });

  test(`${label}: rewriting a chunk that a fork shares leaves the other's alone`, async () => {
    using backend = await open();
    for (const length of LENGTHS) {
      using store = backend.kvStore(shape, options);
      extend(backend, store, 1, 0, 50);
      using fork = store.fork(50);
      store.truncate(length);
      extend(backend, store, 3, length, 55);
      deepEqual(await contents(backend, fork, 50), await replayed(backend, [1, 50]));
      deepEqual(await contents(backend, store, 55), await replayed(backend, [1, length], [3, 55]));
      fork.truncate(5);
      extend(backend, fork, 5, 5, 50);
      deepEqual(await contents(backend, fork, 50), await replayed(backend, [1, 5], [5, 50]));
      deepEqual(await contents(backend, store, 55), await replayed(backend, [1, length], [3, 55]));
    }
  });

  test(`${label}: a fork of fewer tokens than there are holds only these`, async () => {
    using backend = await open();
    using store = backend.kvStore(shape, options);
    extend(backend, store, 1, 0, 60);
    for (const length of [0, ...LENGTHS]) {
      using fork = store.fork(length);
      extend(backend, fork, 3, length, 58);
      const expected = length === 0
        ? await replayed(backend, [3, 58])
        : await replayed(backend, [1, length], [3, 58]);
      deepEqual(await contents(backend, fork, 58), expected);
    }
    deepEqual(await contents(backend, store, 60), await replayed(backend, [1, 60]));
  });

  test(`${label}: a fork outlives its origin`, async () => {
    using backend = await open();
    const store = backend.kvStore(shape, options);
    extend(backend, store, 1, 0, 40);
    using fork = store.fork(40);
    store[Symbol.dispose]();
    // What is given back is used again.
    using other = backend.kvStore(shape, options);
    extend(backend, other, 3, 0, 90);
    deepEqual(await contents(backend, fork, 40), await replayed(backend, [1, 40]));
  });

  test(`${label}: a fork shares all chunks until one of the two goes on`, async () => {
    using backend = await open();
    const empty = backend.byteLength;
    using cache = new KvCache(backend.kvStore(shape, options));
    const channels = backend.byteLength - empty;
    cache.reserve(40);
    cache.advance(40);
    const before = backend.byteLength + channels;
    using fork = cache.fork();
    equal(fork.length, 40);
    equal(fork.store.byteLength, cache.store.byteLength);
    equal(backend.byteLength, before);
    fork.reserve(30);
    fork.advance(30);
    deepEqual([cache.length, fork.length], [40, 70]);
    fork.truncate(3);
    deepEqual([cache.length, fork.length], [40, 3]);
  });

  test(`${label}: disposing caches and forks, twice too, gives everything back`, async () => {
    using backend = await open();
    const before = backend.byteLength;
    for (let i = 0; i < 100; i++) {
      const cache = new KvCache(backend.kvStore(shape, options));
      extend(backend, cache.store, i, 0, 40);
      cache.advance(40);
      const forks = [cache.fork(), cache.fork()];
      forks[0]!.truncate(20);
      extend(backend, forks[0]!.store, i, 20, 60);
      for (const each of [forks[1]!, cache, cache, ...forks]) each[Symbol.dispose]();
      equal(backend.byteLength, before);
    }
  });

  test(`${label}: what an earlier store left behind does not show`, async () => {
    using clean = await open();
    using backend = await open();
    for (const format of ["f32", "i16"] as const) {
      const nothing = new Float32Array(100 * heads.headDim).fill(NaN);
      storeOf(backend, heads, { ...options, format }, nothing, nothing)[Symbol.dispose]();
      for (const length of LENGTHS) {
        using store = backend.kvStore(shape, { ...options, format });
        extend(backend, store, 1, 0, length);
        using other = clean.kvStore(shape, { ...options, format });
        extend(clean, other, 1, 0, length);
        deepEqual(await contents(backend, store, length), await contents(clean, other, length));
      }
    }
  });

  test(`${label}: memory that ends says how much was asked for, and harms nothing`, async () => {
    using backend = await open();
    using store = backend.kvStore(shape, options);
    extend(backend, store, 1, 0, 40);
    const before = [backend.byteLength, store.byteLength];
    for (const length of [2 ** 33, 2 ** 45, Number.MAX_SAFE_INTEGER]) {
      throws(
        () => store.reserve(length),
        (error) =>
          error instanceof OutOfMemoryError && error.limitBytes > 0 &&
          error.requestedBytes > length && error.message.length > 20,
      );
      deepEqual([backend.byteLength, store.byteLength], before);
    }
    deepEqual(await contents(backend, store, 40), await replayed(backend, [1, 40]));
    extend(backend, store, 1, 40, 90);
    deepEqual(await contents(backend, store, 90), await replayed(backend, [1, 90]));
    using fork = store.fork(90);
    ok(fork.byteLength > 0);
  });

  test(`${label}: an f16 store rounds to the nearest number, halfway to the even one`, async () => {
    const last = 1023 * 2 ** -24; // the largest subnormal
    const cases: [value: number, rounded: number][] = [
      [0, 0],
      [1, 1],
      [1 + 2 ** -11, 1],
      [1 + 2 ** -11 + 2 ** -20, 1 + 2 ** -10],
      [1 + 3 * 2 ** -11, 1 + 2 ** -9],
      [1 + 3 * 2 ** -11 - 2 ** -20, 1 + 2 ** -10],
      [2 - 2 ** -11, 2],
      [2 - 2 ** -11 - 2 ** -20, 2 - 2 ** -10],
      [2 ** -24, 2 ** -24],
      [2 ** -25, 0],
      [2 ** -25 + 2 ** -40, 2 ** -24],
      [2 ** -26, 0],
      [2 ** -60, 0],
      [3 * 2 ** -25, 2 ** -23],
      [last, last],
      [last + 2 ** -25, 2 ** -14],
      [last + 2 ** -26, last],
      [2 ** -14, 2 ** -14],
      [2 ** -14 + 2 ** -25, 2 ** -14],
      [2 ** -14 + 3 * 2 ** -25, 2 ** -14 + 2 ** -23],
      [65504, 65504],
      [65519, 65504],
      [1 / 3, 1365 * 2 ** -12],
    ];
    using backend = await open();
    const value = Float32Array.from(cases.flatMap(([x]) => [x, -x, x, -x]));
    const key = new Float32Array(value.length);
    using store = storeOf(backend, heads, { format: "i16", chunkSize: CHUNK }, key, value);
    using query = tensorOf(backend, 1, 8, new Float32Array(8));
    for (const [t, [x, rounded]] of cases.entries()) {
      // Attention over a single token gives its value.
      const scope = { globalEnd: 0, localStart: t, length: t + 1 };
      const [actual, negative] = await outputOf(
        backend,
        1,
        8,
        (out) => backend.attend(out, query, store, 0, scope, null, rope, "scope"),
      );
      equal(actual, rounded, `${x}`);
      equal(negative! + 0, 0 - rounded, `${-x}`);
    }
  });

  test(`${label}: contents that differ in one value are told apart`, async () => {
    using backend = await open();
    notDeepEqual(await replayed(backend, [1, 40]), await replayed(backend, [1, 39], [3, 40]));
  });
}
