// What is WebGPU's own: weights that stay quantised, and everything that is cut into buffers a device can bind.

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import type { Backend, Tensor, WeightFormat } from "../src/backend/backend.ts";
import { WebGpuBackend } from "../src/backend/webgpu/backend.ts";
import { openDevice } from "../src/backend/webgpu/open.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import { fitScope, type ScopeConfig } from "../src/reattention/scope.ts";
import { gpu } from "./support/gpu.ts";
import { reference } from "./support/processors.ts";
import { append, randomWeight, storeOf, tensorOf, weightSource } from "./support/handles.ts";
import { MemoryFile } from "./support/memory_file.ts";
import { assertNear, attentionTolerance, outputOf, u } from "./support/outputs.ts";
import { integers, mulberry32, uniform } from "./support/random.ts";

const skip = typeof gpu === "string" && gpu;

/** A kernel takes seconds to compile: in Bun one of each kind of blocks is tried. */
const briefly = (format: WeightFormat) =>
  "Bun" in globalThis && !["q8_0", "q4_k", "q6_k"].includes(format) && "Deno's run is enough";

/** Numbers of a block, its bytes, and where its f16 are. */
const BLOCKS: Partial<Record<WeightFormat, readonly [number, number, readonly number[]]>> = {
  q8_0: [32, 34, [0]],
  q4_0: [32, 18, [0]],
  q4_1: [32, 20, [0, 2]],
  q5_0: [32, 22, [0]],
  q5_1: [32, 24, [0, 2]],
  q4_k: [256, 144, [0, 2]],
  q5_k: [256, 176, [0, 2]],
  q6_k: [256, 210, [208]],
};

/** Blocks of any bits, with scales around 0.01 that are positive or negative. */
function blocksOf(format: WeightFormat, rows: number, cols: number): Uint8Array {
  const [numbers, size, halves] = BLOCKS[format]!;
  const random = mulberry32(rows + cols);
  const bytes = Uint8Array.from({ length: rows * cols / numbers * size }, () => random() * 256);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += size) {
    for (const half of halves) {
      view.setUint16(at + half, 0x2000 + random() * 1024 + (random() < 0.3 ? 0x8000 : 0), true);
    }
  }
  return bytes;
}

for (const format of Object.keys(BLOCKS) as WeightFormat[]) {
  test(
    `webgpu: products with ${format} weights are float64's, for few rows and for many to the same bit`,
    { skip: skip || briefly(format) },
    async () => {
      ok(typeof gpu !== "string");
      using oracle = await reference.open();
      using backend = new WebGpuBackend(gpu, 2 ** 32, false);
      for (const [cols, outputs] of [[256, 9], [512, 67]] as const) {
        const source = weightSource(format, outputs, cols, blocksOf(format, outputs, cols));
        using weight = await backend.weight(source);
        using same = await oracle.weight(source);
        using table = tensorOf(oracle, outputs, cols, new Float32Array(outputs * cols));
        oracle.embed(table, same, Uint32Array.from({ length: outputs }, (_, i) => i));
        const sizes = (await oracle.read(table)).map(Math.abs);
        using magnitudes = await oracle.weight(
          weightSource("f32", outputs, cols, new Uint8Array(sizes.buffer)),
        );
        const values = uniform(cols, 9 * cols);
        using x = tensorOf(backend, 9, cols, values);
        using there = tensorOf(oracle, 9, cols, values);
        using large = tensorOf(oracle, 9, cols, values.map(Math.abs));
        const all = await outputOf(backend, 9, outputs, (out) => backend.matmul(out, x, weight));
        const expected = await outputOf(
          oracle,
          9,
          outputs,
          (out) => oracle.matmul(out, there, same),
        );
        const sums = await outputOf(
          oracle,
          9,
          outputs,
          (out) => oracle.matmul(out, large, magnitudes),
        );
        // A number is rounded twice before its product: scale and minimum.
        assertNear(all, expected, (i) => (cols + 3) * u * sums[i]! * 2, format);
        const last = backend.rows(x, 8, 9);
        const one = await outputOf(backend, 1, outputs, (out) => backend.matmul(out, last, weight));
        deepEqual(one, all.slice(8 * outputs));
      }
    },
  );
}

test("webgpu: whatever is larger than a buffer is cut, and gives the same", { skip }, async () => {
  // 64 KiB: a weight in several parts, caches in several slabs, scopes in pieces, scans in tiles.
  const device = await openDevice({ allowSoftware: true }, { bindingBytes: 64 << 10 });
  using oracle = await reference.open();
  using backend = new WebGpuBackend(device, 2 ** 32, true);
  const each = async (what: string, run: (on: Backend) => Promise<unknown>) =>
    deepEqual(await run(backend), await run(oracle), what);

  // Integers, so that nothing is rounded.
  const rows = 1500;
  const weight = integers(1, rows * 16, 3);
  const source = weightSource("f32", rows, 16, new Uint8Array(weight.buffer));
  const x = integers(2, 6 * 16, 3);
  await each("a weight", async (on) => {
    using matrix = await on.weight(source);
    using input = tensorOf(on, 6, 16, x);
    const one = on.rows(input, 2, 3);
    return [
      await outputOf(on, 6, rows, (out) => on.matmul(out, input, matrix)),
      await outputOf(on, 1, rows, (out) => on.matmul(out, one, matrix)),
      await outputOf(
        on,
        4,
        16,
        (out) => on.embed(out, matrix, Uint32Array.of(1499, 0, 1024, 1023)),
      ),
    ];
  });

  const shape = { numHeads: 4, numKvHeads: 2, headDim: 8 };
  const tokens = 1500;
  const key = integers(3, tokens * 16, 2);
  const value = uniform(4, tokens * 16);
  const query = integers(5, 3 * 32, 2);
  const scope = { globalEnd: 7, localStart: 1400, length: tokens };
  const base: ScopeConfig = { ...fitScope(512), topK: 5, maxSpans: 12, spanSize: 16 };
  const rope = createRope(1e4, 8);
  for (
    const rules of [
      {},
      { sharing: "kvHead", votes: "margin" },
      { selector: "blockmax" },
      { topK: 60, maxSpans: Infinity, spanSize: 2 },
    ] as const
  ) {
    const config: ScopeConfig = { ...base, ...rules };
    const run = async (on: Backend) => {
      using store = storeOf(on, shape, { format: "f32", chunkSize: 16 }, key, value, 333);
      using q = tensorOf(on, 3, 32, query);
      const selection = on.select(store, 0, q, scope, config);
      const chosen = selection.tokens();
      const output = await outputOf(
        on,
        3,
        32,
        (out) => on.attend(out, q, store, 0, scope, selection, rope, "scope"),
      );
      return { chosen: await chosen, output };
    };
    const [actual, expected] = [await run(backend), await run(oracle)];
    deepEqual(actual.chosen, expected.chosen, JSON.stringify(rules));
    const tolerance = attentionTolerance(8, tokens, query, key, value);
    assertNear(actual.output, expected.output, () => tolerance, JSON.stringify(rules));
  }

  // What comes back from a spill file, in pieces of 1024 tokens, of which both have some.
  {
    const options = { format: "f32", chunkSize: 16 } as const;
    using plain = storeOf(backend, shape, options, key, value, 300);
    const spilling = {
      ...options,
      spill: new MemoryFile(),
      cacheBytes: 70 * 16 * plain.bytesPerToken,
      keep: { first: 16, last: 16 },
    };
    using spilled = backend.kvStore({ numLayers: 1, ...shape }, spilling);
    for (let start = 0; start < tokens; start += 300) {
      await spilled.reserve(start + 300);
      append(backend, spilled, 0, start, key, value, start + 300);
    }
    ok(spilled.spilledTokens > 1040);
    const [one, other] = await Promise.all([spilled, plain].map(async (store) => {
      using q = tensorOf(backend, 3, 32, query);
      const all = { globalEnd: 1150, localStart: 1200, length: tokens };
      const attend = (out: Tensor) => backend.attend(out, q, store, 0, all, null, rope, "scope");
      return await outputOf(backend, 3, 32, attend);
    }));
    deepEqual(one, other);
  }

  throws(
    () => backend.tensor(200, 100),
    (error) =>
      error instanceof OutOfMemoryError &&
      /one buffer of this GPU holds at most/.test(error.message),
  );
  equal(backend.byteLength, 0);
});

test("webgpu: what was forgotten is neither selected nor read", { skip }, async () => {
  ok(typeof gpu !== "string");
  using backend = new WebGpuBackend(gpu, 2 ** 32, false);
  const shape = { numHeads: 1, numKvHeads: 1, headDim: 8 };
  const options = {
    format: "f32",
    chunkSize: 16,
    forget: "oldest",
    keep: { first: 16, last: 32 },
  } as const;
  const key = uniform(1, 160 * 8);
  // The best keys are at 40, which is forgotten, and at 100; token 96 begins what is left of the middle.
  for (const t of [40, 100]) key.fill(3, t * 8, t * 8 + 8);
  const bytesOfChunk = 16 * (8 * 9 + 4);
  using store = backend.kvStore({ numLayers: 1, ...shape }, {
    ...options,
    cacheBytes: 6 * bytesOfChunk,
  });
  for (let start = 0; start < 160; start += 16) {
    store.reserve(start + 16);
    using k = tensorOf(backend, 16, 8, key.subarray(start * 8, start * 8 + 128));
    backend.append(store, 0, start, k, k);
  }
  deepEqual(store.forgotten, [{ start: 16, end: 80 }]);
  using query = tensorOf(backend, 1, 8, new Float32Array(8).fill(1));
  const scope = { globalEnd: 16, localStart: 128, length: 160 };
  for (const selector of ["exact", "blockmax"] as const) {
    const config: ScopeConfig = {
      ...fitScope(512),
      topK: 1,
      maxSpans: 1,
      spanSize: 48,
      selector,
    };
    const [tokens] = await backend.select(store, 0, query, scope, config).tokens();
    // The span would begin at 76.
    deepEqual([...tokens!], Array.from({ length: 44 }, (_, i) => 80 + i), selector);
  }
  throws(
    () =>
      backend.attend(
        query,
        query,
        store,
        0,
        { ...scope, globalEnd: 32 },
        null,
        createRope(1e4, 8),
        "scope",
      ),
    /token 16 was forgotten/,
  );
});

test(
  "webgpu: f16 weights are read alike by integers, where the device cannot",
  { skip },
  async () => {
    const device = await openDevice({ allowSoftware: true });
    device.speak({ exactHalves: false });
    using backend = new WebGpuBackend(device, 2 ** 32, true);
    const { source, values } = randomWeight(1, "f16", 5, 8);
    using table = await backend.weight(source);
    const tokens = Uint32Array.of(0, 1, 2, 3, 4);
    deepEqual(await outputOf(backend, 5, 8, (out) => backend.embed(out, table, tokens)), values);
  },
);
