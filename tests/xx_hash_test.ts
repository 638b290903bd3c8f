// The checksum of session files: the specification's values, and another implementation's.

import { equal } from "node:assert/strict";
import { test } from "node:test";
import { fingerprint, xxHash32 } from "../src/files/xx_hash.ts";
import { mulberry32 } from "./support/random.ts";

/** What xxHash's own sanity test fills its buffer with. */
function sanityBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = 2654435761n;
  for (let i = 0; i < length; i++) {
    bytes[i] = Number(state >> 56n);
    state = BigInt.asUintN(64, state * 11400714785074694797n);
  }
  return bytes;
}

// XSUM_XXH32_testdata in xxHash 0.8.
for (
  const [length, seed, hash] of [
    [0, 0, 0x02cc5d05],
    [0, 0x9e3779b1, 0x36b78ae7],
    [1, 0, 0xcf65b03e],
    [1, 0x9e3779b1, 0xb4545aa4],
    [14, 0, 0x1208e7e2],
    [14, 0x9e3779b1, 0x6af1d1fe],
    [222, 0, 0x5bd11dbd],
    [222, 0x9e3779b1, 0x58803c5f],
  ] as const
) {
  test(`xxHash32 of ${length} bytes with seed ${seed} is the specification's`, () => {
    equal(xxHash32(sanityBytes(length), seed), hash);
  });
}

test("xxHash32 does not depend on where the bytes are in their buffer", () => {
  const random = mulberry32(5);
  const bytes = Uint8Array.from({ length: 300 }, () => random() * 256);
  for (let length = 0; length <= 70; length++) {
    const expected = xxHash32(bytes.slice(40, 40 + length), 9);
    for (let at = 1; at < 8; at++) {
      const moved = new Uint8Array(length + 8);
      moved.set(bytes.subarray(40, 40 + length), at);
      equal(xxHash32(moved.subarray(at, at + length), 9), expected, `${length} bytes at ${at}`);
    }
  }
});

interface BunHash {
  readonly hash: { xxHash32(bytes: Uint8Array, seed: number): number };
}
const { Bun } = globalThis as unknown as { readonly Bun?: BunHash };

test("xxHash32 agrees with Bun's own", { skip: !Bun && "only Bun has one" }, () => {
  const random = mulberry32(6);
  for (let length = 0; length < 600; length++) {
    const bytes = Uint8Array.from({ length }, () => random() * 256);
    const seed = Math.floor(random() * 2 ** 32);
    equal(xxHash32(bytes, seed), Bun!.hash.xxHash32(bytes, seed), `${length} bytes`);
  }
});

test("a fingerprint has sixteen digits, and one bit changes it", () => {
  const bytes = sanityBytes(5000);
  const before = fingerprint(bytes);
  equal(/^[0-9a-f]{16}$/.test(before), true);
  bytes[4321]! ^= 1;
  equal(before === fingerprint(bytes), false);
});
