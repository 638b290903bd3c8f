// Every backend's append and attend, against the reference backend's float64 sums.

import { test } from "node:test";
import fc from "fast-check";
import type { Backend, KvFormat } from "../src/backend/backend.ts";
import { createRope, type RopeScaling } from "../src/reattention/rope.ts";
import { fitScope, type Scope, type ScopeConfig } from "../src/reattention/scope.ts";
import { machines } from "./support/backends.ts";
import { reference } from "./support/processors.ts";
import { append, type HeadShape, storeOf, tensorOf } from "./support/handles.ts";
import { tyingKeys } from "./support/keys.ts";
import { assertNear, attentionTolerance, outputOf } from "./support/outputs.ts";
import { integers, uniform } from "./support/random.ts";

const ROWS = [1, 3, 4, 7, 8, 63, 64, 65];
const KV_FORMATS = ["f32", "i16"] as const;

const EXACT: ScopeConfig = { ...fitScope(512), topK: 4, maxSpans: 5, spanSize: 4 };

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
