// Every backend's select, against the reference backend's float64 sums.

import { deepEqual, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Backend, KvFormat, Selection } from "../src/backend/backend.ts";
import { fitScope, type Scope, type ScopeConfig } from "../src/reattention/scope.ts";
import { backends, machines } from "./support/backends.ts";
import { reference } from "./support/processors.ts";
import { type HeadShape, storeOf, tensorOf } from "./support/handles.ts";
import { tyingKeys } from "./support/keys.ts";
import { u } from "./support/outputs.ts";
import { integers, uniform } from "./support/random.ts";

const KV_FORMATS = ["f32", "i16"] as const;

const EXACT: ScopeConfig = { ...fitScope(512), topK: 4, maxSpans: 5, spanSize: 4 };
const RULES: readonly Partial<ScopeConfig>[] = [
  {},
  { sharing: "kvHead" },
  { scores: "qkv1" },
  { scores: "qkv2", sharing: "kvHead" },
  { selector: "blockmax" },
  { selector: "blockmax", sharing: "kvHead", topK: 1, scores: "qkv1" },
  { topK: 1, maxSpans: 1, spanSize: 2 },
  { topK: 3, maxSpans: Infinity, spanSize: 16 },
  { topK: 17, maxSpans: 40 },
  { topK: 1000, maxSpans: Infinity, spanSize: 2 },
  { maxSpans: 0 },
  { votes: "margin" },
  { votes: "margin", sharing: "kvHead", topK: 8, voteEvery: 2 },
  { votes: "margin", selector: "blockmax", scores: "qkv1" },
  { votes: "margin", topK: 1000, maxSpans: 7 },
  { voteEvery: 3 },
  { voteEvery: 100 },
];

/** What both ways of selecting need. */
interface SelectCase {
  readonly shape: HeadShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly queries: number;
  readonly scope: Scope;
  readonly config: ScopeConfig;
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
}

async function selectedOn(backend: Backend, each: SelectCase): Promise<number[][]> {
  const { shape, format, chunkSize, queries, scope, config } = each;
  using store = storeOf(backend, shape, { format, chunkSize }, each.key, each.value);
  using query = tensorOf(backend, queries, shape.numHeads * shape.headDim, each.query);
  const lists = await backend.select(store, 0, query, scope, config).tokens();
  return lists.map((list) => [...list]);
}

/** Ties, and queries of small integers. Values have one component each, so that their norms are exact. */
function tyingCase(seed: number, rest: Omit<SelectCase, "query" | "key" | "value">): SelectCase {
  const { numHeads, numKvHeads, headDim } = rest.shape;
  const rows = rest.scope.length * numKvHeads;
  const value = new Float32Array(rows * headDim);
  integers(seed, rows, 3).forEach((x, i) => value[i * headDim + i % headDim] = x);
  return {
    ...rest,
    query: integers(seed + 1, rest.queries * numHeads * headDim, 2),
    key: tyingKeys(rest.format, seed + 2, rows, headDim),
    value,
  };
}

for (const { label, open } of machines) {
  for (const middle of [1, 3, 4, 7, 8, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513]) {
    test(`${label}: select agrees with the reference, ties included, on a middle of ${middle} tokens`, async () => {
      using oracle = await reference.open();
      using backend = await open();
      for (const [index, rules] of RULES.entries()) {
        const globalEnd = index % 3 * 5;
        const each = tyingCase(middle * 100 + index, {
          shape: { numHeads: 4, numKvHeads: 2, headDim: 8 },
          format: KV_FORMATS[index % 2]!,
          chunkSize: [16, 64, 256][index % 3]!,
          queries: 3,
          scope: { globalEnd, localStart: globalEnd + middle, length: globalEnd + middle + 3 },
          config: { ...EXACT, ...rules },
        });
        const expected = await selectedOn(oracle, each);
        deepEqual(await selectedOn(backend, each), expected, JSON.stringify(rules));
      }
    });
  }

  test(`${label}: select agrees with the reference on any shape, rule and length`, async () => {
    using oracle = await reference.open();
    using backend = await open();
    const shapes = fc.constantFrom(
      { numHeads: 1, numKvHeads: 1, headDim: 2 },
      { numHeads: 2, numKvHeads: 2, headDim: 6 },
      { numHeads: 8, numKvHeads: 4, headDim: 8 },
      { numHeads: 6, numKvHeads: 2, headDim: 16 },
      { numHeads: 4, numKvHeads: 2, headDim: 64 },
      { numHeads: 2, numKvHeads: 1, headDim: 128 },
    );
    const cases = fc.record({
      shape: shapes,
      format: fc.constantFrom(...KV_FORMATS),
      chunkSize: fc.constantFrom(16, 48, 256),
      queries: fc.constantFrom(1, 2, 5, 64),
      globalEnd: fc.integer({ min: 0, max: 40 }),
      middle: fc.integer({ min: 1, max: 300 }),
      later: fc.integer({ min: 0, max: 40 }),
      seed: fc.integer({ min: 0, max: 1e6 }),
      config: fc.record({
        globalSize: fc.constant(0),
        localSize: fc.constant(0),
        positions: fc.constant("scope" as const),
        topK: fc.integer({ min: 1, max: 20 }),
        maxSpans: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(Infinity)),
        spanSize: fc.integer({ min: 1, max: 20 }).map((half) => 2 * half),
        sharing: fc.constantFrom("layer" as const, "kvHead" as const),
        scores: fc.constantFrom("qk" as const, "qkv1" as const, "qkv2" as const),
        selector: fc.constantFrom("exact" as const, "blockmax" as const),
        votes: fc.constantFrom("count" as const, "margin" as const),
        voteEvery: fc.integer({ min: 1, max: 9 }),
      }),
    });
    const property = fc.asyncProperty(
      cases,
      async ({ globalEnd, middle, later, seed, ...rest }) => {
        const localStart = globalEnd + middle;
        const scope = { globalEnd, localStart, length: localStart + rest.queries + later };
        // Sums of margins tie alike only where scores are exact.
        const format = rest.config.votes === "margin" ? "f32" : rest.format;
        const each = tyingCase(seed, { ...rest, format, scope });
        deepEqual(await selectedOn(backend, each), await selectedOn(oracle, each));
      },
    );
    await fc.assert(property, { seed: 20, numRuns: 80 });
  });

  test(`${label}: select ranks real numbers as float64 sums do where these are apart`, async () => {
    using oracle = await reference.open();
    using backend = await open();
    let compared = 0;
    for (let seed = 0; seed < 40; seed++) {
      const headDim = [8, 64, 128][seed % 3]!;
      const key = uniform(seed, 200 * headDim);
      const query = uniform(seed + 1000, headDim);
      // All factors are below 1, so sum |q * k| is below headDim: a score is off by at most
      // headDim^2 * u. Picks are comparable where the last one is twice that above the next.
      const scores = Array.from(
        { length: 190 },
        (_, t) => query.reduce((sum, x, d) => sum + x * key[(5 + t) * headDim + d]!, 0),
      ).sort((a, b) => b - a);
      if (scores[3]! - scores[4]! <= 2 * headDim ** 2 * u) continue;
      compared++;
      const each: SelectCase = {
        shape: { numHeads: 1, numKvHeads: 1, headDim },
        format: "f32",
        chunkSize: 64,
        queries: 1,
        scope: { globalEnd: 5, localStart: 195, length: 200 },
        config: { ...EXACT, maxSpans: Infinity, spanSize: 2 },
        query,
        key,
        value: key,
      };
      deepEqual(await selectedOn(backend, each), await selectedOn(oracle, each), `seed ${seed}`);
    }
    ok(compared >= 30, `only ${compared} of 40 had their picks apart`);
  });
}

for (const { label, open } of backends) {
  for (const format of KV_FORMATS) {
    test(`${label}: equal ${format} keys go to the earlier token, across chunks too`, async () => {
      using backend = await open();
      for (const headDim of [8, 64, 128]) {
        // Real numbers, whose sums round: only the same arithmetic for every token can tie. Every
        // third token has the best key; query and shape are such that all votes tie as well.
        const best = uniform(headDim, headDim);
        const key = new Float32Array(600 * headDim);
        for (let t = 0; t < 600; t++) {
          key.set(t % 3 === 1 ? best : best.map((x) => x / 2), t * headDim);
        }
        for (const chunkSize of [16, 256]) {
          for (const globalEnd of [0, 1, 7, 250, 256]) {
            const each: SelectCase = {
              shape: { numHeads: 1, numKvHeads: 1, headDim },
              format,
              chunkSize,
              queries: 1,
              scope: { globalEnd, localStart: 599, length: 600 },
              config: { ...EXACT, topK: 40, maxSpans: 9, spanSize: 2 },
              query: best,
              key,
              value: key,
            };
            const picks = [...Array(600).keys()].filter((t) => t >= globalEnd && t % 3 === 1);
            // A span of 2 is the token before the pick, if that is in the middle, and the pick.
            const expected = picks.slice(0, 9).flatMap((t) => t > globalEnd ? [t - 1, t] : [t]);
            deepEqual(await selectedOn(backend, each), [expected], `chunks of ${chunkSize}`);
          }
        }
      }
    });
  }

  test(`${label}: blockmax fills a query's missing picks with the first middle token`, async () => {
    using backend = await open();
    const shape = { numHeads: 1, numKvHeads: 1, headDim: 2 };
    const key = new Float32Array(2 * 300);
    key[2 * 60] = 3; // the best of the first block, [10, 138)
    key[2 * 200] = 2; // the best of the second, [138, 266)
    key[2 * 61] = 2.5; // never: its block has a better one
    const config: ScopeConfig = {
      ...EXACT,
      selector: "blockmax",
      topK: 3,
      maxSpans: Infinity,
      spanSize: 2,
    };
    const each: SelectCase = {
      shape,
      format: "f32",
      chunkSize: 16,
      queries: 1,
      scope: { globalEnd: 10, localStart: 266, length: 300 },
      config,
      query: Float32Array.of(1, 0),
      key,
      value: key,
    };
    deepEqual(await selectedOn(backend, each), [[10, 59, 60, 199, 200]]);
    const two = { ...each, config: { ...config, topK: 2 } };
    deepEqual(await selectedOn(backend, two), [[59, 60, 199, 200]]);
  });

  test(`${label}: by margin, one query that looks for something outvotes many that do not`, async () => {
    using backend = await open();
    // Nine queries find tokens 60 and 20 hardly better than 30; the tenth finds 40 much better than 30.
    const key = new Float32Array(200);
    key.set([3, 0], 2 * 20);
    key.set([2, 4], 2 * 30);
    key.set([0, 9], 2 * 40);
    key.set([4, 0], 2 * 60);
    const query = Float32Array.from(
      { length: 20 },
      (_, i) => Number(i < 18 ? i % 2 === 0 : i === 19),
    );
    const each: SelectCase = {
      shape: { numHeads: 1, numKvHeads: 1, headDim: 2 },
      format: "f32",
      chunkSize: 16,
      queries: 10,
      scope: { globalEnd: 10, localStart: 90, length: 100 },
      config: { ...EXACT, topK: 2, maxSpans: 2, spanSize: 2 },
      query,
      key,
      value: key,
    };
    const selected = (rules: Partial<ScopeConfig>) =>
      selectedOn(backend, { ...each, config: { ...each.config, ...rules } });
    deepEqual(await selected({}), [[19, 20, 59, 60]]);
    deepEqual(await selected({ votes: "margin", maxSpans: 1 }), [[59, 60]]); // 9 x 1 against 5
    deepEqual(await selected({ votes: "margin" }), [[39, 40, 59, 60]]);
    deepEqual(await selected({ votes: "margin", maxSpans: 1, voteEvery: 3 }), [[39, 40]]); // 3 against 5
    deepEqual(await selected({ voteEvery: 10 }), [[29, 30, 39, 40]]);
    // Nothing stands out where all there is was picked, as long as all scores are alike.
    const alike = { ...each, key: new Float32Array(200).fill(1) };
    const config: ScopeConfig = { ...each.config, votes: "margin", maxSpans: 1 };
    deepEqual(await selectedOn(backend, { ...alike, config }), [[10]]);
  });

  test(`${label}: query heads pick among the keys of their own KV head`, async () => {
    using backend = await open();
    const shape = { numHeads: 4, numKvHeads: 2, headDim: 2 };
    // KV head 0 has its best keys at tokens 20 (first component) and 30; KV head 1 at 40 and 50.
    const key = new Float32Array(100 * 4);
    [20 * 4, 30 * 4 + 1, 40 * 4 + 2, 50 * 4 + 3].forEach((i) => key[i] = 1);
    const components = [[1, 0], [0, 1], [1, 0], [0, 1]];
    for (const sharing of ["layer", "kvHead"] as const) {
      for (const [head, pick] of [20, 30, 40, 50].entries()) {
        // The other heads look for what is nowhere and take the middle's first token.
        const query = new Float32Array(8).fill(-1);
        query.set(components[head]!, 2 * head);
        const each: SelectCase = {
          shape,
          format: "f32",
          chunkSize: 16,
          queries: 1,
          scope: { globalEnd: 10, localStart: 90, length: 100 },
          config: { ...EXACT, topK: 1, spanSize: 2, sharing },
          query,
          key,
          value: key,
        };
        const near = [pick - 1, pick];
        const expected = sharing === "layer"
          ? [[10, ...near]]
          : head < 2
          ? [[10, ...near], [10]]
          : [[10], [10, ...near]];
        deepEqual(await selectedOn(backend, each), expected, `head ${head}`);
      }
    }
  });

  test(`${label}: a selection's tokens are those at the time of the call`, async () => {
    using backend = await open();
    const shape = { numHeads: 1, numKvHeads: 1, headDim: 2 };
    const key = Float32Array.from({ length: 200 }, (_, i) => i % 2 === 0 ? i : 0);
    using store = storeOf(backend, shape, { format: "f32", chunkSize: 16 }, key, key);
    const scope = { globalEnd: 10, localStart: 90, length: 100 };
    const select = (sign: number): Selection => {
      using query = tensorOf(backend, 1, 2, Float32Array.of(sign, 0));
      return backend.select(store, 0, query, scope, { ...EXACT, topK: 1, spanSize: 2 });
    };
    const highest = select(1).tokens();
    const lowest = select(-1).tokens();
    deepEqual(await highest, [Uint32Array.of(88, 89)]);
    deepEqual(await lowest, [Uint32Array.of(10)]);
  });
}
