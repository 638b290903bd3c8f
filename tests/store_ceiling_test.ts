// What stores forget and spill when they may not grow, the files that they spill to, and what memory there is.

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import type { Backend, KvStore, KvStoreOptions } from "../src/backend/backend.ts";
import { openWasmBackend } from "../src/backend/wasm/backend.ts";
import { parseBytes } from "../src/cli/memory.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import { fitScope, planScope } from "../src/reattention/scope.ts";
import { availableMemoryBytes } from "../src/system/memory.ts";
import { createTemporaryFile } from "../src/system/spill_file.ts";
import { append, tensorOf } from "./support/handles.ts";
import { MemoryFile } from "./support/memory_file.ts";
import { uniform } from "./support/random.ts";

const folder = mkdtempSync(join(tmpdir(), "reattention-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const SHAPE = { numLayers: 1, numHeads: 4, numKvHeads: 2, headDim: 8 } as const;
const COLS = SHAPE.numKvHeads * SHAPE.headDim;

/** A store with chunks of 16 tokens and a scope of 20 global and 70 local ones. */
function smallStore(backend: Backend, chunks: number, options: KvStoreOptions = {}): KvStore {
  const keep = { first: 20, last: 70 };
  using plain = backend.kvStore(SHAPE, { chunkSize: 16 });
  const cacheBytes = chunks * 16 * plain.bytesPerToken * (options.spill ? 36 / 32 : 1);
  return backend.kvStore(SHAPE, { chunkSize: 16, cacheBytes, keep, ...options });
}

for (const scores of ["qk", "qkv1"] as const) {
  test(`what was forgotten is not selected, the rest is, to the last bit (${scores})`, async () => {
    using backend = await openWasmBackend({ threads: 1 });
    const length = 400;
    const key = uniform(1, length * COLS);
    const value = uniform(2, length * COLS);
    using query = tensorOf(backend, 3, 32, uniform(3, 3 * 32));
    using store = smallStore(backend, 12, { forget: "oldest" });
    for (let end = 10; end <= length; end += 10) {
      store.reserve(end);
      append(backend, store, 0, end - 10, key, value, end);
    }
    deepEqual(store.forgotten, [{ start: 32, end: 240 }]);
    equal(store.forgottenTokens, 208);
    // The same without ever having had them: the oracle.
    const kept = (all: Float32Array) =>
      Float32Array.from([...all.subarray(0, 32 * COLS), ...all.subarray(240 * COLS)]);
    using short = backend.kvStore(SHAPE, { chunkSize: 16 });
    short.reserve(length - 208);
    append(backend, short, 0, 0, kept(key), kept(value), 10);
    append(backend, short, 0, 10, kept(key), kept(value), length - 208);
    const config = {
      ...fitScope(512),
      globalSize: 20,
      localSize: 70,
      topK: 2,
      maxSpans: 6,
      spanSize: 2,
      scores,
    };
    const rope = createRope(1e4, SHAPE.headDim);
    const run = async (from: KvStore, tokens: number) => {
      const scope = planScope(config, tokens, 3);
      using out = backend.tensor(3, 32);
      const selection = backend.select(from, 0, query, scope, config);
      backend.attend(out, query, from, 0, scope, selection, rope, "scope");
      return { tokens: [...(await selection.tokens())[0]!], output: await backend.read(out) };
    };
    const long = await run(store, length);
    const expected = await run(short, length - 208);
    deepEqual(long.tokens, expected.tokens.map((token) => token < 32 ? token : token + 208));
    ok(long.tokens.some((token) => token >= 240) && long.tokens.length >= 8);
    deepEqual(long.output, expected.output);
    // What every call reads must be there.
    using out = backend.tensor(3, 32);
    for (const scope of [planScope({ ...config, localSize: 170 }, length, 3)]) {
      throws(
        () => backend.attend(out, query, store, 0, scope, null, rope, "scope"),
        /tokens \[230, 400\) must be there, but token 230 was forgotten/,
      );
    }
    throws(() => store.truncate(100), /must not be among forgotten tokens/);
    throws(() => store.fork(100), /must not be among forgotten tokens/);
  });
}

test("all picks of a selection that was forgotten on one side stay on the other", async () => {
  using backend = await openWasmBackend({ threads: 1 });
  const length = 400;
  using query = tensorOf(backend, 1, 32, uniform(3, 32));
  using store = smallStore(backend, 12, { forget: "oldest" });
  for (let end = 10; end <= length; end += 10) {
    store.reserve(end);
    append(backend, store, 0, end - 10, uniform(1, length * COLS), uniform(2, length * COLS), end);
  }
  const scope = { globalEnd: 20, localStart: 330, length };
  for (const selector of ["exact", "blockmax"] as const) {
    const config = { ...fitScope(512), topK: 400, maxSpans: Infinity, spanSize: 64, selector };
    const [tokens] = await backend.select(store, 0, query, scope, config).tokens();
    ok(tokens!.every((token) => token < 32 || token >= 240));
    ok(tokens!.includes(240), selector);
  }
});

test("a store that spills refuses to weigh by values, and one without room forgets nothing", async () => {
  using backend = await openWasmBackend({ threads: 1 });
  using query = tensorOf(backend, 1, 32, uniform(3, 32));
  using store = smallStore(backend, 12, { spill: new MemoryFile() });
  store.reserve(100);
  append(backend, store, 0, 0, uniform(1, 100 * COLS), uniform(2, 100 * COLS), 100);
  const config = { ...fitScope(512), scores: "qkv1" } as const;
  const scope = { globalEnd: 10, localStart: 90, length: 100 };
  throws(() => backend.select(store, 0, query, scope, config), /scores must be "qk"/);

  using forgetful = smallStore(backend, 12, { forget: "oldest" });
  for (let end = 10; end <= 190; end += 10) {
    forgetful.reserve(end);
    append(backend, forgetful, 0, end - 10, uniform(1, 200 * COLS), uniform(2, 200 * COLS), end);
  }
  equal(forgetful.forgottenTokens, 0);
  throws(() => forgetful.reserve(400), OutOfMemoryError);
  throws(() => forgetful.reserve(190, 400), OutOfMemoryError);
  equal(forgetful.forgottenTokens, 0);
  forgetful.reserve(200);
  equal(forgetful.forgottenTokens, 16);
});

test("a spill file keeps its bytes, beyond 4 GiB too, and leaves nothing behind", () => {
  const directory = mkdtempSync(join(folder, "file-"));
  const file = createTemporaryFile(directory);
  if (process.platform !== "win32") deepEqual(readdirSync(directory), []);
  const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i * 7);
  for (const offset of [0, 2 ** 31 - 35_000, 5 * 2 ** 30 + 13]) file.write(offset, bytes);
  for (const offset of [5 * 2 ** 30 + 13, 0, 2 ** 31 - 35_000]) {
    const target = new Uint8Array(69_000);
    file.read(offset + 500, target);
    deepEqual(target, bytes.subarray(500, 69_500));
  }
  throws(() => file.read(6 * 2 ** 30, new Uint8Array(1)), /^Error: Cannot read .*the file ends/);
  file[Symbol.dispose]();
  file[Symbol.dispose]();
  throws(() => file.write(0, bytes), /Cannot write/);
  deepEqual(readdirSync(directory), []);
  throws(() => createTemporaryFile(join(folder, "none")), /Cannot write .*no such folder/);
});

test("the memory that there is counts what a container may have", () => {
  const files = (given: Record<string, string>) => (path: string) => given[path] ?? null;
  const meminfo = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n";
  const MiB = 2 ** 20;
  equal(availableMemoryBytes(files({})), null);
  equal(availableMemoryBytes(files({ "/proc/meminfo": meminfo })), 8 * MiB);
  const second = {
    "/proc/meminfo": meminfo,
    "/proc/self/cgroup": "0::/outer/inner\n",
    "/sys/fs/cgroup/outer/inner/memory.max": "max\n",
    "/sys/fs/cgroup/outer/inner/memory.current": `${MiB}\n`,
    "/sys/fs/cgroup/outer/memory.max": `${6 * MiB}\n`,
    "/sys/fs/cgroup/outer/memory.current": `${4 * MiB}\n`,
    "/sys/fs/cgroup/outer/memory.stat": `anon 1\ninactive_file ${MiB}\n`,
  };
  equal(availableMemoryBytes(files(second)), 3 * MiB);
  const first = {
    "/proc/meminfo": meminfo,
    // As in a container: the path is the host's, and only the root is visible.
    "/proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${3 * MiB}\n`,
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${2 * MiB}\n`,
    "/sys/fs/cgroup/cpu/memory.limit_in_bytes": "1\n",
  };
  equal(availableMemoryBytes(files(first)), MiB);
  const over = { ...first, "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${4 * MiB}` };
  equal(availableMemoryBytes(files(over)), 0);
});

test("sizes are bytes, with units of 1024", () => {
  deepEqual(["1", "500_000", "64K", "512M", "2.5G", "2g"].map(parseBytes), [
    1,
    500_000,
    65_536,
    2 ** 29,
    2.5 * 2 ** 30,
    2 ** 31,
  ]);
  for (const wrong of ["", "0", "-1", "G", "2T", "1e9", "2GB", "0.2", " 1"]) {
    throws(() => parseBytes(wrong), /number of bytes/);
  }
});
