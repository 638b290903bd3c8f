/**
 * Caches that may not grow: what is spilled changes nothing, what is forgotten is said, no ceiling is passed, and
 * what ends early loses nothing that was acknowledged.
 */

import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import type { Backend, KvStoreOptions, SpillFile } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";
import { openWasmBackend } from "../src/backend/wasm/backend.ts";
import { type Needle, writeHaystack } from "../src/eval/haystack.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import type { SelectionRecord } from "../src/llama/selection_record.ts";
import type { Session } from "../src/llama/session.ts";
import type { SessionOptions } from "../src/llama/session_options.ts";
import { launch, notBuilt as skip } from "./support/command.ts";
import { MemoryFile } from "./support/memory_file.ts";

const NEEDLE = " One of the special magic numbers for quiet-falcon is: 7392148.";
const QUESTION = "What is the special magic number for quiet-falcon?";
const ANSWER = "7392148.";

const folder = mkdtempSync(join(tmpdir(), "reattention-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

let model: Model;
before(async () => {
  model = await loadModel(undefined, { threads: 2 });
});
after(() => model[Symbol.dispose]());

/** Some prose with the needle a third into it. */
function text(length: number): string {
  const needle: Needle = {
    kind: "magic",
    key: "",
    sentence: NEEDLE,
    question: QUESTION,
    answer: "",
    depth: 1 / 3,
  };
  let text = "";
  for (const piece of writeHaystack({ seed: 3, length, needles: [needle] })) text += piece.text;
  return text;
}

async function answer(session: Session): Promise<string> {
  let answer = "";
  for await (const piece of session.ask(QUESTION, { maxTokens: 16 })) answer += piece;
  return answer;
}

/** What a session makes of tokens and a question: every number and every choice. */
async function reading(
  { model, tokens, options, afterStep = () => {} }: {
    readonly model: Model;
    readonly tokens: Uint32Array;
    readonly options: SessionOptions;
    readonly afterStep?: (session: Session) => void;
  },
) {
  const records: SelectionRecord[] = [];
  using session = model.session({ ...options, onSelect: (record) => records.push(record) });
  for (let start = 0; start < tokens.length; start += session.stepSize) {
    await session.prefill(tokens.subarray(start, start + session.stepSize));
    afterStep(session);
  }
  const logits = await session.logits();
  const text = await answer(session);
  afterStep(session);
  return { logits, text, records, last: await session.logits(), stats: session.stats };
}

/** Fails as soon as the cache holds more than it may. */
function watch(backend: Backend, ceiling: number): (session: Session) => void {
  const before = backend.byteLength;
  let most = 0;
  return ({ stats }) => {
    ok(stats.cacheBytes <= ceiling, `${stats.cacheBytes} of ${ceiling} bytes`);
    // Everything else that a session takes: its output, channels, and activations once.
    ok(
      backend.byteLength - before <= ceiling + 4 * 2 ** 20,
      `${backend.byteLength - before} bytes`,
    );
    most = Math.max(most, stats.cacheBytes);
    ok(stats.spilledTokens + stats.forgottenTokens === 0 || most > ceiling / 2);
  };
}

test("a reading of 20K tokens is the same to the last bit when half of its values are on disk", async () => {
  const tokens = model.tokenizer.encode(text(58_000));
  ok(tokens.length > 20_000, `${tokens.length} tokens`);
  const all = await reading({ model, tokens, options: {} });
  const cacheBytes = 26_000_000;
  ok(all.stats.cacheBytes > 1.6 * cacheBytes, `${all.stats.cacheBytes} bytes`);
  const directory = mkdtempSync(join(folder, "spill-"));
  const spilled = await reading({
    model,
    tokens,
    options: { cacheBytes, spill: directory },
    afterStep: watch(model.backend, cacheBytes),
  });
  ok(spilled.stats.spilledTokens > 15_000, `${spilled.stats.spilledTokens} tokens`);
  equal(spilled.stats.forgottenTokens, 0);
  equal(spilled.text, ANSWER);
  deepEqual(spilled.logits, all.logits);
  deepEqual(spilled.last, all.last);
  deepEqual(spilled.records, all.records);
  ok(all.records.length > 0);
  deepEqual(readdirSync(directory), []);
});

for (
  const options of [
    { select: "always" },
    { select: "always", scope: { sharing: "kvHead" } },
    { select: "always", scope: { selector: "blockmax" } },
    { kvFormat: "f32" },
  ] satisfies SessionOptions[]
) {
  test(`spilling changes nothing with ${JSON.stringify(options)}`, async () => {
    // Selecting in every step costs the square of the length.
    const tokens = model.tokenizer.encode(text("select" in options ? 8000 : 12_000));
    const all = await reading({ model, tokens, options });
    const spill = new MemoryFile();
    const cacheBytes = all.stats.cacheBytes * 0.85;
    const afterStep = watch(model.backend, cacheBytes);
    const spilled = await reading({
      model,
      tokens,
      options: { ...options, cacheBytes, spill },
      afterStep,
    });
    ok(spilled.stats.spilledTokens >= 500, `${spilled.stats.spilledTokens} tokens`);
    ok(spill.reads > 0);
    deepEqual(
      { ...spilled, stats: null },
      { ...all, stats: null },
    );
  });
}

test("where memory itself ends, spilled values make room for keys", async () => {
  const tokens = model.tokenizer.encode(text(40_000));
  const lengths: number[] = [];
  for (const spill of [undefined, new MemoryFile()]) {
    for (const arenaBytes of [2 ** 32, 2 ** 23]) {
      using backend = await openWasmBackend(
        { threads: 2, memoryLimit: 22 * 2 ** 20 },
        { arenaBytes },
      );
      using small = await loadModel(undefined, { backend });
      using session = small.session(spill ? { spill } : {});
      await rejects(session.prefill(tokens), OutOfMemoryError);
      lengths.push(session.length);
    }
  }
  const [one, many, oneSpilled, manySpilled] = lengths;
  ok(oneSpilled! > 1.5 * one!, lengths.join());
  ok(manySpilled! > 1.5 * many!, lengths.join());
});

test("a full spill file ends the reading; what was read can be asked for, in forks too", async () => {
  const tokens = model.tokenizer.encode(text(9000));
  const file = new MemoryFile();
  file.capacity = 1_200_000;
  using session = model.session({ cacheBytes: 6_000_000, spill: file });
  let acknowledged = 0;
  const read = async () => {
    for (let start = 0; start < tokens.length; start += 100) {
      const end = Math.min(tokens.length, start + 100);
      await session.prefill(tokens.subarray(start, end));
      acknowledged = end;
    }
  };
  await rejects(read(), (error) => {
    match(
      (error as Error).message,
      /^Cannot spill old values of the KV cache: no space left on the device$/,
    );
    return true;
  });
  const { length, stats } = session;
  ok(length >= acknowledged && length < tokens.length, `${length} of ${tokens.length} tokens`);
  ok(stats.spilledTokens > 0 && stats.cacheBytes <= 6_000_000);
  for (let i = 0; i < 3; i++) {
    using fork = session.fork();
    equal(await answer(fork), ANSWER);
  }
  equal(session.length, length);
  // Once there is space again, reading goes on as if nothing had been.
  file.capacity = Infinity;
  await session.prefill(tokens.subarray(length));
  using whole = model.session();
  await whole.prefill(tokens);
  deepEqual(await session.logits(), await whole.logits());
});

test("a ceiling reached in the middle of a long write loses nothing that was acknowledged", async () => {
  const tokens = model.tokenizer.encode(text(20_000));
  const cacheBytes = 6_000_000;
  using session = model.session({ cacheBytes });
  await session.prefill(tokens.subarray(0, 777));
  await rejects(session.prefill(tokens.subarray(777)), (error) => {
    ok(error instanceof OutOfMemoryError);
    equal(error.limitBytes, cacheBytes);
    match(error.message, /to go on with.*the cache holds \d+ of the 6000000 that it may.*spill/);
    return true;
  });
  const { length } = session;
  ok(length >= 1500 && length < tokens.length, `${length} tokens`);
  using alone = model.session();
  await alone.prefill(tokens.subarray(0, length));
  const expected = await answer(alone);
  {
    using fork = session.fork();
    equal(await answer(fork), expected);
  }
  // Room that comes back is used.
  session.truncate(704);
  await session.prefill(tokens.subarray(704, 1400));
  using other = model.session();
  await other.prefill(tokens.subarray(0, 1400));
  deepEqual(await session.logits(), await other.logits());
});

test("forgetting is told at once, keeps the ends of the scope, and truncation into it is refused", async () => {
  const tokens = model.tokenizer.encode(text(24_000));
  const told: string[] = [];
  // A local region of three chunks: more than a store could guess.
  const scope = { globalSize: 300, localSize: 700 };
  const cacheBytes = 6_000_000;
  using session = model.session({
    scope,
    stepSize: 64,
    beyondTrainedLength: true,
    cacheBytes,
    forget: "oldest",
    onForget: (forgotten) => told.push(JSON.stringify(forgotten)),
  });
  const check = watch(model.backend, cacheBytes);
  for (let start = 0; start < tokens.length; start += 64) {
    await session.prefill(tokens.subarray(start, start + 64));
    check(session);
    const { forgotten, forgottenTokens } = session.stats;
    equal(told.at(-1), forgotten.length === 0 ? undefined : JSON.stringify(forgotten));
    if (forgotten.length === 0) continue;
    equal(forgotten.length, 1);
    equal(forgotten[0]!.start, 512);
    ok(forgotten[0]!.end <= session.length - 700);
    equal(forgottenTokens, forgotten[0]!.end - 512);
  }
  equal(told[0], '[{"start":512,"end":768}]');
  ok(told.length > 10);
  const { start, end } = session.stats.forgotten[0]!;
  const before = await session.logits();
  for (const length of [start + 1, end - 1, end, end + 699]) {
    throws(() => session.truncate(length), (error) => {
      ok(error instanceof RangeError);
      match(error.message, /tokens \[512, \d+\) were forgotten; lengths up to 512 and from \d+ on/);
      return true;
    });
  }
  throws(() => session.fork({ scope: { localSize: 4000 } }), /4000 local tokens.*were forgotten/);
  throws(() => session.fork({ scope: { globalSize: 600 } }), /600 global tokens.*were forgotten/);
  deepEqual(await session.logits(), before);
  // What is there can be truncated and read again.
  equal(session.length, tokens.length);
  session.truncate(end + 700);
  await session.prefill(tokens.subarray(end + 700));
  deepEqual(session.stats.forgotten[0], { start, end });
  session.truncate(start);
  deepEqual(session.stats.forgotten, []);
  await session.prefill(tokens.subarray(start, 700));
  using fresh = model.session({ scope, stepSize: 64, beyondTrainedLength: true });
  await fresh.prefill(tokens.subarray(0, start));
  await fresh.prefill(tokens.subarray(start, 700));
  deepEqual(await session.logits(), await fresh.logits());
});

test("what comes after the forgotten is still found, in forks of a full cache too", async () => {
  const tokens = model.tokenizer.encode(text(24_000));
  const tail = model.tokenizer.encode(text(3000));
  using session = model.session({ cacheBytes: 6_000_000, forget: "oldest" });
  await session.prefill(tokens);
  await session.prefill(tail);
  ok(session.stats.forgotten[0]!.end > tokens.length / 3 + 100, "the first needle is gone");
  const told: number[] = [];
  {
    using fork = session.fork({ onForget: () => told.push(0) });
    equal(await answer(fork), ANSWER);
    // A fork that goes on reading takes from the oldest that both have.
    const { end } = session.stats.forgotten[0]!;
    await fork.prefill(tokens.subarray(0, 2000));
    ok(fork.stats.forgotten[0]!.end > end);
    ok(told.length > 0);
    ok(session.stats.forgotten[0]!.end > end);
    ok(session.stats.forgotten[0]!.end <= session.length - session.scope.localSize);
  }
  await session.prefill(tail);
  equal(await answer(session), ANSWER);
});

test("forks share spilled chunks, and slots are used again", async () => {
  const tokens = model.tokenizer.encode(text(20_000));
  const spill = new MemoryFile();
  const session = model.session({ cacheBytes: 11_000_000, spill });
  await session.prefill(tokens);
  const { size, writes } = spill;
  const { spilledTokens } = session.stats;
  ok(spilledTokens > 1000);
  const forks = [session.fork(), session.fork()];
  equal(spill.writes, writes);
  for (const fork of forks) equal(fork.stats.spilledTokens, spilledTokens);
  session[Symbol.dispose]();
  session[Symbol.dispose]();
  equal(await answer(forks[0]!), ANSWER);
  forks[0]![Symbol.dispose]();
  // All that the other lets go is there for what it reads next.
  forks[1]!.truncate(0);
  equal(forks[1]!.stats.spilledTokens, 0);
  await forks[1]!.prefill(tokens);
  equal(forks[1]!.stats.spilledTokens, spilledTokens);
  equal(spill.size, size);
  equal(await answer(forks[1]!), ANSWER);
  forks[1]![Symbol.dispose]();
  equal(spill.isClosed, false);
});

test("a spill file of a session's own lives as long as the last of its forks", async () => {
  const directory = mkdtempSync(join(folder, "forks-"));
  const tokens = model.tokenizer.encode(text(9000));
  const session = model.session({ cacheBytes: 6_000_000, spill: directory });
  await session.prefill(tokens);
  const spilled = session.fork();
  const { spilledTokens } = session.stats;
  ok(spilledTokens > 256 && spilledTokens === spilled.stats.spilledTokens);
  session[Symbol.dispose]();
  equal(await answer(spilled), ANSWER);
  spilled[Symbol.dispose]();
  deepEqual(readdirSync(directory), []);
});

test("spilled values that cannot be read back fail the question, and nothing else", async () => {
  const tokens = model.tokenizer.encode(text(9000));
  const file = new MemoryFile();
  using session = model.session({ cacheBytes: 6_000_000, spill: file });
  await session.prefill(tokens);
  file.isBroken = true;
  await rejects(
    answer(session),
    /^Error: Cannot read spilled values of the KV cache: the device failed$/,
  );
  equal(session.length, tokens.length);
  file.isBroken = false;
  equal(await answer(session), ANSWER);
});

test("a session refuses ceilings, policies and files that are none", async () => {
  throws(() => model.session({ cacheBytes: 0 }), /cacheBytes must be a positive number of bytes/);
  throws(() => model.session({ forget: "all" as "oldest" }), /forget must be "oldest"/);
  throws(() => model.session({ spill: join(folder, "missing") }), /there is no such folder/);
  throws(() => model.session({ spill: {} as SpillFile }), /methods read and write/);
  const qkv = { spill: new MemoryFile(), scope: { scores: "qkv1" } } as const;
  throws(() => model.session(qkv), /scores must be "qk" where values are spilled, got "qkv1"/);
  using session = model.session({ spill: new MemoryFile() });
  throws(() => session.fork({ scope: { scores: "qkv2" } }), /scores must be "qk"/);
  // Nothing that was refused holds anything.
  const { byteLength } = model.backend;
  throws(() => model.session({ cacheBytes: -1, spill: folder }), RangeError);
  equal(model.backend.byteLength, byteLength);
  using reference = await openBackend("reference");
  const shape = { numLayers: 1, numHeads: 1, numKvHeads: 1, headDim: 4 };
  for (const options of [{ cacheBytes: 1e9 }, { spill: new MemoryFile() }, { forget: "oldest" }]) {
    throws(
      () => reference.kvStore(shape, { ...options, keep: { first: 0, last: 0 } } as KvStoreOptions),
      /reference backend keeps everything in memory/,
    );
  }
  throws(
    () => model.backend.kvStore(shape, { forget: "oldest" }),
    /keep must say how many first and last tokens stay/,
  );
});

/** Runs the real command, behind a shell's words if there are any. */
function run(args: readonly string[], shell = "") {
  const [command, ...rest] = shell === ""
    ? [process.execPath, ...launch, ...args]
    : ["bash", "-c", `${shell}; exec "$@"`, "bash", process.execPath, ...launch, ...args];
  const { status, stdout, stderr } = spawnSync(command!, rest, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { status, out: stdout, error: stderr };
}

test(
  "a command's memory does not grow beyond its ceiling, and it says what it forgot",
  { skip },
  () => {
    const ceiling = 8 * 2 ** 20;
    const ask = (name: string, length: number, ...more: string[]) => {
      const path = join(folder, name);
      writeFileSync(path, text(length));
      const args = ["ask", QUESTION, "--file", path, "--threads", "1", "--json", ...more];
      const { status, out, error } = run(args);
      equal(status, 0, error);
      return { ...JSON.parse(out), error };
    };
    const bounded = ["--cache-bytes", "8M", "--forget", "oldest"];
    const short = ask("short.txt", 12_000, ...bounded);
    const long = ask("long.txt", 100_000, ...bounded);
    ok(long.stats.inputTokens > 36_000, `${long.stats.inputTokens} tokens`);
    equal(long.settings.cacheBytes, ceiling);
    equal(long.settings.forget, "oldest");
    ok(long.stats.cacheBytes <= ceiling);
    const { forgotten, forgottenTokens } = long.stats;
    equal(forgotten.length, 1);
    equal(forgotten[0].start, 256);
    equal(forgottenTokens, forgotten[0].end - 256);
    match(long.error, /^note: forgot tokens \[256, 512\), since the cache may not grow/m);
    // The cache of that text would be 76 MB.
    const growth = long.stats.peakMemoryBytes - short.stats.peakMemoryBytes;
    ok(growth < 40e6, `${growth} bytes more at the peak`);
  },
);

test("a file system that takes no more ends a command with the reason", {
  skip: skip || process.platform === "win32" && "there is no ulimit",
}, () => {
  const path = join(folder, "limited.txt");
  writeFileSync(path, text(20_000));
  const args = ["ask", QUESTION, "--file", path, "--threads", "1", "--cache-bytes", "6M"];
  // 512 or 1024 bytes each: a chunk's values are 262,144.
  const limited = run([...args, "--spill", folder], "trap '' XFSZ; ulimit -f 1200");
  equal(limited.status, 1, limited.error);
  match(
    limited.error,
    /^reattention: Cannot spill old values of the KV cache: Cannot write ".*": (files may not become that large here|File too large)/m,
  );
});
