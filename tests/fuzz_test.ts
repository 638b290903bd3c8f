/**
 * A short run of scripts/fuzz.ts, which reads millions of damaged files: whatever they say, the answer
 * is a table that is true of the file, or an error of the library's that says what is wrong; and
 * nothing is allocated that the file does not justify.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { fromBytes } from "../src/files/byte_source.ts";
import { MAX_JSON_NAMES, MAX_JSON_VALUES, parseJson, show } from "../src/files/json.ts";
import { watchAllocations } from "./support/fuzz/allocations.ts";
import { BOMBS } from "./support/fuzz/bombs.ts";
import { examine, examineSource } from "./support/fuzz/examine.ts";
import { inputsOf } from "./support/fuzz/inputs.ts";
import { assemble } from "./support/fuzz/seed.ts";
import { allSeeds } from "./support/fuzz/seeds.ts";

const SEED = 7;
const SYSTEMATIC = 10_000;
const BY_CHANCE = 10_000;

const seeds = allSeeds();

test("what the fuzzer damages is read without damage, or would be of another model", async () => {
  using allocations = watchAllocations();
  const accepted = [];
  for (const seed of seeds) {
    const whole = { seed, damaged: assemble(seed, seed.parts) };
    const verdict = await examine(whole, allocations);
    equal(verdict.fault, null, seed.name);
    if (verdict.accepted) accepted.push(seed.reader);
  }
  deepEqual(
    [...new Set(accepted)].sort(),
    ["gguf", "index", "json", "model", "safetensors", "session", "split"],
  );
});

test("damaged files are read truly or refused in words, and justify all that is allocated", async () => {
  using allocations = watchAllocations();
  const inputs = inputsOf(seeds, SEED);
  let accepted = 0;
  for (let i = 0; i < SYSTEMATIC + BY_CHANCE; i++) {
    // Of the systematic ones every so many: all of them take a minute.
    const index = i < SYSTEMATIC
      ? Math.floor(i * inputs.systematic / SYSTEMATIC)
      : inputs.systematic + i;
    const verdict = await examine(inputs.at(index), allocations);
    equal(verdict.fault, null, `scripts/fuzz.ts --seed ${SEED} --replay ${index}`);
    if (verdict.accepted) accepted++;
  }
  ok(accepted > 100 && accepted < (SYSTEMATIC + BY_CHANCE) / 2, `${accepted} accepted`);
});

test("the same number is the same input", () => {
  const [one, other] = [inputsOf(seeds, SEED), inputsOf(seeds, SEED)];
  for (let index = 0; index < 2 * one.systematic; index += 9973) {
    deepEqual(one.at(index), other.at(index));
  }
});

for (const { name, reader, bytes } of BOMBS) {
  test(`a megabyte of this is read in seconds: ${name}`, async () => {
    const start = performance.now();
    await examineSource(reader, fromBytes(bytes(2 ** 20), name));
    ok(performance.now() - start < 10_000);
  });
}

test("arrays in arrays of GGUF are refused by their number, before there are many", async () => {
  const { name, reader, bytes } = BOMBS[0]!;
  match(
    await examineSource(reader, fromBytes(bytes(2 ** 20), name)),
    /at most 8388608 texts and truths, and 4096 arrays, in all, got 87381 more/,
  );
});

test("JSON of too many values or names is refused before any is made", async () => {
  const refuse = async (text: string, reason: RegExp) => {
    const attempt = Promise.resolve(new TextEncoder().encode(text))
      .then((bytes) => parseJson(bytes, { name: "x.json" }));
    match(await attempt.then(() => "accepted", String), reason);
  };
  await refuse(`[1${",1".repeat(MAX_JSON_VALUES)}]`, /at most 4194304 values/);
  const names = Array.from({ length: MAX_JSON_NAMES + 1 }, (_, i) => `"${i}":0`).join();
  await refuse(`{${names}}`, /at most 1048576 names/);
});

test("what a message shows of a value is short, whatever the value", () => {
  equal(show([1, "a", null, { b: [true] }]), '[1,"a",null,{"b":[true]}]');
  equal(
    show([BigUint64Array.of(1n, 2n), 2n ** 64n]),
    "[an array of 2 numbers,18446744073709551616]",
  );
  equal(show(undefined), "nothing");
  equal(show("\0".repeat(1e6)).length, 103);
  equal(show(new Array(1e6).fill("\0")).length, 103);
  equal(show(Array.from({ length: 1e5 }, () => new Float64Array(1))).length, 103);
});
