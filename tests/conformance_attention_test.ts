// Every backend's append, select and attend, against the reference backend's float64 sums.

import { deepEqual, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Backend, KvFormat, Selection } from "../src/backend/backend.ts";
import { createRope, type RopeScaling } from "../src/reattention/rope.ts";
import { fitScope, type Scope, type ScopeConfig } from "../src/reattention/scope.ts";
import { backends, machines } from "./support/backends.ts";
import { reference } from "./support/processors.ts";
import { append, type HeadShape, storeOf, tensorOf } from "./support/handles.ts";
import { assertNear, attentionTolerance, outputOf, u } from "./support/outputs.ts";
import { integers, uniform } from "./support/random.ts";

const ROWS = [1, 3, 4, 7, 8, 63, 64, 65];
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

/**
 * Keys with many ties, which backends must break alike to the last token: small integers in f32, where
 * every score is exact; in i16, which rounds, real numbers that come again and again.
 */
function tyingKeys(format: KvFormat, seed: number, rows: number, headDim: number): Float32Array {
  if (format === "f32") return integers(seed, rows * headDim, 2);
  const pool = Math.ceil(rows / 3);
  const numbers = uniform(seed, pool * headDim);
  const keys = new Float32Array(rows * headDim);
  integers(seed + 1, rows, pool).forEach((x, r) => {
    const from = Math.abs(x) % pool * headDim;
    keys.set(numbers.subarray(from, from + headDim), r * headDim);
  });
  return keys;
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

// --- append and attend ---

interface AttendCase {
  readonly shape: HeadShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly queries: number;
  readonly scope: Scope;
  /** Null: nothing is selected. */
  readonly config: ScopeConfig | null;
  readonly positions: ScopeConfig["positions"];
  readonly seed: number;
  readonly scaling?: RopeScaling;
}

function attendInputs({ shape, format, scope, queries, seed }: AttendCase) {
  const { numHeads, numKvHeads, headDim } = shape;
  return {
    // Integers, so that backends select the same; the attention itself does not care.
    query: integers(seed, queries * numHeads * headDim, 2).map((x) => x / 2),
    key: tyingKeys(format, seed + 1, scope.length * numKvHeads, headDim).map((x) => x / 2),
    value: uniform(seed + 2, scope.length * numKvHeads * headDim),
  };
}

function attendOn(backend: Backend, each: AttendCase): Promise<Float32Array> {
  const { shape, format, chunkSize, queries, scope, config } = each;
  const { query, key, value } = attendInputs(each);
  const cols = shape.numHeads * shape.headDim;
  using store = storeOf(backend, shape, { format, chunkSize }, key, value, 37);
  using q = tensorOf(backend, queries, cols, query);
  const rope = createRope(1e4, shape.headDim, each.scaling);
  const selection = config && backend.select(store, 0, q, scope, config);
  return outputOf(
    backend,
    queries,
    cols,
    (out) => backend.attend(out, q, store, 0, scope, selection, rope, each.positions),
  );
}

async function attendOnReference(each: AttendCase): Promise<Float32Array> {
  using oracle = await reference.open();
  return await attendOn(oracle, each);
}

/** The reference is slow, and several machines are compared with it. */
const attended = new Map<string, Promise<Float32Array>>();

async function assertAttendsLikeReference(backend: Backend, each: AttendCase): Promise<void> {
  const { query, key, value } = attendInputs(each);
  const tolerance = attentionTolerance(each.shape.headDim, each.scope.length, query, key, value);
  const name = JSON.stringify(each, (_, x) => x === Infinity ? "Infinity" : x);
  const expected = attended.get(name) ?? attendOnReference(each);
  attended.set(name, expected);
  assertNear(await attendOn(backend, each), await expected, () => tolerance, name);
}

const SHAPES: readonly HeadShape[] = [
  { numHeads: 8, numKvHeads: 4, headDim: 8 },
  { numHeads: 2, numKvHeads: 1, headDim: 128 },
  { numHeads: 4, numKvHeads: 2, headDim: 64 },
  { numHeads: 3, numKvHeads: 3, headDim: 6 },
  { numHeads: 6, numKvHeads: 2, headDim: 32 },
  { numHeads: 1, numKvHeads: 1, headDim: 2 },
];

for (const { label, open } of machines) {
  for (const length of [1, 3, 4, 7, 8, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513]) {
    test(`${label}: full attention over ${length} tokens matches the reference`, async () => {
      using backend = await open();
      for (const [index, shape] of SHAPES.entries()) {
        const each = {
          shape,
          scope: { globalEnd: length, localStart: length, length },
          config: null,
          chunkSize: index % 2 === 0 ? 256 : 16,
          format: KV_FORMATS[index % 2]!,
          positions: "scope",
          seed: length,
        } as const;
        for (const queries of [1, 3, 8].filter((queries) => queries <= length)) {
          await assertAttendsLikeReference(backend, { ...each, queries });
        }
      }
    });
  }

  for (const queries of ROWS) {
    test(`${label}: ${queries} queries attend to themselves causally as in the reference`, async () => {
      using backend = await open();
      for (const [index, shape] of SHAPES.entries()) {
        for (const before of [0, 1, 100]) {
          const length = before + queries;
          await assertAttendsLikeReference(backend, {
            shape,
            queries,
            // Whether the queries are in the global or in the local region makes no difference.
            scope: {
              globalEnd: [0, 1, length][index % 3]!,
              localStart: [0, 1, length][index % 3]!,
              length,
            },
            config: null,
            chunkSize: 64,
            format: KV_FORMATS[index % 2]!,
            positions: "scope",
            seed: queries,
          });
        }
      }
    });
  }

  test(`${label}: attention with scaled frequencies and yarn's factor matches the reference`, async () => {
    using backend = await open();
    const length = 700;
    for (const shape of SHAPES) {
      for (
        const scaling of [
          { type: "linear", factor: 4 },
          { type: "yarn", factor: 4, originalLength: 128 },
          { type: "yarn", factor: 4, originalLength: 128, attentionFactor: 0.5 },
        ] as const
      ) {
        for (const queries of [1, 40]) {
          await assertAttendsLikeReference(backend, {
            shape,
            queries,
            scaling,
            scope: { globalEnd: length, localStart: length, length },
            config: null,
            chunkSize: 64,
            format: "f32",
            positions: "sequence",
            seed: 5,
          });
        }
      }
    }
  });

  test(`${label}: attention over any scope matches the reference`, async () => {
    using backend = await open();
    const cases = fc.record({
      shape: fc.constantFrom(...SHAPES),
      format: fc.constantFrom(...KV_FORMATS),
      chunkSize: fc.constantFrom(16, 48, 256),
      queries: fc.constantFrom(1, 2, 5, 33),
      globalEnd: fc.integer({ min: 0, max: 40 }),
      middle: fc.integer({ min: 0, max: 300 }),
      later: fc.integer({ min: 0, max: 80 }),
      seed: fc.integer({ min: 0, max: 1e6 }),
      positions: fc.constantFrom("scope" as const, "sequence" as const),
      config: fc.option(
        fc.record({
          globalSize: fc.constant(0),
          localSize: fc.constant(0),
          positions: fc.constant("scope" as const),
          topK: fc.integer({ min: 1, max: 8 }),
          maxSpans: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(Infinity)),
          spanSize: fc.integer({ min: 1, max: 16 }).map((half) => 2 * half),
          sharing: fc.constantFrom("layer" as const, "kvHead" as const),
          scores: fc.constant("qk" as const),
          selector: fc.constantFrom("exact" as const, "blockmax" as const),
          votes: fc.constant("count" as const),
          voteEvery: fc.constant(1),
        }),
      ),
    });
    const property = fc.asyncProperty(
      cases,
      async ({ globalEnd, middle, later, config, ...rest }) => {
        const localStart = globalEnd + middle;
        const scope = { globalEnd, localStart, length: localStart + rest.queries + later };
        const selects = middle > 0 ? config : null;
        await assertAttendsLikeReference(backend, { ...rest, scope, config: selects });
      },
    );
    await fc.assert(property, { seed: 21, numRuns: 80 });
  });

  for (const group of [1, 3, 4, 7]) {
    test(`${label}: a few rows of ${group} query heads a KV head match the reference`, async () => {
      using backend = await open();
      for (const [index, headDim] of [6, 64, 80, 128].entries()) {
        for (const queries of [1, 2, 3, 4, 5]) {
          await assertAttendsLikeReference(backend, {
            shape: { numHeads: 2 * group, numKvHeads: 2, headDim },
            queries,
            scope: { globalEnd: 7, localStart: 7, length: 50 + queries },
            config: null,
            chunkSize: 16,
            format: KV_FORMATS[(index + queries) % 2]!,
            positions: "scope",
            seed: queries,
          });
        }
      }
    });
  }

  // What is gathered at once, turned from one place, and attended to by one thread.
  for (const edge of [24, 384, 2304]) {
    test(`${label}: a few rows match the reference where the scope has about ${edge} tokens`, async () => {
      using backend = await open();
      for (const length of [edge - 1, edge, edge + 1, edge + 5]) {
        for (const queries of [1, 2, 3]) {
          await assertAttendsLikeReference(backend, {
            shape: { numHeads: 3, numKvHeads: 1, headDim: 6 },
            queries,
            scope: { globalEnd: length, localStart: length, length },
            config: null,
            chunkSize: 256,
            format: KV_FORMATS[length % 2]!,
            positions: "scope",
            seed: length,
          });
        }
      }
    });
  }

  for (const positions of ["scope", "sequence"] as const) {
    test(`${label}: a few rows match the reference with a list for each KV head, ${positions} positions`, async () => {
      using backend = await open();
      // The lists end on both sides of 2304 tokens: KV heads differ in how many pieces they have.
      for (const [index, globalEnd] of [0, 900, 1000].entries()) {
        await assertAttendsLikeReference(backend, {
          shape: { numHeads: 6, numKvHeads: 3, headDim: 8 },
          queries: 1 + index,
          scope: { globalEnd, localStart: 2000, length: 3300 },
          config: { ...EXACT, sharing: "kvHead", topK: 5, maxSpans: 8, spanSize: 14 },
          chunkSize: 48,
          format: KV_FORMATS[index % 2]!,
          positions,
          seed: index,
        });
      }
    });
  }

  test(`${label}: true positions are as exact at 100,000 tokens as at the start`, async () => {
    const shape = { numHeads: 2, numKvHeads: 1, headDim: 8 };
    const [query, key, value] = [1, 2, 3].map((seed) => uniform(seed, 20 * 16));
    const outputs = [await reference.open(), await open()].map(async (opened) => {
      using backend = opened;
      using store = backend.kvStore({ numLayers: 1, ...shape }, { format: "f32" });
      store.reserve(100_000);
      append(backend, store, 0, 0, key!.subarray(0, 32), value!.subarray(0, 32), 4);
      // Tokens 4 to 99,983 are never read.
      using k = tensorOf(backend, 16, 8, key!.subarray(32, 160));
      using v = tensorOf(backend, 16, 8, value!.subarray(32, 160));
      backend.append(store, 0, 99_984, k, v);
      using q = tensorOf(backend, 3, 16, query!.subarray(0, 48));
      const scope = { globalEnd: 4, localStart: 99_984, length: 100_000 };
      const rope = createRope(1e4, 8);
      return await outputOf(
        backend,
        3,
        16,
        (out) => backend.attend(out, q, store, 0, scope, null, rope, "sequence"),
      );
    });
    const [expected, actual] = await Promise.all(outputs);
    const tolerance = attentionTolerance(8, 20, query!, key!, value!);
    assertNear(actual!, expected!, () => tolerance);
  });
}
