// A needle in 16,384 tokens, found on WebGPU: what a real text's keys and values make of the whole selection there.

import { deepEqual, equal, ok } from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import type { Backend, KvStore, Tensor } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";
import { createNeedles, writeHaystack } from "../src/eval/haystack.ts";
import { type Method, resolveMethod } from "../src/eval/methods.ts";
import { openSequence, readTokens, writeAnswer } from "../src/eval/sequence.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import { completeQuestion } from "../src/llama/profile.ts";
import type { KvCache } from "../src/reattention/kv_cache.ts";
import { tensorOf } from "./support/handles.ts";
import { gpu } from "./support/gpu.ts";

const LENGTH = 16_384;

const isSoftware = typeof gpu !== "string" && /llvmpipe|lavapipe|swiftshader/i.test(gpu.label);
/** A program that acts as a GPU takes a minute to read that much. */
const readsThere = !isSoftware || process.env.WEBGPU_READS_ALL !== undefined;

const skip = typeof gpu === "string" ? gpu : "Bun" in globalThis && "Deno's run is enough";
if (skip === false && !readsThere) {
  console.log(
    "!! webgpu's needle at 16K: the processor reads the text, because there is no GPU; " +
      "set WEBGPU_READS_ALL to have WebGPU read it, too",
  );
}

const [needle] = createNeedles(["passkey"], 8);
let text = "";
for (const piece of writeHaystack({ seed: 8, length: 4 * LENGTH, needles: [needle!] })) {
  text += piece.text;
}

/** The backend, all of whose appended keys and values are copied to another one's store. */
function mirroring(from: Backend, to: Backend, store: () => KvStore): Backend {
  const append: Backend["append"] = (own, layer, start, key, value) => {
    from.append(own, layer, start, key, value);
    void copyRows(layer, start, key, value);
  };
  const copyRows = async (layer: number, start: number, key: Tensor, value: Tensor) => {
    // The processor's reads have happened when they return.
    const rows = [from.read(key), from.read(value)];
    const [k, v] = (await Promise.all(rows)).map((values) =>
      tensorOf(to, key.rows, key.cols, values)
    );
    to.append(store(), layer, start, k!, v!);
    k![Symbol.dispose]();
    v![Symbol.dispose]();
  };
  return new Proxy(from, {
    get(target, name) {
      if (name === "append") return append;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The answer's tokens, to a question that is asked of what was read. */
async function answer(
  model: Model,
  method: Method,
  cache: KvCache,
  question: Uint32Array,
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of writeAnswer(model, method, cache, question, { maxTokens: 6 })) {
    tokens.push(token);
  }
  return tokens;
}

test("webgpu finds a needle in 16,384 tokens, as the processor does", { skip }, async () => {
  using model = await loadModel(undefined, { backend: "webgpu", allowSoftware: true });
  const { tokenizer, backend } = model;
  const method = resolveMethod("reattention", model);
  using sequence = openSequence(model, method, {});
  const { cache } = sequence;
  const { text: form } = completeQuestion(model.profile!, needle!.question)!;
  const question = tokenizer.encode(form, { special: false, continuation: true });
  // The question ends the 16,384.
  const tokens = Uint32Array.of(tokenizer.bosToken!, ...tokenizer.encode(text))
    .slice(0, LENGTH - question.length);
  ok(tokenizer.decode(tokens).includes(needle!.sentence));

  using processor = await openBackend("wasm", { threads: 1 });
  const reading = readsThere ? processor : mirroring(processor, backend, () => cache.store);
  using reader = await loadModel(undefined, { backend: reading });
  using expected = openSequence(reader, method, {});
  if (readsThere) await readTokens(model, method, cache, tokens);
  else cache.reserve(tokens.length);
  await readTokens(reader, method, expected.cache, tokens);
  if (!readsThere) {
    await backend.sync();
    cache.advance(tokens.length);
  }
  equal(cache.length, expected.cache.length);

  using plain = await loadModel(undefined, { backend: processor });
  const written = await answer(plain, method, expected.cache, question);
  deepEqual(await answer(model, method, cache, question), written);
  ok(tokenizer.decode(written).includes(needle!.answer), tokenizer.decode(written));
});
