// What tells a model from another: the weights' fingerprint sees them pass, however they are read.

import { equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import { watchWeights } from "../src/llama/identity.ts";
import { weightSource } from "./support/handles.ts";
import { mulberry32 } from "./support/random.ts";

function randomBytes(length: number): Uint8Array {
  const random = mulberry32(length);
  return Uint8Array.from({ length }, () => random() * 256);
}

/** The fingerprint of one weight that was read in pieces. */
async function fingerprintOf(
  bytes: Uint8Array,
  pieces: number,
  title: { readonly rows?: number; readonly name?: string } = {},
): Promise<string> {
  const { rows = 1, name = "a weight" } = title;
  const weights = watchWeights();
  const source = weightSource("f16", rows, bytes.length / 2 / rows, bytes);
  const watched = weights.watch({ ...source, name }, bytes.length);
  const starts: number[] = [];
  for (let start = 0; start < bytes.length; start += pieces) starts.push(start);
  // Backwards, because nobody promises an order.
  for (const start of starts.reverse()) {
    await watched.read(new Uint8Array(Math.min(pieces, bytes.length - start)), start);
  }
  return weights.fingerprint();
}

for (const length of [2, 4096, 65_536, 65_538, 200_000]) {
  test(`the fingerprint of ${length} bytes does not depend on how they are read`, async () => {
    const bytes = randomBytes(length);
    const expected = await fingerprintOf(bytes, length);
    for (const pieces of [4095, 4096, 70_001]) {
      equal(await fingerprintOf(bytes, pieces), expected, `${pieces}`);
    }
  });
}

test("a fingerprint sees every byte of a small tensor, and both ends of a large one", async () => {
  for (
    const [length, places] of [[65_536, [0, 30_001, 65_535]], [200_000, [0, 199_999]]] as const
  ) {
    const bytes = randomBytes(length);
    const expected = await fingerprintOf(bytes, 10_000);
    for (const at of places) {
      const changed = bytes.slice();
      changed[at]! ^= 1;
      notEqual(await fingerprintOf(changed, 10_000), expected, `byte ${at} of ${length}`);
    }
  }
});

test("a fingerprint knows names, shapes and the order of tensors", async () => {
  const bytes = randomBytes(400);
  const expected = await fingerprintOf(bytes, 400);
  notEqual(await fingerprintOf(bytes, 400, { rows: 2 }), expected);
  notEqual(await fingerprintOf(bytes, 400, { name: "another" }), expected);
  equal(watchWeights().fingerprint(), watchWeights().fingerprint());
});
