// The queries that a model really asks, against sums in float64 over all keys: bench/exact_selection.ts does more.

import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { checkSelection } from "../bench/support/exactness.ts";
import { openBackend } from "../mod.ts";
import { writeHaystack } from "../src/eval/haystack.ts";

test("a thousand real queries pick what float64 picks, ties aside", async () => {
  using backend = await openBackend("wasm");
  const text = [...writeHaystack({ seed: 3, length: 20_000 })].map((piece) => piece.text).join("");
  const found = await checkSelection(backend, {
    tokens: (model) => model.tokenizer.encode(text).subarray(0, 4096),
    stride: 16,
  });
  equal(found.queries, 1024);
  ok(found.keys > 3500);
  equal(found.equal + found.tied, found.queries);
  ok(found.tied < 10, `${found.tied} ties`);
});
