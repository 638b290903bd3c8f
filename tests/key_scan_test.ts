// The scan of the keys' upper bits must find exactly what float64 sums over all keys find, whatever the keys are.

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { channelsOf } from "../src/backend/key_channels.ts";
import { ReferenceBackend } from "../src/backend/reference/backend.ts";
import { roundKey } from "../src/backend/reference/round_key.ts";
import { openWasmBackend } from "../src/backend/wasm/backend.ts";
import type { Backend } from "../src/backend/backend.ts";
import { fitScope, type ScopeConfig } from "../src/reattention/scope.ts";
import { storeOf, tensorOf } from "./support/handles.ts";
import { mulberry32, uniform } from "./support/random.ts";

const CONFIG: ScopeConfig = { ...fitScope(512), topK: 4, maxSpans: Infinity, spanSize: 2 };
const SHAPE = { numHeads: 4, numKvHeads: 2, headDim: 64 };
const TOKENS = 3000;
const COLS = SHAPE.numKvHeads * SHAPE.headDim;

/** Both ways to sum bytes; each is exact in every engine. */
const WAYS = [true, false].map((exact) => ({
  label: exact ? "four at a time" : "two at a time",
  open: () => openWasmBackend({ threads: 1 }, { dots: { exact, offset: 0 } }),
}));

/** Keys as real models have them, and as they should never be. */
const KEYS: Readonly<Record<string, (t: number, d: number, x: number) => number>> = {
  "even keys": (_t, _d, x) => x,
  "keys far from zero in some channels": (_t, d, x) => x + (d % 16 === 3 ? 300 : 0),
  "channels a hundred times as wide as others": (_t, d, x) => x * (d % 16 === 3 ? 100 : 1),
  "keys that grow along the sequence": (t, _d, x) => x * (1 + t / 100),
  "a drift that raises every score": (t, d, x) => x / 10 + t / 1000 * (d % 2 === 0 ? 1 : -1),
  "one huge token": (t, _d, x) => t === 1234 ? 1e6 * x : x,
  "tiny keys": (_t, _d, x) => x * 1e-20,
  "the same few keys again and again": (t, d, _x) => Math.sin((t % 7) * 100 + d),
  "no keys but zeros": () => 0,
};

async function select(backend: Backend, key: Float32Array, query: Float32Array) {
  using store = storeOf(backend, SHAPE, { format: "i16" }, key, key, 64);
  using q = tensorOf(backend, 16, SHAPE.numHeads * SHAPE.headDim, query);
  const scope = { globalEnd: 5, localStart: TOKENS - 16, length: TOKENS };
  return (await backend.select(store, 0, q, scope, CONFIG).tokens()).map((list) => [...list]);
}

for (const [name, keyOf] of Object.entries(KEYS)) {
  test(`${name}: the scan finds what sums over all keys find`, async () => {
    const random = mulberry32(7);
    const key = Float32Array.from(
      { length: TOKENS * COLS },
      (_, i) => keyOf(Math.floor(i / COLS), i % COLS % SHAPE.headDim, random() * 2 - 1),
    );
    const query = uniform(8, 16 * SHAPE.numHeads * SHAPE.headDim);
    using oracle = new ReferenceBackend();
    const expected = await select(oracle, key, query);
    ok(expected[0]!.length > 0);
    for (const { label, open } of WAYS) {
      using backend = await open();
      deepEqual(await select(backend, key, query), expected, label);
    }
  });
}

test("a key that is no number is not selected, and does no harm to others", async () => {
  const key = uniform(1, TOKENS * COLS);
  const query = uniform(2, 16 * SHAPE.numHeads * SHAPE.headDim);
  for (const { open } of WAYS) {
    using backend = await open();
    const clean = await select(backend, key, query);
    const worst = clean[0]!.at(-1)!;
    const broken = key.slice();
    broken.fill(NaN, worst * COLS, worst * COLS + 3);
    const [found] = await select(backend, broken, query);
    // One KV head lost the key; what the other picked stays.
    ok(found!.length > clean[0]!.length / 2);
  }
});

test("a key keeps 15 bits of its largest number, also where channels lie far from zero", () => {
  const rows = Array.from(
    { length: 64 },
    (_, r) => uniform(r, 64).map((x, d) => d === 5 ? 300 + x : d === 9 ? 50 * x : x),
  );
  const channels = channelsOf(rows, 64);
  const f16 = 2 ** -11;
  for (const row of rows.slice(1)) {
    const rounded = roundKey(row, channels);
    row.forEach((x, d) => {
      const spread = d === 9 ? 50 : 1;
      // f32 itself holds 300 only to 2^-16.
      ok(Math.abs(rounded[d]! - x) < spread * f16 / 4 + (d === 5 ? 2 ** -15 : 0), `${d}: ${x}`);
    });
  }
});

test("channels stay as they are with one token, with equal ones, and with numbers that are none", () => {
  const plain = { centres: new Float32Array(4), weights: new Float32Array(4).fill(1) };
  for (const rows of [[uniform(1, 4)], [uniform(1, 4), Float32Array.of(NaN, 1, 2, 3)]]) {
    const { centres, weights } = channelsOf(rows, 4);
    deepEqual({ centres, weights }, plain);
  }
  const same = Float32Array.of(1, 2, 3, 4);
  const { centres, weights } = channelsOf([same, same, same], 4);
  deepEqual(centres, same);
  deepEqual(weights, plain.weights);
  equal(roundKey(same, channelsOf([same, same], 4))[3], 4);
});
