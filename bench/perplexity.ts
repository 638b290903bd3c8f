/**
 * The value beside which `eval perplexity` stands: that of the embedded model within its trained length, of the
 * same tokens as
 *
 *     deno task eval perplexity --lengths 12K --scored 4096 --file book.txt
 *     deno run -A bench/perplexity.ts book.txt 12288 4096
 */
import process from "node:process";
import { loadModel } from "../mod.ts";
import { openHaystack } from "../src/cli/eval_texts.ts";
import { stretchLength } from "../src/eval/perplexity.ts";
import { modelTokens } from "../src/eval/text_tokens.ts";
import { perplexityWithin } from "./support/perplexity.ts";

const [path, position = "12288", scored = "4096"] = process.argv.slice(2);
if (path === undefined) {
  throw new TypeError("Cannot start: a text file must be given, got none");
}
using model = await loadModel();
const seed = 1; // the command's default
const plan = { positions: [Number(position)], scored: Number(scored), repeats: 1, seed };
const length = stretchLength(plan);
const text = await openHaystack([path], modelTokens(model.tokenizer), length);
const perplexity = await perplexityWithin(model, await text.tokens(length, seed), plan.scored);
const { trainedLength } = model.config;
console.log(
  `ordinary attention within the trained length, ${
    trainedLength >> 1
  } to ${trainedLength} tokens: ` +
    perplexity.toFixed(2),
);
console.log(model.backend.description);
