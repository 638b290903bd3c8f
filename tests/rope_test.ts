// Rotary frequencies and their scalings against the formulas as Hugging Face's library has them.

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { ReferenceBackend } from "../src/backend/reference/backend.ts";
import { KvCache } from "../src/reattention/kv_cache.ts";
import { reattend } from "../src/reattention/reattention.ts";
import { createRope, type Rope, ropeFor, type RopeScaling } from "../src/reattention/rope.ts";
import { fitScope, FULL_ATTENTION, type ScopeConfig } from "../src/reattention/scope.ts";
import { tensorOf } from "./support/handles.ts";
import { uniform } from "./support/random.ts";

/** Relative: one rounding to f32. */
function near(actual: Float32Array, expected: readonly number[]): void {
  equal(actual.length, expected.length);
  for (const [i, x] of expected.entries()) {
    ok(Math.abs(actual[i]! - x) <= 2 ** -23 * x, `frequency ${i} is ${actual[i]}, not ${x}`);
  }
}

const plain = (theta: number, headDim: number) =>
  Array.from({ length: headDim / 2 }, (_, i) => 1 / theta ** (2 * i / headDim));

test("linear scaling divides all frequencies", () => {
  const { inverseFrequencies } = createRope(1e4, 64, { type: "linear", factor: 4 });
  near(inverseFrequencies, plain(1e4, 64).map((f) => f / 4));
});

test("llama3 scaling is _compute_llama3_parameters", () => {
  // Llama 3.1: which wavelengths are low, high and between, word for word.
  const [factor, low, high, old] = [8, 1, 4, 8192];
  const expected = plain(500000, 128).map((frequency) => {
    const wavelength = 2 * Math.PI / frequency;
    if (wavelength > old / low) return frequency / factor;
    if (wavelength < old / high) return frequency;
    const smooth = (old / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
  });
  const { inverseFrequencies, attentionFactor } = createRope(500000, 128, {
    type: "llama3",
    factor,
    lowFrequencyFactor: low,
    highFrequencyFactor: high,
    originalLength: old,
  });
  near(inverseFrequencies, expected);
  equal(attentionFactor, undefined);
});

test("yarn keeps fast pairs, divides slow ones, blends between, and has a temperature", () => {
  const [theta, headDim, factor, originalLength] = [1e6, 128, 4, 32768];
  const dimension = (turns: number) =>
    headDim * Math.log(originalLength / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
  const [first, last] = [Math.floor(dimension(32)), Math.ceil(dimension(1))];
  deepEqual([first, last], [23, 40]);
  const frequencies = plain(theta, headDim);
  const rope = createRope(theta, headDim, { type: "yarn", factor, originalLength });
  near(
    rope.inverseFrequencies,
    frequencies.map((f, i) => {
      if (i <= first) return f;
      if (i >= last) return f / factor;
      const ramp = (i - first) / (last - first);
      return f / factor * ramp + f * (1 - ramp);
    }),
  );
  equal(rope.attentionFactor, 0.1 * Math.log(4) + 1);
  const told = { type: "yarn", factor, originalLength, attentionFactor: 1.5 } as const;
  equal(createRope(theta, headDim, told).attentionFactor, 1.5);
});

test("factors divide one frequency each, and there must be one for each", () => {
  const factors = [1, 2, 4, 8];
  near(
    createRope(1e4, 8, { type: "factors", factors }).inverseFrequencies,
    plain(1e4, 8).map((f, i) => f / factors[i]!),
  );
  throws(() => createRope(1e4, 16, { type: "factors", factors }), /each of 8 pairs, got 4/);
});

const DYNAMIC: RopeScaling = { type: "dynamic", factor: 2, originalLength: 100 };

test("dynamic NTK bends the table only beyond the trained length", () => {
  const rope = createRope(1e4, 64, DYNAMIC);
  near(rope.inverseFrequencies, plain(1e4, 64));
  equal(ropeFor(rope, 1), rope);
  equal(ropeFor(rope, 100), rope);
  // _compute_dynamic_ntk_parameters at 300 tokens.
  const base = 1e4 * (2 * 300 / 100 - (2 - 1)) ** (64 / 62);
  near(ropeFor(rope, 300).inverseFrequencies, plain(base, 64));
  const other = createRope(1e4, 64, { type: "linear", factor: 2 });
  equal(ropeFor(other, 1e6), other);
});

test("a renumbered scope within the trained length is read without dynamic NTK, however long the text", async () => {
  const shape = { numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 8 };
  const length = 400;
  const attend = async (rope: Rope, config: ScopeConfig) => {
    using backend = new ReferenceBackend();
    using cache = new KvCache(backend.kvStore(shape, { format: "f32" }));
    const outputs: Float32Array[] = [];
    for (const [start, rows] of [[0, length - 1], [length - 1, 1]] as const) {
      cache.reserve(rows);
      const of = (seed: number, cols: number) =>
        tensorOf(backend, rows, cols, uniform(seed + start, rows * cols));
      using query = of(1, 16);
      using key = of(2, 8);
      using value = of(3, 8);
      using out = backend.tensor(rows, 16);
      reattend(backend, out, query, key, value, { cache, layer: 0, rope, config, selects: true });
      cache.advance(rows);
      outputs.push(await backend.read(out));
    }
    return outputs[1]!;
  };
  const dynamic = createRope(1e4, 8, DYNAMIC);
  const trained = createRope(1e4, 8);
  const config = fitScope(100);
  deepEqual(await attend(dynamic, config), await attend(trained, config));
  const bent = ropeFor(dynamic, length);
  for (const positions of ["scope", "sequence"] as const) {
    const full = { ...FULL_ATTENTION, positions };
    deepEqual(await attend(dynamic, full), await attend(bent, full));
  }
});
