// Different ways to the same result: how steps are cut, which rule puts a token into the scope, and
// whether a sequence was forked, truncated or simply read must not matter.

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Backend } from "../src/backend/backend.ts";
import { KvCache } from "../src/reattention/kv_cache.ts";
import { reattend, ReAttention } from "../src/reattention/reattention.ts";
import { createRope } from "../src/reattention/rope.ts";
import {
  FULL_ATTENTION,
  planScope,
  scopeBound,
  type ScopeConfig,
} from "../src/reattention/scope.ts";
import { backends } from "./support/long_test_backends.ts";
import { reference } from "./support/processors.ts";
import { type HeadShape, tensorOf } from "./support/handles.ts";
import { assertNear, attentionTolerance } from "./support/outputs.ts";
import { uniform } from "./support/random.ts";

/** A sequence's unrotated queries, keys and values, f32[tokens, heads, headDim]. */
interface Inputs {
  readonly shape: HeadShape;
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
}

function inputsOf(shape: HeadShape, tokens: number, seed: number): Inputs {
  const { numHeads, numKvHeads, headDim } = shape;
  return {
    shape,
    query: uniform(seed, tokens * numHeads * headDim),
    key: uniform(seed + 1, tokens * numKvHeads * headDim),
    value: uniform(seed + 2, tokens * numKvHeads * headDim),
  };
}

/** Tokens [start, end) of a sequence. */
function slice({ shape, query, key, value }: Inputs, start: number, end: number): Inputs {
  const part = (x: Float32Array, heads: number) =>
    x.slice(start * heads * shape.headDim, end * heads * shape.headDim);
  const { numHeads, numKvHeads } = shape;
  return {
    shape,
    query: part(query, numHeads),
    key: part(key, numKvHeads),
    value: part(value, numKvHeads),
  };
}

/** Some tokens of a sequence, as a sequence. */
function gather(inputs: Inputs, tokens: Iterable<number>): Inputs {
  const parts = [...tokens].map((t) => slice(inputs, t, t + 1));
  const joined = (name: "query" | "key" | "value") =>
    Float32Array.from(parts.flatMap((part) => [...part[name]]));
  return {
    shape: inputs.shape,
    query: joined("query"),
    key: joined("key"),
    value: joined("value"),
  };
}

/** Reads a sequence in steps of the given sizes. */
async function read(
  backend: Backend,
  scope: Partial<ScopeConfig>,
  inputs: Inputs,
  steps: readonly number[],
  localStart?: number,
) {
  using attention = new ReAttention({ ...inputs.shape, scope, backend });
  const outputs: number[] = [];
  let positions = new Uint32Array();
  for (const step of steps) {
    const start = attention.length;
    const { query, key, value } = slice(inputs, start, start + step);
    const result = await attention.step(query, key, value, { localStart });
    outputs.push(...result.output);
    positions = Uint32Array.from(result.positions);
  }
  return { output: Float32Array.from(outputs), positions };
}

/** Steps of one size, the last one shorter. */
function stepsOf(size: number, tokens: number): number[] {
  return Array.from(
    { length: Math.ceil(tokens / size) },
    (_, i) => Math.min(size, tokens - i * size),
  );
}

/** The reference sums the same numbers in the same order; f32 kernels may cut the sums elsewhere. */
function toleranceOn(label: string, { shape, query, key, value }: Inputs, tokens: number): number {
  // Both sides are off.
  return label === reference.label
    ? 0
    : 2 * attentionTolerance(shape.headDim, tokens, query, key, value);
}

const SHAPE: HeadShape = { numHeads: 4, numKvHeads: 2, headDim: 16 };
const TOKENS = 150;

for (const { label, open } of backends) {
  const regions = { globalSize: 5, localSize: 10 };
  const ways: readonly (readonly [
    name: string,
    scope: Partial<ScopeConfig>,
    stepSize: number,
    localStart?: number,
  ])[] = [
    ["full attention in steps of 7", FULL_ATTENTION, 7],
    ["full attention token by token", FULL_ATTENTION, 1],
    ["a local region that covers all", { globalSize: 0, localSize: TOKENS, topK: 0 }, 7],
    ["an endless local region", { globalSize: 3, localSize: Infinity, topK: 4 }, 31],
    ["two regions that meet", { globalSize: 75, localSize: 75, topK: 0 }, 7],
    ["every token picked", { ...regions, topK: 1000, maxSpans: Infinity, spanSize: 2 }, 7],
    ["every token picked by every KV head", {
      ...regions,
      topK: 1000,
      maxSpans: Infinity,
      spanSize: 2,
      sharing: "kvHead",
    }, 7],
    ["a span that covers all", { ...regions, topK: 1, maxSpans: 1, spanSize: 2 * TOKENS }, 7],
    ["a span from a block's best that covers all", {
      ...regions,
      topK: 1,
      maxSpans: 1,
      spanSize: 2 * TOKENS,
      selector: "blockmax",
    }, 7],
    ["a local region pinned to all", { ...regions, topK: 4, maxSpans: 2, spanSize: 2 }, 7, 5],
    ["true positions", { ...FULL_ATTENTION, positions: "sequence" }, 7],
    ["true positions of picked tokens", {
      ...regions,
      topK: 1000,
      maxSpans: Infinity,
      spanSize: 2,
      positions: "sequence",
    }, 7],
  ];
  for (const [name, scope, stepSize, localStart] of ways) {
    test(`${label}: ${name} is full attention in one step`, async () => {
      using backend = await open();
      const inputs = inputsOf(SHAPE, TOKENS, 1);
      const expected = await read(backend, FULL_ATTENTION, inputs, [TOKENS]);
      const actual = await read(backend, scope, inputs, stepsOf(stepSize, TOKENS), localStart);
      deepEqual([...actual.positions], [...Array(TOKENS).keys()]);
      const tolerance = toleranceOn(label, inputs, TOKENS);
      assertNear(actual.output, expected.output, () => tolerance);
    });
  }

  test(`${label}: full attention is the same wherever steps are cut`, async () => {
    using backend = await open();
    const shapes = fc.constantFrom(
      SHAPE,
      { numHeads: 1, numKvHeads: 1, headDim: 2 },
      { numHeads: 3, numKvHeads: 1, headDim: 6 },
      { numHeads: 2, numKvHeads: 2, headDim: 64 },
    );
    const steps = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 });
    const property = fc.asyncProperty(shapes, steps, fc.nat(1e6), async (shape, steps, seed) => {
      const tokens = steps.reduce((sum, n) => sum + n, 0);
      const inputs = inputsOf(shape, tokens, seed);
      const whole = await read(backend, FULL_ATTENTION, inputs, [tokens]);
      const cut = await read(backend, FULL_ATTENTION, inputs, steps);
      const tolerance = toleranceOn(label, inputs, tokens);
      assertNear(cut.output, whole.output, () => tolerance);
    });
    await fc.assert(property, { seed: 1, numRuns: 30 });
  });

  test(`${label}: a step over a finite scope is full attention over that scope's tokens alone`, async () => {
    using backend = await open();
    const scopes = fc.record({
      globalSize: fc.nat(20),
      localSize: fc.integer({ min: 0, max: 40 }),
      topK: fc.nat(6),
      maxSpans: fc.nat(6),
      spanSize: fc.integer({ min: 1, max: 8 }).map((half) => 2 * half),
      scores: fc.constantFrom("qk" as const, "qkv1" as const, "qkv2" as const),
      selector: fc.constantFrom("exact" as const, "blockmax" as const),
    });
    const property = fc.asyncProperty(
      scopes,
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 30 }),
      fc.nat(1e6),
      async (scope, before, queries, seed) => {
        const length = before + queries;
        const inputs = inputsOf(SHAPE, length, seed);
        const { output, positions } = await read(backend, scope, inputs, [before, queries]);
        const config = { ...FULL_ATTENTION, ...scope };
        ok(positions.length <= scopeBound(config, queries));
        ok(positions.every((t, i) => i === 0 || t > positions[i - 1]!), "ascending");
        const { globalEnd, localStart } = planScope(config, length, queries);
        for (let t = 0; t < length; t++) {
          if (t < globalEnd || t >= localStart) ok(positions.includes(t), `${t} is in a region`);
        }
        const alone = await read(
          backend,
          FULL_ATTENTION,
          gather(inputs, positions),
          [positions.length - queries, queries].filter((step) => step > 0),
        );
        const newest = -queries * SHAPE.numHeads * SHAPE.headDim;
        const tolerance = toleranceOn(label, inputs, positions.length);
        assertNear(output.slice(newest), alone.output.slice(newest), () => tolerance);
      },
    );
    await fc.assert(property, { seed: 2, numRuns: 40 });
  });

  test(`${label}: keeping no span is the plain window`, async () => {
    using backend = await open();
    const inputs = inputsOf(SHAPE, TOKENS, 3);
    const window = { globalSize: 4, localSize: 20, topK: 0 };
    const steps = stepsOf(13, TOKENS);
    const plain = await read(backend, window, inputs, steps);
    const none = await read(backend, { ...window, topK: 4, maxSpans: 0 }, inputs, steps);
    deepEqual(none, plain);
    equal(plain.positions.length, 24);
  });

  test(`${label}: with one KV head, selecting per KV head is selecting per layer`, async () => {
    using backend = await open();
    const inputs = inputsOf({ numHeads: 4, numKvHeads: 1, headDim: 8 }, 300, 4);
    const scope = { globalSize: 4, localSize: 20, topK: 3, maxSpans: 4, spanSize: 4 };
    const layer = await read(backend, scope, inputs, stepsOf(17, 300));
    const kvHead = await read(backend, { ...scope, sharing: "kvHead" }, inputs, stepsOf(17, 300));
    deepEqual(kvHead, layer);
  });

  test(`${label}: a fork, and what is left after a truncation, go on as if nothing had been`, async () => {
    using backend = await open();
    const inputs = inputsOf(SHAPE, 400, 5);
    const other = inputsOf(SHAPE, 400, 6);
    const config: ScopeConfig = {
      ...FULL_ATTENTION,
      globalSize: 4,
      localSize: 20,
      topK: 4,
      maxSpans: 6,
      spanSize: 8,
    };
    const rope = createRope(1e4, SHAPE.headDim);
    const newCache = () =>
      new KvCache(backend.kvStore({ numLayers: 1, ...SHAPE }, { format: "i16", chunkSize: 64 }));
    const advance = async (cache: KvCache, from: Inputs, end: number) => {
      const results = [];
      while (cache.length < end) {
        const step = Math.min(23, end - cache.length);
        const { query, key, value } = slice(from, cache.length, cache.length + step);
        cache.reserve(step);
        using q = tensorOf(backend, step, 64, query);
        using k = tensorOf(backend, step, 32, key);
        using v = tensorOf(backend, step, 32, value);
        using out = backend.tensor(step, 64);
        const call = { cache, layer: 0, rope, config, selects: true };
        const { selection } = reattend(backend, out, q, k, v, call);
        cache.advance(step);
        // Not waited for in each step: a GPU answers all of them in about the time of one.
        results.push(Promise.all([selection?.tokens(), backend.read(out)]));
      }
      return await Promise.all(results);
    };
    for (const length of [1, 63, 64, 65, 200]) {
      using replay = newCache();
      await advance(replay, inputs, length);
      const expected = await advance(replay, inputs, 400);
      const expectedOther = await (async () => {
        using replay = newCache();
        await advance(replay, inputs, length);
        return await advance(replay, other, 300);
      })();

      using origin = newCache();
      await advance(origin, inputs, length);
      using fork = origin.fork();
      deepEqual(await advance(fork, other, 300), expectedOther);
      deepEqual(await advance(origin, inputs, 400), expected);
      fork.truncate(length);
      deepEqual(await advance(fork, inputs, 400), expected);
      origin.truncate(length);
      deepEqual(await advance(origin, other, 300), expectedOther);
    }
  });

  test(`${label}: a step that fails leaves the sequence as it was`, async () => {
    using backend = await open();
    const inputs = inputsOf(SHAPE, 60, 7);
    using attention = new ReAttention({ ...SHAPE, scope: FULL_ATTENTION, backend });
    const step = (start: number, end: number, localStart?: number) => {
      const { query, key, value } = slice(inputs, start, end);
      return attention.step(query, key, value, { localStart });
    };
    await step(0, 40);
    const { query, key, value } = slice(inputs, 40, 60);
    const failures = [
      attention.step(query, key.subarray(1), value),
      attention.step(query.subarray(0, 0), key.subarray(0, 0), value.subarray(0, 0)),
      attention.step(query, key, key.subarray(0, 5)),
      step(40, 60, -1),
      step(40, 60, 0.5),
    ];
    const settled = await Promise.allSettled(failures);
    ok(settled.every(({ status }) => status === "rejected"));
    equal(attention.length, 40);
    const { output } = await step(40, 60);
    const expected = await read(backend, FULL_ATTENTION, inputs, [40, 20]);
    deepEqual(output, expected.output.slice(-output.length));
  });
}

test("a step shorter than the global region keeps its tokens when the local region is pinned", async () => {
  using backend = await reference.open();
  const scope = { globalSize: 16, localSize: 4, topK: 1, maxSpans: 1, spanSize: 2 };
  const { positions } = await read(backend, scope, inputsOf(SHAPE, 5, 8), [2, 3], 16);
  deepEqual([...positions], [0, 1, 2, 3, 4]);
});
