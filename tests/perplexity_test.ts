import { ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { perplexities } from "../bench/support/perplexity.ts";
import { loadModel } from "../src/llama/load.ts";
import { missing, sharedUrl } from "./support/shared.ts";

const book = "text/war-and-peace.txt";

test(
  "pocket's perplexity at 16K is within 5 % of its value at 512, no worse than selecting in all layers, and full attention explodes",
  { skip: missing(book) },
  async () => {
    using model = await loadModel();
    const text = readFileSync(sharedUrl(book), "utf8").slice(500_000, 600_000);
    const tokens = model.tokenizer.encode(text).subarray(0, 16_384);
    const [within, reattention, , full, allLayers] = await perplexities(model, tokens, 4096);
    const ratio = reattention!.perplexity / within!.perplexity;
    ok(ratio < 1.05, `ReAttention at 16K: ${ratio} of the perplexity at 512`);
    const against = reattention!.perplexity / allLayers!.perplexity;
    ok(against < 1.01, `in the profile's layers: ${against} of the perplexity in all layers`);
    ok(full!.perplexity > 3 * within!.perplexity, `full attention at 4K: ${full!.perplexity}`);
  },
);
