import { ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { perplexityWithin } from "../bench/support/perplexity.ts";
import { resolveMethod } from "../src/eval/methods.ts";
import { createPerplexityCases, perplexityAnswerer } from "../src/eval/perplexity.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import { missing, sharedUrl } from "./support/shared.ts";

const book = "text/war-and-peace.txt";

/** The perplexity of the last `scored` of some tokens, as `eval perplexity` has it. */
async function perplexityBy(
  method: string,
  model: Model,
  tokens: Uint32Array,
  scored: number,
): Promise<number> {
  const plan = { positions: [tokens.length - scored], scored, repeats: 1, seed: 1 };
  const source = { name: book, tokens: () => Promise.resolve(tokens) };
  using answerer = perplexityAnswerer(model, resolveMethod(method, model), source, plan, {});
  const { more } = await answerer.answer(createPerplexityCases(plan)[0]!);
  return more!.perplexity as number;
}

test(
  "pocket's perplexity at 16K is within 5 % of its value at 512, no worse than selecting in all layers, and full attention explodes",
  { skip: missing(book) },
  async () => {
    using model = await loadModel();
    const text = readFileSync(sharedUrl(book), "utf8").slice(500_000, 600_000);
    const tokens = model.tokenizer.encode(text).subarray(0, 16_384);
    const within = await perplexityWithin(model, tokens, 4096);
    const reattention = await perplexityBy("reattention:always", model, tokens, 4096);
    const ratio = reattention / within;
    ok(ratio < 1.05, `ReAttention at 16K: ${ratio} of the perplexity at 512`);
    const allLayers = await perplexityBy("reattention:always:all-layers", model, tokens, 4096);
    const against = reattention / allLayers;
    ok(against < 1.01, `in the profile's layers: ${against} of the perplexity in all layers`);
    const full = await perplexityBy("full", model, tokens.subarray(-4096), 2048);
    ok(full > 3 * within, `full attention at 4K: ${full}`);
  },
);
