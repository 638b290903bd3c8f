// Whole sessions on WebGPU: the CPU's tokens, through files, and through the loss of the device.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { openBackend } from "../src/backend/open.ts";
import { WebGpuBackend } from "../src/backend/webgpu/backend.ts";
import { openDevice } from "../src/backend/webgpu/open.ts";
import { DeviceLostError } from "../src/errors.ts";
import { writeHaystack } from "../src/eval/haystack.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import type { Session } from "../src/llama/session.ts";
import { gpu } from "./support/gpu.ts";
import { MemoryFile } from "./support/memory_file.ts";
import { savedBytes } from "./support/session_files.ts";

const skip = typeof gpu === "string" && gpu;

/** In Bun whole processes lose their devices: webgpu_process_test.ts. */
const long = skip || ("Bun" in globalThis && "Deno's run is enough");

/** Some 1,000 tokens, twice what is read at once, with a fact at a third of them. */
let story = "";
for (
  const piece of writeHaystack({ seed: 11, length: 3_000, needles: [] })
) story += piece.text;
const third = Math.floor(story.length / 3);
story = `${story.slice(0, third)} The pass key is 71432. Remember it. 71432 is the pass key. ${
  story.slice(third)
}`;

async function read(session: Session, text: string): Promise<void> {
  const writer = session.writable().getWriter();
  await writer.write(text);
  await writer.close();
}

/** What a session answers, token by token in words. */
async function answer(session: Session): Promise<string> {
  let text = "";
  for await (const piece of session.ask("What is the pass key?", { maxTokens: 6 })) text += piece;
  return text;
}

async function answerOn(model: Model): Promise<string> {
  using session = model.session();
  await read(session, story);
  return await answer(session);
}

test("pocket answers on webgpu as it does on the processor", { skip }, async () => {
  using processor = await loadModel(undefined, { threads: 1 });
  const expected = await answerOn(processor);
  match(expected, /^71432/);
  using model = await loadModel(undefined, { backend: "webgpu", allowSoftware: true });
  match(model.backend.description, /^webgpu, /);
  equal(await answerOn(model), expected);
});

test(
  "a session on webgpu whose values are in a file answers as if they were not",
  { skip: long },
  async () => {
    using model = await loadModel(undefined, { backend: "webgpu", allowSoftware: true });
    const spill = new MemoryFile();
    const cacheBytes = 3_550_000;
    using session = model.session({ cacheBytes, spill });
    await read(session, story);
    // The fact is in there.
    deepEqual([session.stats.spilledTokens, session.stats.forgottenTokens], [256, 0]);
    ok(session.stats.cacheBytes <= cacheBytes);
    equal(spill.reads, 0);
    using restored = await model.restore(fromBytes(await savedBytes(session), "a file"));
    equal(restored.length, session.length);
    equal(restored.stats.spilledTokens, 0);
    const { reads } = spill;
    // Both at once: they take turns in the model.
    const [actual, expected] = await Promise.all([session, restored].map(answer));
    equal(actual, expected);
    match(expected!, /^71432/);
    ok(spill.reads > reads);
    deepEqual(await session.logits(), await restored.logits());
  },
);

for (const when of ["while it reads", "while it writes"] as const) {
  test(`a session whose device is lost ${when} goes on with the processor's tokens, and says so`, {
    skip: long,
  }, async () => {
    using processor = await loadModel(undefined, { threads: 1 });
    using expected = processor.session();
    const tokens = processor.tokenizer.encode(story.slice(0, 3000));
    await expected.prefill(tokens);
    const written: number[] = [];
    for await (const token of expected.generate({ maxTokens: 6 })) written.push(token);

    using model = await loadModel(undefined, { backend: "webgpu", allowSoftware: true });
    const told: string[] = [];
    using session = model.session({ onDeviceLost: (message) => told.push(message) });
    const lose = () => (model.backend as WebGpuBackend).device.destroy();
    await session.prefill(tokens.subarray(0, 300));
    if (when === "while it reads") lose();
    await session.prefill(tokens.subarray(300));
    const actual: number[] = [];
    for await (const token of session.generate({ maxTokens: 6 })) {
      actual.push(token);
      if (when === "while it writes" && actual.length === 2) lose();
    }
    deepEqual(actual, written);
    equal(told.length, 1);
    match(told[0]!, /GPU device was lost.*wasm.* goes on, and reads \d+ tokens again/);
    equal(session.length, expected.length);
    // What it was before still cannot be used, and says why.
    await rejects(model.backend.sync(), DeviceLostError);
  });
}

test("a backend of the caller's own says that its device was lost", { skip }, async () => {
  const device = await openDevice({ allowSoftware: true });
  using backend = new WebGpuBackend(device, 2 ** 32, true);
  using x = backend.tensor(1, 4);
  backend.write(x, new Float32Array(4));
  device.destroy();
  await rejects(backend.read(x), DeviceLostError);
});

test("a program that acts as a GPU is declined unless it is asked for", { skip }, async () => {
  if (typeof gpu === "string" || !/llvmpipe|swiftshader/i.test(gpu.label)) return;
  await rejects(openBackend("webgpu"), {
    name: "BackendUnavailableError",
    message: /acts as one.*set allowSoftware/,
  });
  using backend = await openBackend("auto");
  equal(backend.name, "wasm");
});
