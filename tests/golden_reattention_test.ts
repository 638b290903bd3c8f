// What the authors' own cache class computed, replayed through the operator of every backend.

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { ReAttention } from "../src/reattention/reattention.ts";
import type { ScopeConfig } from "../src/reattention/scope.ts";
import { backends } from "./support/backends.ts";
import { uniform } from "./support/random.ts";
import { missing, readJson } from "./support/shared.ts";

interface Step {
  readonly seen: number;
  readonly queries: number;
  readonly scopeLength: number;
  readonly positions?: readonly number[];
  readonly outputFirst: readonly number[];
  readonly outputLast: readonly number[];
  readonly outputSum: number;
  readonly outputAbsSum: number;
}

interface Case {
  readonly name: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ropeTheta: number;
  readonly seed: number;
  readonly global: number;
  readonly local: number;
  readonly span: number;
  readonly topK: number;
  readonly recallClip: number;
  readonly recallType?: "qk" | "qkv" | "qkv2";
  readonly structured?: boolean;
  readonly originalPositions?: boolean;
  readonly chunks: readonly number[];
  readonly steps: readonly Step[];
}

const FILE = "golden/reattention.json";
const skip = missing(FILE);
const cases = skip === false ? readJson<Case[]>(FILE) : [];

const SCORES = { qk: "qk", qkv: "qkv1", qkv2: "qkv2" } as const;

/** Unrotated queries, keys and values, f32[tokens, heads, headDim]. */
function inputsOf(golden: Case) {
  const { seed, heads, kvHeads, headDim } = golden;
  const tokens = golden.chunks.reduce((sum, n) => sum + n, 0);
  const query = uniform(seed, tokens * heads * headDim);
  const key = uniform(seed + 1, tokens * kvHeads * headDim);
  const value = uniform(seed + 2, tokens * kvHeads * headDim);
  if (golden.structured) {
    // One direction per KV head that all its queries share and that some keys have much of, so that
    // few tokens get most votes.
    const direction = uniform(seed + 3, kvHeads * headDim);
    const strength = uniform(seed + 4, tokens);
    for (let t = 0; t < tokens; t++) {
      const amount = strength[t]! ** 5;
      for (let h = 0; h < heads; h++) {
        const kvHead = Math.floor(h / (heads / kvHeads));
        for (let d = 0; d < headDim; d++) {
          query[(t * heads + h) * headDim + d]! += direction[kvHead * headDim + d]!;
        }
      }
      for (let i = 0; i < direction.length; i++) {
        key[t * direction.length + i]! += amount * direction[i]!;
      }
    }
  }
  return { query, key, value };
}

function scopeOf(golden: Case): Partial<ScopeConfig> {
  return {
    globalSize: golden.global,
    localSize: golden.local,
    spanSize: golden.span,
    topK: golden.topK,
    maxSpans: golden.recallClip < 0 ? Infinity : golden.recallClip,
    positions: golden.originalPositions ? "sequence" : "scope",
    scores: SCORES[golden.recallType ?? "qk"],
    selector: golden.name.includes("block128") ? "blockmax" : "exact",
  };
}

/** Where the authors' local region starts: where they select, it is shrunk until the middle is a multiple of 128. */
function localStartOf({ global, local, topK }: Case, { seen, positions }: Step): number {
  if (positions !== undefined) return seen - (local - (128 - (seen - global - local) % 128));
  return topK === 0 ? Math.max(global, seen - local) : global;
}

function assertNear(actual: number, expected: number, tolerance: number, what: string): void {
  const difference = Math.abs(actual - expected);
  ok(difference <= tolerance, `${what}: ${actual} for ${expected}, off by ${difference}`);
}

test("the golden vectors of the operator are there", { skip }, () => {
  ok(cases.length >= 6);
});

for (const { label, open } of backends) {
  for (const golden of cases) {
    test(`${label} reproduces the authors' ${golden.name}`, async () => {
      using backend = await open();
      const { heads, kvHeads, headDim, ropeTheta } = golden;
      using attention = new ReAttention({
        numHeads: heads,
        numKvHeads: kvHeads,
        headDim,
        ropeTheta,
        scope: scopeOf(golden),
        backend,
      });
      const { query, key, value } = inputsOf(golden);
      let start = 0;
      for (const [index, step] of golden.steps.entries()) {
        const end = start + golden.chunks[index]!;
        const part = (x: Float32Array, cols: number) => x.subarray(start * cols, end * cols);
        const { output, positions } = await attention.step(
          part(query, heads * headDim),
          part(key, kvHeads * headDim),
          part(value, kvHeads * headDim),
          { localStart: localStartOf(golden, step) },
        );
        equal(end, step.seen);
        equal(positions.length, step.scopeLength, `scope of step ${index}`);
        if (step.positions !== undefined) deepEqual([...positions], step.positions);
        else if (golden.topK > 0) deepEqual([...positions], [...Array(end).keys()]);

        const rowLength = heads * headDim;
        const last = output.subarray(output.length - rowLength);
        for (let i = 0; i < 16; i++) {
          assertNear(output[i]!, step.outputFirst[i]!, 1e-5, `step ${index}, first[${i}]`);
          assertNear(last[i]!, step.outputLast[i]!, 1e-5, `step ${index}, last[${i}]`);
        }
        // Sums of n outputs, each within 1e-5 and as often above as below: their errors grow as
        // sqrt(n), not n. Measured: within a tenth of this.
        const tolerance = 1e-5 * Math.sqrt(output.length);
        const sum = output.reduce((total, x) => total + x, 0);
        const absSum = output.reduce((total, x) => total + Math.abs(x), 0);
        assertNear(sum, step.outputSum, tolerance, `step ${index}, sum`);
        assertNear(absSum, step.outputAbsSum, tolerance, `step ${index}, absolute sum`);
        start = end;
      }
    });
  }
}
