// What evaluations do to save time changes no answer: shared, patched and shortened readings are
// held to the same texts read alone, to the last bit, and those to what sessions answer.

import { deepEqual, equal, ok } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { after, test } from "node:test";
import { modelAnswerer } from "../src/eval/answerer.ts";
import type { EvalCase } from "../src/eval/case.ts";
import { generatedSource } from "../src/eval/haystack_source.ts";
import { resolveMethod } from "../src/eval/methods.ts";
import { createNeedleCases } from "../src/eval/needle.ts";
import { encodeOpening, encodeQuestion } from "../src/eval/prompt.ts";
import { openSequence, readTokens, withoutUnfelt, writeAnswer } from "../src/eval/sequence.ts";
import { SharedReading } from "../src/eval/shared_reading.ts";
import { modelTokens } from "../src/eval/text_tokens.ts";
import { loadModel } from "../src/llama/load.ts";
import type { KvCache } from "../src/reattention/kv_cache.ts";

const model = await loadModel(undefined, { threads: 1 });
after(() => model[Symbol.dispose]());
const units = modelTokens(model.tokenizer);
const opening = encodeOpening(model, false);

function createCases(length: number, kinds: readonly string[], depths: readonly number[]) {
  const grid = { lengths: [length], depths, kinds, repeats: 1, seed: 7 };
  return createNeedleCases(units, generatedSource(units), grid);
}

/** A case's whole text as tokens. */
async function tokensOf({ shared }: EvalCase): Promise<Uint32Array> {
  const base = await shared!.base.tokens();
  const changed = base.slice();
  for (const { start, tokens } of shared!.patches(base)) changed.set(tokens, start);
  return Uint32Array.from([...opening, ...changed]);
}

/** Keys and values of all chunks. */
function contentsOf({ store, length }: KvCache): Uint8Array[] {
  return Array.from({ length: Math.ceil(length / store.chunkSize) }, (_, chunk) => {
    const bytes = new Uint8Array(store.chunkBytes);
    store.readChunk(bytes, chunk, Math.min(store.chunkSize, length - chunk * store.chunkSize));
    return bytes;
  });
}

test("a patched reading holds what the changed text would hold, to the last bit", async () => {
  const method = resolveMethod("reattention", model);
  const [first, second, , third] = createCases(4096, ["single", "multikey:2"], [0, 0.7]);
  const shared = new SharedReading(model, method, {});
  for (const task of [first!, second!, third!, first!]) {
    using patched = (await shared.open(task.shared!, opening))!;
    using alone = openSequence(model, method, {});
    await readTokens(model, method, alone.cache, await tokensOf(task));
    deepEqual(patched.length, alone.cache.length);
    const [actual, expected] = [contentsOf(patched), contentsOf(alone.cache)];
    const wrong = actual.findIndex((bytes, i) => Buffer.compare(bytes, expected[i]!) !== 0);
    equal(wrong, -1, `${task.id}: chunk ${wrong} of ${actual.length}`);
  }
  shared.close();
});

test("a text that is not read locally, or whose beginning differs, is read alone", async () => {
  const [near] = createCases(256, ["single"], [0]);
  const shared = new SharedReading(model, resolveMethod("reattention", model), {});
  equal((await shared.open(near!.shared!, opening))?.length, undefined);
  for (const name of ["reattention:always", "full", "window"]) {
    const [task] = createCases(4096, ["single"], [0.5]);
    const reading = new SharedReading(model, resolveMethod(name, model), {});
    equal(await reading.open(task!.shared!, opening), null, name);
  }
});

test("a window feels nothing of what is left out for it, to the last bit", async () => {
  const method = resolveMethod("window", model);
  const [task] = createCases(8192, ["single"], [0.95]);
  const { tokens: question } = encodeQuestion(model, task!, false);
  const text = await tokensOf(task!);
  const felt = withoutUnfelt(text, method, model.config.numLayers);
  ok(felt.length < text.length / 2);
  const answers: number[][] = [];
  const logits: Float32Array[] = [];
  for (const tokens of [text, felt]) {
    using sequence = openSequence(model, method, {});
    await readTokens(model, method, sequence.cache, tokens);
    const answer: number[] = [];
    const writing = writeAnswer(model, method, sequence.cache, question, { maxTokens: 8 });
    for await (const token of writing) answer.push(token);
    answers.push(answer);
    logits.push(await logitsAt(sequence.cache));
  }
  deepEqual(answers[1], answers[0]);
  deepEqual(logits[1], logits[0]);
});

/** What is expected after one more token, f32[vocabSize]. */
async function logitsAt(cache: KvCache): Promise<Float32Array> {
  const { llama, backend } = model;
  const { scope } = resolveMethod("window", model);
  const rules = { scope, selects: false, wantsHidden: true };
  const hidden = await llama.forward(Uint32Array.of(5), cache, rules);
  using logits = backend.tensor(1, llama.config.vocabSize);
  llama.logits(logits, hidden);
  return await backend.read(logits);
}

test("an answer is the one that a session gives", async () => {
  const [task] = createCases(2048, ["multikey:4"], [0.3]);
  const text = model.tokenizer.decode((await tokensOf(task!)).subarray(opening.length));
  for (const name of ["reattention", "reattention:always", "reattention:kvHead", "full"]) {
    const method = resolveMethod(name, model);
    const { scope, stepSize, select, selectLayers } = method;
    const options = { scope, stepSize, select, selectLayers, beyondTrainedLength: true };
    using session = model.session(options);
    const writer = session.writable().getWriter();
    await writer.write(text);
    await writer.close();
    let expected = "";
    for await (const piece of session.ask(task!.question.trim(), { maxTokens: task!.maxTokens })) {
      expected += piece;
    }
    using answerer = modelAnswerer(model, method);
    const { prediction, tokens } = await answerer.answer({ ...task!, settled: undefined });
    equal(prediction.trimStart(), expected, name);
    const question = encodeQuestion(model, task!, false).tokens;
    equal(tokens, (await tokensOf(task!)).length + question.length);
  }
});
