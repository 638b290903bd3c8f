// Stores whose values are in a file: whatever machine they are on, they are as if all of it were in memory.

import { deepEqual, equal, notEqual, ok, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import type { Backend, KvFormat, KvStore, KvStoreOptions } from "../src/backend/backend.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import { fitScope, type Scope, type ScopeConfig } from "../src/reattention/scope.ts";
import { machines } from "./support/backends.ts";
import { append, tensorOf } from "./support/handles.ts";
import { MemoryFile } from "./support/memory_file.ts";
import { outputOf } from "./support/outputs.ts";
import { uniform } from "./support/random.ts";

const CHUNK = 16;
const SHAPE = { numLayers: 2, numHeads: 4, numKvHeads: 2, headDim: 8 } as const;
const COLS = SHAPE.numKvHeads * SHAPE.headDim;
const QUERY_COLS = SHAPE.numHeads * SHAPE.headDim;
const MOST = 400;
const KEEP = { first: 20, last: 40 } as const;
const CONFIG: ScopeConfig = { ...fitScope(512), topK: 3, maxSpans: 8, spanSize: 8 };
const rope = createRope(1e4, SHAPE.headDim);

/** What a chunk takes whose values may be spilled: blocks are as large as those of keys. */
const CHUNK_BYTES: Readonly<Record<KvFormat, number>> = {
  i16: 2 * SHAPE.numLayers * CHUNK * SHAPE.numKvHeads * (2 * 8 + 4),
  f32: 2 * SHAPE.numLayers * CHUNK * SHAPE.numKvHeads * (5 * 8 + 4),
};

/** A store that may hold so many chunks in memory, and spills into a file. */
function spilling(
  backend: Backend,
  spill: MemoryFile,
  chunks: number,
  options: KvStoreOptions = {},
): KvStore {
  const cacheBytes = chunks * CHUNK_BYTES[options.format ?? "i16"];
  return backend.kvStore(SHAPE, { chunkSize: CHUNK, keep: KEEP, cacheBytes, spill, ...options });
}

/** Appends tokens [start, end) of a seed's sequence to all layers, in steps of ten. */
async function extend(
  backend: Backend,
  store: KvStore,
  start: number,
  end: number,
  seed = 1,
): Promise<void> {
  for (let from = start; from < end; from += 10) {
    const to = Math.min(end, from + 10);
    await store.reserve(to);
    for (let layer = 0; layer < SHAPE.numLayers; layer++) {
      const values = (part: number) => uniform(seed + 10 * layer + part, MOST * COLS);
      append(backend, store, layer, from, values(0), values(1), to);
    }
  }
}

/** What a call reads in a layer: the selected tokens, and what comes of it. */
async function read(
  backend: Backend,
  store: KvStore,
  scope: Scope,
  rules: Partial<ScopeConfig> | null,
) {
  const config = { ...CONFIG, ...rules };
  // The last, which is not at the beginning of anything.
  const layer = SHAPE.numLayers - 1;
  using query = tensorOf(backend, 3, QUERY_COLS, uniform(99, 3 * QUERY_COLS));
  const selection = rules && backend.select(store, layer, query, scope, config);
  const output = await outputOf(
    backend,
    3,
    QUERY_COLS,
    (out) => backend.attend(out, query, store, layer, scope, selection, rope, config.positions),
  );
  return { tokens: await selection?.tokens(), output };
}

/** Calls of all kinds at a length; those without selection read spilled tokens all the same. */
function callsAt(length: number): [scope: Scope, rules: Partial<ScopeConfig> | null][] {
  const scope = (globalEnd: number, localSize: number) => {
    return { globalEnd, localStart: Math.max(globalEnd, length - localSize), length };
  };
  return [
    [scope(20, 40), {}],
    [scope(20, 40), { sharing: "kvHead", positions: "sequence" }],
    [scope(41, 40), null],
    [scope(37, 75), { spanSize: 2 }],
  ];
}

/** Compares two stores in every way; the first may be on disk. */
async function assertSame(backend: Backend, actual: KvStore, expected: KvStore, length: number) {
  for (const [scope, rules] of callsAt(length)) {
    deepEqual(
      await read(backend, actual, scope, rules),
      await read(backend, expected, scope, rules),
      JSON.stringify({ scope, rules }),
    );
  }
}

for (const { label, open } of machines) {
  for (const format of ["i16", "f32"] as const) {
    test(`${label}: what is spilled is selected and read as if it were there (${format})`, async () => {
      using backend = await open();
      const before = backend.byteLength;
      {
        const file = new MemoryFile();
        using plain = backend.kvStore(SHAPE, { chunkSize: CHUNK, format });
        await extend(backend, plain, 0, 200);
        using store = spilling(backend, file, 10, { format });
        for (let end = 10; end <= 200; end += 10) {
          await extend(backend, store, end - 10, end);
          ok(store.byteLength <= 10 * CHUNK_BYTES[format]);
        }
        equal(store.spilledTokens, 96);
        equal(store.forgottenTokens, 0);
        const reads = file.reads;
        // The oldest are gone but for the kept ones: [32, 128).
        const [tokens] = (await read(backend, store, ...callsAt(200)[0]!)).tokens!;
        ok(tokens!.some((token) => token >= 32 && token < 128));
        ok(tokens!.some((token) => token >= 128));
        ok(file.reads > reads);
        await assertSame(backend, store, plain, 200);
        // What is saved does not depend on where it was, nor what is restored on where it goes.
        using copy = spilling(backend, file, 10, { format });
        copy.admit(200);
        const channels = new Uint8Array(store.channelBytes);
        await store.readChannels(channels);
        copy.writeChannels(channels);
        const [one, other] = [store, plain].map(({ chunkBytes }) => new Uint8Array(chunkBytes));
        for (let chunk = 0; chunk * CHUNK < 200; chunk++) {
          const count = Math.min(CHUNK, 200 - chunk * CHUNK);
          await store.readChunk(one!, chunk, count);
          await plain.readChunk(other!, chunk, count);
          deepEqual(one, other);
          await copy.reserve(chunk * CHUNK + count);
          copy.writeChunk(chunk, count, one!);
        }
        equal(copy.spilledTokens, 96);
        const [call] = callsAt(200);
        deepEqual(await read(backend, copy, ...call!), await read(backend, store, ...call!));
        throws(() => store.writeChunk(4, 16, one!), /must be one of the 13 reserved and/);
        // Nothing of a scope that is there is fetched.
        const fetched = file.reads;
        await read(backend, store, { globalEnd: 20, localStart: 130, length: 200 }, null);
        equal(file.reads, fetched);
        for (const length of [100, 45]) {
          store.truncate(length);
          plain.truncate(length);
          equal(store.spilledTokens, CHUNK * Math.min(6, Math.ceil(length / CHUNK) - 2));
          await assertSame(backend, store, plain, length);
        }
        // What is written into again comes back first.
        await extend(backend, store, 45, 60, 5);
        await extend(backend, plain, 45, 60, 5);
        equal(store.spilledTokens, 0);
        await assertSame(backend, store, plain, 60);
      }
      equal(backend.byteLength, before);
    });
  }

  test(`${label}: forks share what is spilled, and places in the file are used again`, async () => {
    using backend = await open();
    const file = new MemoryFile();
    using plain = backend.kvStore(SHAPE, { chunkSize: CHUNK });
    await extend(backend, plain, 0, 200);
    const before = backend.byteLength;
    {
      const store = spilling(backend, file, 12);
      await extend(backend, store, 0, 190);
      const { size, writes } = file;
      using fork = store.fork(190);
      equal(fork.spilledTokens, store.spilledTokens);
      equal(file.writes, writes);
      await extend(backend, fork, 190, 200);
      // What the fork makes room for has left both: its origin reads it from there, too.
      equal(store.spilledTokens, fork.spilledTokens);
      notEqual(file.writes, writes);
      await extend(backend, store, 190, 200);
      await assertSame(backend, store, plain, 200);
      store[Symbol.dispose]();
      await assertSame(backend, fork, plain, 200);
      ok(file.size > size);
    }
    equal(backend.byteLength, before);
    // All places are free again; and who spills into the same file gets others.
    const { size } = file;
    using again = spilling(backend, file, 12);
    await extend(backend, again, 0, 200);
    equal(file.size, size);
    using other = spilling(backend, file, 10, { format: "f32" });
    await extend(backend, other, 0, 200);
    ok(file.size > size);
    await assertSame(backend, again, plain, 200);
  });

  test(`${label}: a file that fails loses nothing`, async () => {
    using backend = await open();
    const file = new MemoryFile();
    using plain = backend.kvStore(SHAPE, { chunkSize: CHUNK });
    await extend(backend, plain, 0, 200);
    using store = spilling(backend, file, 10);
    file.capacity = 3000;
    await rejects(
      extend(backend, store, 0, 200),
      /^Error: Cannot spill old values of the KV cache: no space left on the device$/,
    );
    equal(store.spilledTokens, 2 * CHUNK);
    await assertSame(backend, store, plain, 170);
    file.capacity = Infinity;
    await extend(backend, store, 170, 200);
    await assertSame(backend, store, plain, 200);
    file.isBroken = true;
    await rejects(
      read(backend, store, ...callsAt(200)[0]!),
      /^Error: Cannot read spilled values of the KV cache: the device failed$/,
    );
    const { byteLength } = backend;
    store.truncate(45);
    await rejects(extend(backend, store, 45, 60), /the device failed/);
    ok(backend.byteLength < byteLength);
    file.isBroken = false;
    plain.truncate(45);
    await assertSame(backend, store, plain, 45);
  });

  test(`${label}: when all values are spilled, tokens are forgotten, or it is refused`, async () => {
    using backend = await open();
    const file = new MemoryFile();
    using store = spilling(backend, file, 9);
    await rejects(extend(backend, store, 0, MOST), OutOfMemoryError);
    const { spilledTokens } = store;
    equal(spilledTokens, 96);
    await rejects(async () => await store.reserve(230, 100), OutOfMemoryError);
    equal(store.spilledTokens, spilledTokens);
    using forgetful = spilling(backend, file, 9, { forget: "oldest" });
    await extend(backend, forgetful, 0, MOST);
    equal(forgetful.forgotten.length, 1);
    equal(forgetful.forgotten[0]!.start, 32);
    deepEqual([forgetful.spilledTokens, forgetful.forgottenTokens], [96, 208]);
    const [scope] = callsAt(MOST)[0]!;
    const [tokens] = (await read(backend, forgetful, scope, {})).tokens!;
    ok(tokens!.every((token) => token < 32 || token >= 32 + 208));
    using query = tensorOf(backend, 1, QUERY_COLS, uniform(3, QUERY_COLS));
    throws(
      () => backend.select(store, 0, query, callsAt(200)[0]![0], { ...CONFIG, scores: "qkv1" }),
      /scores must be "qk"/,
    );
  });
}

for (const { label, open } of machines.filter(({ label }) => label === "webgpu")) {
  test(`${label}: forks come, go on and go while others wait`, async () => {
    using backend = await open();
    const file = new MemoryFile();
    const before = backend.byteLength;
    {
      using plain = backend.kvStore(SHAPE, { chunkSize: CHUNK });
      await extend(backend, plain, 0, 200);
      using store = spilling(backend, file, 14);
      await extend(backend, store, 0, 185);
      // In the middle of a step, which goes on.
      const parts = [0, 1].map((layer) =>
        [0, 1].map((part) => uniform(1 + 10 * layer + part, MOST * COLS)) as [
          Float32Array,
          Float32Array,
        ]
      );
      await store.reserve(190, 20);
      append(backend, store, 0, 185, ...parts[0]!, 190);
      using fork = store.fork(185);
      append(backend, store, 1, 185, ...parts[1]!, 190);
      // Both need room, for which values of both must leave first.
      const waits = [store.reserve(220), fork.reserve(220)];
      ok(waits.every((each) => each instanceof Promise));
      const leaving = spilling(backend, new MemoryFile(), 4, { keep: { first: 0, last: 0 } });
      await extend(backend, leaving, 0, 60);
      const left = rejects(async () => await leaving.reserve(80), /disposed of meanwhile/);
      leaving[Symbol.dispose]();
      await Promise.all([...waits, left]);
      equal(store.spilledTokens, 96);
      ok(store.byteLength <= 14 * CHUNK_BYTES.i16);
      await extend(backend, store, 190, 200);
      await extend(backend, fork, 185, 200);
      const [call] = callsAt(200);
      const expected = await read(backend, plain, ...call!);
      const both = await Promise.all([store, fork].map((each) => read(backend, each, ...call!)));
      deepEqual(both, [expected, expected]);
    }
    equal(backend.byteLength, before);
  });
}
