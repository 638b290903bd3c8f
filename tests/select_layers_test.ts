// Which layers select is data: it comes from options or the profile, the others read a window, and
// traces say so.

import { deepEqual, equal, notDeepEqual, ok, throws } from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Needle, writeHaystack } from "../src/eval/haystack.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import { resolveSelectLayers } from "../src/llama/select_layers.ts";
import type { SelectionRecord } from "../src/llama/selection_record.ts";
import { Session } from "../src/llama/session.ts";
import type { SessionOptions } from "../src/llama/session_options.ts";
import { KvCache } from "../src/reattention/kv_cache.ts";
import { reattend } from "../src/reattention/reattention.ts";
import { createRope } from "../src/reattention/rope.ts";
import { fitScope, type ScopeConfig } from "../src/reattention/scope.ts";
import { backends } from "./support/long_test_backends.ts";
import { tensorOf } from "./support/handles.ts";
import { uniform } from "./support/random.ts";

let model: Model;
before(async () => {
  model = await loadModel(undefined, { threads: 1 });
});
after(() => model[Symbol.dispose]());

const QUESTION = "What is the special magic number for quiet-falcon?";

/** Prose of some 4,000 tokens, a fact a third into it. */
function text(): string {
  const needle: Needle = {
    kind: "magic",
    key: "",
    sentence: " One of the special magic numbers for quiet-falcon is: 7392148.",
    question: QUESTION,
    answer: "",
    depth: 1 / 3,
  };
  let text = "";
  for (const piece of writeHaystack({ seed: 3, length: 11_000, needles: [needle] })) {
    text += piece.text;
  }
  return text;
}

async function answer(session: Session): Promise<string> {
  let answer = "";
  for await (const piece of session.ask(QUESTION, { maxTokens: 16 })) answer += piece;
  return answer;
}

async function read(options: SessionOptions): Promise<Session> {
  const session = model.session(options);
  await session.prefill(model.tokenizer.encode(text()));
  return session;
}

test("a choice of layers comes out ascending and once, or is refused with what must hold", () => {
  deepEqual(resolveSelectLayers("all", 3), [0, 1, 2]);
  deepEqual(resolveSelectLayers([2, 0, 2], 3), [0, 2]);
  for (
    const [layers, error, message] of [
      [[3], RangeError, /integer from 0 to 2, the model's last layer, got 3/],
      [[-1], RangeError, /got -1/],
      [[0.5], RangeError, /got 0\.5/],
      [["1"], RangeError, /got "1"/],
      [[], RangeError, /at least one, got none.*select: "never"/],
      ["some", TypeError, /a list of indices or "all", got "some"/],
      [1, TypeError, /got 1/],
    ] as const
  ) {
    throws(
      () => resolveSelectLayers(layers as unknown as number[], 3),
      (cause: Error) => cause instanceof error && message.test(cause.message),
    );
  }
});

test("a session takes its layers from its options, else the profile, else all of them", () => {
  const profile = { ...model.profile!, selectLayers: [2] };
  const layersOf = (options: SessionOptions, from: typeof profile | null = profile) => {
    const { llama, backend, tokenizer } = model;
    using session = new Session(
      { llama, backend, tokenizer, profile: from, chat: null, endTokens: [] },
      options,
    );
    using fork = session.fork();
    deepEqual(fork.selectLayers, session.selectLayers);
    using other = session.fork({ selectLayers: [0] });
    deepEqual(other.selectLayers, [0]);
    return session.selectLayers;
  };
  deepEqual(layersOf({}), [2]);
  deepEqual(layersOf({ selectLayers: [3, 1] }), [1, 3]);
  deepEqual(layersOf({ selectLayers: "all" }), [0, 1, 2, 3]);
  deepEqual(layersOf({}, null), [0, 1, 2, 3]);
  throws(() => model.session({ selectLayers: [4] }), RangeError);
});

test("the embedded model selects where it was measured to matter", () => {
  const { selectLayers, calibration } = model.profile!;
  deepEqual(selectLayers, [1, 2]);
  const find = (layers: readonly number[]) =>
    calibration!.sets.find((set) => set.layers.join() === layers.join())!;
  const [all, chosen, none] = [find([0, 1, 2, 3]), find(selectLayers!), find([])];
  ok(chosen.right! >= all.right! && chosen.rightAlways! >= all.rightAlways!);
  ok(chosen.nll! <= all.nll! * (1 + calibration!.tolerance));
  ok(all.right! > none.right! && all.nll! < none.nll!);
  using session = model.session();
  deepEqual(session.selectLayers, [1, 2]);
});

test("only the chosen layers have records, and the answer comes through them", async () => {
  using session = await read({});
  for (
    const [selectLayers, right] of [["all", true], [[1], true], [[0, 2, 3], false]] as const
  ) {
    const records: SelectionRecord[] = [];
    using fork = session.fork({ selectLayers, onSelect: (record) => records.push(record) });
    equal((await answer(fork)).includes("7392148"), right, `${selectLayers}`);
    const layers = new Set(records.map(({ layer }) => layer));
    deepEqual([...layers].sort(), [...fork.selectLayers]);
  }
});

test("with no layer that selects, a step is the window's, to the bit", async () => {
  const { llama, backend, config } = model;
  const { numLayers, numHeads, numKvHeads, headDim } = config;
  const scope = model.profile!.scope!;
  const tokens = model.tokenizer.encode(text()).subarray(0, 1200);
  const run = async (scope: ScopeConfig, selectLayers?: readonly number[]) => {
    using cache = new KvCache(backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }));
    let hidden: number[] = [];
    for (let start = 0; start < tokens.length; start += 60) {
      const step = tokens.slice(start, start + 60);
      const options = { scope, selects: true, selectLayers, wantsHidden: true };
      hidden = [...await backend.read(await llama.forward(step, cache, options))];
    }
    return hidden;
  };
  const window = await run({ ...scope, topK: 0 });
  deepEqual(await run(scope, []), window);
  const all = await run(scope);
  deepEqual(await run(scope, [0, 1, 2, 3]), all);
  notDeepEqual(await run(scope, [1]), window);
  notDeepEqual(await run(scope, [1]), all);
});

test("layers before the first that selects leave the keys a window leaves", async () => {
  // Reading does not run the last layer's attention: where only that one selects, nothing differs.
  using last = await read({ select: "always", selectLayers: [3] });
  using never = await read({ select: "never" });
  using first = await read({ select: "always", selectLayers: [0] });
  const logits = async (session: Session) => {
    using fork = session.fork({ select: "never" });
    return await fork.logits();
  };
  deepEqual(await logits(last), await logits(never));
  notDeepEqual(await logits(first), await logits(never));
});

for (const { label, open } of backends) {
  test(`${label}: a layer that does not select attends as over a window, to the bit`, async () => {
    using backend = await open();
    const shape = { numLayers: 2, numHeads: 4, numKvHeads: 2, headDim: 16 };
    const rope = createRope(10000, shape.headDim);
    const selecting: ScopeConfig = {
      ...fitScope(64),
      globalSize: 4,
      localSize: 20,
      topK: 2,
      maxSpans: 4,
      spanSize: 4,
    };
    using cache = new KvCache(backend.kvStore(shape, { format: "f32" }));
    const attend = async (layer: number, step: number, selects: boolean, config: ScopeConfig) => {
      const rows = 10;
      const cols = shape.numHeads * shape.headDim;
      using query = tensorOf(backend, rows, cols, uniform(step, rows * cols));
      using key = tensorOf(backend, rows, cols / 2, uniform(step + 100, rows * cols / 2));
      using value = tensorOf(backend, rows, cols / 2, uniform(step + 200, rows * cols / 2));
      using out = backend.tensor(rows, cols);
      const call = { cache, layer, rope, config, selects };
      const { selection } = reattend(backend, out, query, key, value, call);
      return { out: await backend.read(out), selection };
    };
    let selected = 0;
    for (let step = 0; step < 8; step++) {
      cache.reserve(10);
      const window = await attend(0, step, true, { ...selecting, topK: 0 });
      cache.truncate(cache.length);
      cache.reserve(10);
      const without = await attend(0, step, false, selecting);
      // Another layer of the same step may select meanwhile.
      const other = await attend(1, step, true, selecting);
      cache.advance(10);
      equal(without.selection, null);
      deepEqual(without.out, window.out);
      selected += Number(other.selection !== null);
    }
    ok(selected > 0, "the other layer never selected");
  });
}
