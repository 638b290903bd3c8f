/**
 * Sessions that survive: what goes on from a file is what never ended, to the last bit.
 */
import { deepEqual, equal, match, notEqual, ok, rejects, throws } from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { writeHaystack } from "../src/eval/haystack.ts";
import { OutOfMemoryError, SessionFileError } from "../src/errors.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { openFile } from "../src/system/file_source.ts";
import { EMBEDDED_MODEL, loadModel, type Model } from "../src/llama/load.ts";
import type { LlamaConfig } from "../src/llama/config.ts";
import { Session } from "../src/llama/session.ts";
import type { SessionOptions } from "../src/llama/session_options.ts";
import { backends } from "./support/long_test_backends.ts";
import { append } from "./support/handles.ts";
import { outputOf } from "./support/outputs.ts";
import { uniform } from "./support/random.ts";
import { headerOf, savedBytes, sectionEdges } from "./support/session_files.ts";

const CHUNK = 256;
let model: Model;
let folder: string;
before(async () => {
  model = await loadModel(undefined, { threads: 1 });
  folder = mkdtempSync(join(tmpdir(), "reattention-save-"));
});
after(() => {
  model[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

let story = "";
for (const piece of writeHaystack({ seed: 4, length: 60_000, needles: [] })) story += piece.text;

/** A session that has read exactly so many tokens, some of them from a stream. */
async function sessionOf(length: number, options: SessionOptions = {}): Promise<Session> {
  const session = model.session(options);
  // 40 tokens or so of text, whose places in the input are known.
  if (length > 100) {
    const writer = session.writable().getWriter();
    await writer.write(`é\ud83d\ude00 ${story.slice(0, 120)}`);
    await writer.close();
  }
  const tokens = model.tokenizer.encode(story);
  await session.prefill(tokens.subarray(0, length - session.length));
  equal(session.length, length);
  return session;
}

async function restored(session: Session, options = {}): Promise<Session> {
  return await model.restore(fromBytes(await savedBytes(session), "a file"), options);
}

/** All that can be seen of what a session remembers, and of how it goes on: tokens and bits. */
async function future(session: Session): Promise<unknown[]> {
  const seen: unknown[] = [session.length, session.textOf(0, session.length)];
  for (let t = 0; t <= session.length; t += 7) seen.push(session.byteOffset(t));
  if (session.length > 0) {
    using asked = session.fork();
    let answer = "";
    for await (const text of asked.ask("What is the pass key?", { maxTokens: 8 })) answer += text;
    using cut = session.fork();
    cut.truncate(Math.ceil(session.length / 2));
    seen.push(answer, await cut.logits(), await session.logits());
  }
  await session.prefill(model.tokenizer.encode(story.slice(-2000)));
  for await (const token of session.generate({ maxTokens: 8 })) seen.push(token);
  seen.push(await session.logits(), session.byteOffset(session.length));
  return seen;
}

for (const length of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 65, 20_000]) {
  test(`a session of ${length} tokens goes on from its file as if it had never ended`, async () => {
    using session = await sessionOf(length);
    const path = join(folder, `of ${length}.session`);
    await session.save(path);
    using other = await model.restore(pathToFileURL(path));
    deepEqual(await savedBytes(other), new Uint8Array(readFileSync(path)));
    deepEqual(
      [other.scope, other.stepSize, other.select, other.selectLayers, other.kvFormat],
      [session.scope, session.stepSize, session.select, session.selectLayers, session.kvFormat],
    );
    deepEqual(await future(other), await future(session));
  });
}

test("a session in f32 with rules of its own, one of them infinite, keeps them", async () => {
  const scope = { globalSize: 8, localSize: Infinity, topK: 2, maxSpans: 3, spanSize: 4 } as const;
  const options = { scope, stepSize: 33, select: "always", selectLayers: [0, 3] } as const;
  using session = await sessionOf(700, { ...options, kvFormat: "f32", beyondTrainedLength: true });
  using other = await restored(session);
  deepEqual(other.scope, session.scope);
  deepEqual([other.stepSize, other.select, other.kvFormat], [33, "always", "f32"]);
  deepEqual(other.selectLayers, [0, 3]);
  deepEqual(await future(other), await future(session));
});

test("a restored session may follow other rules, as a fork may", async () => {
  using session = await sessionOf(600);
  const options = { scope: { localSize: 100 }, select: "always", selectLayers: [3] } as const;
  using other = await restored(session, options);
  using fork = session.fork({ ...options, scope: { ...session.scope, localSize: 100 } });
  deepEqual([other.scope, other.stepSize], [fork.scope, fork.stepSize]);
  deepEqual(await other.logits(), await fork.logits());
  using never = await restored(session, { select: "never" });
  deepEqual([never.scope, never.stepSize], [session.scope, session.stepSize]);
});

test("what was asked, answered, truncated and forked survives, too", async () => {
  using session = await sessionOf(400);
  for await (const _ of session.ask("What is the pass key?", { maxTokens: 5 }));
  using answered = await restored(session);
  session.truncate(CHUNK + 3);
  using truncated = await restored(session);
  using fork = session.fork();
  using forked = await restored(fork);
  deepEqual(await future(truncated), await future(session));
  deepEqual(await future(forked), await future(fork));
  for await (const _ of answered.ask("What is it?", { maxTokens: 5 }));
});

test("with other numbers of threads a session goes on the same", async () => {
  using session = await sessionOf(1500);
  const bytes = await savedBytes(session);
  const expected = await future(session);
  using threaded = await loadModel(undefined, { threads: 2 });
  using other = await threaded.restore(fromBytes(bytes, "a file"));
  deepEqual(await savedBytes(other), bytes);
  deepEqual(await future(other), expected);
});

test("the reference backend keeps its sessions, too, and takes no others", async () => {
  using plain = await loadModel(undefined, { backend: "reference" });
  using session = plain.session({ stepSize: 8 });
  await session.prefill(model.tokenizer.encode(story).subarray(0, 40));
  const file = fromBytes(await savedBytes(session), "a file");
  using other = await plain.restore(file);
  deepEqual(await other.logits(), await session.logits());
  await rejects(model.restore(file), /laid out .* "planes 1", got "plain 1"/);
});

for (const { label, open } of backends) {
  for (const format of ["i16", "f32"] as const) {
    test(`${label}: a store of ${format} is what its bytes are`, async () => {
      using backend = await open();
      const shape = { numLayers: 2, numHeads: 4, numKvHeads: 2, headDim: 6 };
      const options = { format, chunkSize: 16 };
      using store = backend.kvStore(shape, options);
      using other = backend.kvStore(shape, options);
      const numbers = 40 * 12;
      store.reserve(40);
      for (const layer of [0, 1]) {
        append(backend, store, layer, 0, uniform(layer, numbers), uniform(layer + 2, numbers), 40);
      }
      const channels = new Uint8Array(store.channelBytes);
      await store.readChannels(channels);
      other.writeChannels(channels);
      const rows = [16, 16, 5]; // three of the last chunk's eight are left out
      const copy = new Uint8Array(store.chunkBytes);
      for (const [chunk, count] of rows.entries()) {
        const bytes = new Uint8Array(store.chunkBytes).fill(0xaa);
        equal(store.hasChunk(chunk), true);
        await store.readChunk(bytes, chunk, count);
        other.reserve(16 * chunk + count);
        other.writeChunk(chunk, count, bytes);
        await other.readChunk(copy, chunk, 16);
        deepEqual(copy, bytes);
      }
      equal(store.hasChunk(3), false);
      throws(() => store.readChunk(copy, 3, 1), /must be one of/);
      throws(() => other.writeChunk(3, 1, copy), /must be one of/);
      // The rows that were left out are zero, so they are written again.
      for (const layer of [0, 1]) {
        other.reserve(40);
        append(backend, other, layer, 37, uniform(layer, numbers), uniform(layer + 2, numbers), 40);
      }
      const rope = { inverseFrequencies: new Float32Array([1, 0.1, 0.01]) };
      using query = backend.tensor(1, 24);
      backend.write(query, uniform(9, 24));
      const scope = { globalEnd: 0, localStart: 0, length: 40 };
      for (const layer of [0, 1]) {
        const [one, two] = await Promise.all(
          [store, other].map((from) =>
            outputOf(
              backend,
              1,
              24,
              (out) => backend.attend(out, query, from, layer, scope, null, rope, "scope"),
            )
          ),
        );
        deepEqual(two, one);
      }
    });
  }
}

test("spilled values are in the file, from which they need no spilling", async () => {
  using whole = await sessionOf(2300);
  let spilled = new Uint8Array(0);
  const spill = {
    write(byteOffset: number, bytes: Uint8Array) {
      const grown = new Uint8Array(Math.max(spilled.length, byteOffset + bytes.length));
      grown.set(spilled);
      grown.set(bytes, byteOffset);
      spilled = grown;
    },
    read: (byteOffset: number, target: Uint8Array) =>
      target.set(spilled.subarray(byteOffset, byteOffset + target.length)),
  };
  using session = model.session({ cacheBytes: 4_600_000, spill });
  await session.prefill(await tokensOf(whole));
  ok(spilled.length > 0);
  using other = await restored(session);
  equal(other.stats.cacheBytes, whole.stats.cacheBytes);
  deepEqual(await cacheOf(session), await cacheOf(whole));
  deepEqual(await other.logits(), await session.logits());
});

test("forgotten chunks stay forgotten, and what goes on does not miss them more", async () => {
  using session = model.session({ cacheBytes: 4_000_000, forget: "oldest" });
  await session.prefill(model.tokenizer.encode(story).subarray(0, 3000));
  const bytes = await savedBytes(session);
  const [[start, end]] = headerOf(bytes).json.cache.forgotten;
  equal(start, 1);
  ok(end > 4);
  using other = await model.restore(fromBytes(bytes, "a file"));
  equal(other.stats.cacheBytes, session.stats.cacheBytes);
  deepEqual(await savedBytes(other), bytes);
  deepEqual(await other.logits(), await session.logits());
});

test("a session is restored into less memory: values spill, tokens are forgotten, or it is refused", async () => {
  using session = await sessionOf(20_000);
  const file = fromBytes(await savedBytes(session), "a file");
  const cacheBytes = 4_000_000;
  await rejects(model.restore(file, { cacheBytes }), OutOfMemoryError);
  const ranges: unknown[] = [];
  using forgetful = await model.restore(file, {
    cacheBytes,
    forget: "oldest",
    onForget: (forgotten) => ranges.push(forgotten),
  });
  ok(forgetful.stats.cacheBytes <= cacheBytes);
  deepEqual(ranges, [forgetful.stats.forgotten]);
  await forgetful.logits();
  // Half of it may go: not all of it.
  const half = Math.ceil(0.75 * session.stats.cacheBytes);
  using spilling = await model.restore(file, { cacheBytes: half, spill: folder });
  ok(spilling.stats.spilledTokens > 0 && spilling.stats.cacheBytes <= half);
  deepEqual(await spilling.logits(), await session.logits());
  await rejects(model.restore(file, { cacheBytes, spill: folder }), OutOfMemoryError);
  // What was forgotten cannot be always read.
  const bytes = fromBytes(await savedBytes(forgetful), "a file");
  await rejects(
    model.restore(bytes, { scope: { globalSize: 300, localSize: 64, topK: 0 } }),
    /were forgotten/,
  );
  let told = 0;
  using other = await model.restore(bytes, { onForget: () => told++ });
  deepEqual([other.stats.forgotten, told], [forgetful.stats.forgotten, 0]);
  deepEqual(await other.logits(), await forgetful.logits());
});

/** The part of a session's file that holds keys and values, and how they are centred. */
async function cacheOf(session: Session): Promise<Uint8Array> {
  const bytes = await savedBytes(session);
  const chunks = Math.ceil(headerOf(bytes).json.cache.length / CHUNK);
  // Checksums, too, depend on how many sections come before.
  return bytes.subarray(sectionEdges(bytes).at(-2 - chunks), -4);
}

function tokensOf(session: Session): Promise<Uint32Array> {
  // The text's tokens, however they were read.
  return savedBytes(session).then((bytes) => {
    const [start] = sectionEdges(bytes);
    return new Uint32Array(bytes.slice(start, start! + 4 * session.length).buffer);
  });
}

test("a file has nothing of what was there before", async () => {
  using session = await sessionOf(705); // of which eleven steps of 64 have been read
  using other = await sessionOf(705);
  await other.prefill(model.tokenizer.encode(story).subarray(0, 900));
  other.truncate(704);
  deepEqual(await cacheOf(other), await cacheOf(session));
});

test("a session that is being written to or saved says so, and its fork can be saved", async () => {
  using session = await sessionOf(300);
  const writer = session.writable().getWriter();
  await rejects(session.save(join(folder, "open")), /writable must be closed first/);
  using fork = session.fork();
  ok((await savedBytes(fork)).length > 0);
  await writer.close();
  const saving = session.save(join(folder, "busy"));
  await rejects(session.prefill([1]), /must be saved first/);
  throws(() => session.truncate(1), /must be saved first/);
  throws(() => session.writable(), /must be saved first/);
  await saving;
  await session.prefill([1]);
});

test("where a stream fails, it is aborted and the session goes on", async () => {
  using session = await sessionOf(600);
  let written = 0;
  let reason: unknown = null;
  const full = () =>
    new WritableStream<Uint8Array>({
      write(bytes) {
        written += bytes.length;
        if (written > 300_000) throw new Error("the disk is full");
      },
      abort: (error) => {
        reason = error;
      },
    });
  await rejects(session.save(full()), /the disk is full/);
  equal(reason, null); // a stream that failed itself is not told
  equal((await savedBytes(session)).length > written, true);
  await session.logits();
});

test("a path that cannot be written is refused, and no litter stays", async () => {
  using session = await sessionOf(5);
  const place = mkdtempSync(join(folder, "place-"));
  await rejects(session.save(join(place, "no", "where")), /there is no such folder/);
  await rejects(session.save(place), /it is a folder/);
  await rejects(session.save("/dev/null"), /it is neither a file nor a folder/);
  await rejects(session.save("http://localhost/x"), /must be a path, a file: URL or a stream/);
  deepEqual(readdirSync(place), []);
  await Promise.all([1, 2, 3].map(() => session.fork().save(join(place, "same"))));
  deepEqual(readdirSync(place), ["same"]);
  (await model.restore(join(place, "same")))[Symbol.dispose]();
});

test("a model with other rotary positions is another one, to the last of its factors", async () => {
  const { llama, tokenizer, profile, chat, endTokens, backend, identity } = model;
  const scaled = (ropeScaling: LlamaConfig["ropeScaling"]) => ({
    ...{ llama, tokenizer, profile, chat, endTokens, backend },
    identity: { ...identity, config: { ...identity.config, ropeScaling } },
  });
  const yarn = { type: "yarn", factor: 4, originalLength: 512, betaFast: 32, betaSlow: 1 } as const;
  using session = new Session(scaled({ ...yarn, attentionFactor: 1.25 }));
  const file = fromBytes(await savedBytes(session), "a file");
  (await Session.restore(scaled({ attentionFactor: 1.25, ...yarn }), file))[Symbol.dispose]();
  for (const other of [scaled({ ...yarn, attentionFactor: 1.5 }), scaled(undefined), model]) {
    await rejects(Session.restore(other, file), /another model: ropeScaling must be/);
  }
});

test("a model without an identity saves and restores nothing", async () => {
  const { llama, tokenizer, profile, chat, endTokens, backend } = model;
  const nobody = { llama, tokenizer, profile, chat, endTokens, backend };
  using session = new Session(nobody);
  await rejects(session.save(join(folder, "nobody")), /must have an identity/);
  await rejects(Session.restore(nobody, folder), /identity/);
});

/** The embedded model's files, one of them changed. */
async function changedModel(name: string, change: (bytes: Uint8Array) => Uint8Array) {
  const files: Record<string, ReturnType<typeof fromBytes>> = {};
  for (const file of readdirSync(EMBEDDED_MODEL)) {
    const source = await openFile(join(new URL(EMBEDDED_MODEL).pathname, file));
    const bytes = new Uint8Array(source.byteLength);
    await source.read(bytes, 0);
    await source.close?.();
    files[file] = fromBytes(file === name ? change(bytes) : bytes, file);
  }
  return await loadModel(files, { threads: 1 });
}

const edit = (from: string, to: string) => (bytes: Uint8Array) => {
  const text = new TextDecoder().decode(bytes);
  ok(text.includes(from));
  return new TextEncoder().encode(text.replace(from, to));
};

test("the same model from elsewhere goes on, other ones are refused by what differs", async () => {
  using session = await sessionOf(300);
  const file = fromBytes(await savedBytes(session), "pocket.session");
  using same = await changedModel("README.md", (bytes) => bytes);
  deepEqual(same.identity, model.identity);
  using other = await same.restore(file);
  deepEqual(await other.logits(), await session.logits());

  using theta = await changedModel(
    "config.json",
    edit("200000.0", "300000.0"),
  );
  await rejects(theta.restore(file), /another model: ropeTheta must be 300000, got 200000/);
  using spaced = await changedModel("tokenizer.json", (bytes) => {
    return new Uint8Array([...bytes, 0x20]);
  });
  await rejects(spaced.restore(file), /fingerprint of the tokenizer must be/);
  using trained = await changedModel("model.safetensors", (bytes) => {
    bytes[bytes.length - 1]! ^= 1;
    return bytes;
  });
  notEqual(trained.identity.weights, model.identity.weights);
  await rejects(trained.restore(file), (error: unknown) => {
    ok(error instanceof SessionFileError);
    equal(error.source, "pocket.session");
    match(error.message, /another model of the same shape: the fingerprint of the weights/);
    return true;
  });
});

test("what is no session, and what a later release wrote, is refused", async () => {
  const path = join(folder, "none");
  for (
    const content of ["", "RSF", "It was a dark and stormy night, and the rain fell in torrents"]
  ) {
    writeFileSync(path, content);
    await rejects(model.restore(path), /is none$/);
  }
  await rejects(model.restore(join(folder, "missing")), /there is no such file/);
  using session = await sessionOf(3);
  const bytes = await savedBytes(session);
  bytes[8] = 2;
  await rejects(model.restore(fromBytes(bytes, "new")), /version must be 1, got 2, of a later/);
});
