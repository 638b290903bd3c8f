/**
 * Ways to select, side by side: how much of what the paper's rule reads each of them reads too, what it
 * costs, and what it is worth, in perplexity and in facts found.
 *
 *     deno run -A bench/selectors.ts ../shared/text/war-and-peace.txt
 *     deno run -A bench/selectors.ts book.txt --model path/to/model --length 65536 --needles 0 --scored 4096
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadModel, openBackend } from "../mod.ts";
import { createNeedles, writeHaystack } from "../src/eval/haystack.ts";
import { negativeLogLikelihoods } from "../src/llama/likelihood.ts";
import { resolveSelectLayers } from "../src/llama/select_layers.ts";
import { fitScope, type ScopeConfig } from "../src/reattention/scope.ts";

const { values: flags, positionals: [path] } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string" },
    length: { type: "string", default: "65536" },
    places: { type: "string", default: "8" },
    scored: { type: "string", default: "4096" },
    needles: { type: "string", default: "20" },
    threads: { type: "string", default: "2" },
  },
});
if (path === undefined) {
  throw new TypeError("Cannot start: a text file must be given, got none");
}

using backend = await openBackend("wasm", { threads: Number(flags.threads) });
using model = await loadModel(flags.model, { backend });
const { config, profile, tokenizer } = model;
const all = resolveSelectLayers("all", config.numLayers);
const chosen = resolveSelectLayers(profile?.selectLayers ?? "all", config.numLayers);
/** The paper's rule with the model's sizes. */
const paper: ScopeConfig = {
  ...profile?.scope ?? fitScope(config.trainedLength),
  selector: "exact",
  votes: "count",
  voteEvery: 1,
};

/** A way to select. */
interface Way {
  readonly name: string;
  readonly scope: ScopeConfig;
  readonly layers: readonly number[];
}

const way = (name: string, scope: Partial<ScopeConfig> = {}, layers = all): Way => ({
  name,
  scope: { ...paper, ...scope },
  layers,
});
const ways: readonly Way[] = [
  way("exact, every query (the paper)"),
  way("exact, votes by margin", { votes: "margin" }),
  ...[2, 4, 8].map((voteEvery) =>
    way(`exact, margin, every ${voteEvery}th query`, { votes: "margin", voteEvery })
  ),
  way("blockmax", { selector: "blockmax" }),
  ...chosen.length < all.length
    ? [
      way(`exact, layers ${chosen.join(", ")}`, {}, chosen),
      way(`exact, margin, every 4th, layers ${chosen.join(", ")}`, {
        votes: "margin",
        voteEvery: 4,
      }, chosen),
    ]
    : [],
];

const length = Number(flags.length);
const begin = tokenizer.bosToken === null ? [] : [tokenizer.bosToken];
const text = Uint32Array.from([
  ...begin,
  ...tokenizer.encode(readFileSync(path, "utf8").slice(0, length * 8)).subarray(0, length),
]);
if (text.length < length) {
  throw new RangeError(
    `Cannot start: the text must have ${length} tokens, it has ${text.length - begin.length}`,
  );
}
const places = await recalls();
const rows = [];
for (const each of ways) {
  const { recall, milliseconds } = places.get(each)!;
  rows.push({
    way: each.name,
    recall,
    milliseconds,
    perplexity: await perplexityOf(each),
    ...await factsOf(each),
  });
}
console.log(
  `${
    "Deno" in globalThis ? "Deno" : "Bun" in globalThis ? "Bun" : "Node"
  }, ${backend.description}, ${flags.model ?? "pocket"}, ${length.toLocaleString("en-US")} tokens`,
);
console.log("| way to select | reads of the paper's tokens | step, ms | perplexity | facts |");
console.log("| --- | --: | --: | --: | --: |");
for (const { way, recall, milliseconds, perplexity, right, of } of rows) {
  console.log(
    `| ${way} | ${(recall * 100).toFixed(1)} % | ${milliseconds.toFixed(1)} | ${
      perplexity.toFixed(2)
    } | ${of === 0 ? "" : `${right} of ${of}`} |`,
  );
}

/** At some places of one reading, the same step by each way: shared selected tokens, and time. */
async function recalls(): Promise<Map<Way, { recall: number; milliseconds: number }>> {
  using session = model.session({ scope: paper, select: "ask" });
  const count = Number(flags.places);
  const shared = new Map(ways.map((way) => [way, { hits: 0, of: 0, times: [] as number[] }]));
  for (let place = 1; place <= count; place++) {
    const until = Math.floor(place * (text.length - session.stepSize) / count);
    await session.prefill(text.slice(session.length, until));
    const next = text.slice(until, until + session.stepSize);
    let wanted: Map<number, Set<number>> | null = null;
    for (const way of ways) {
      const read = new Map<number, Set<number>>();
      using fork = session.fork({
        scope: way.scope,
        select: "always",
        selectLayers: way.layers,
        onSelect({ layer, spans }) {
          const tokens = new Set<number>();
          for (const { start, end } of spans.flat()) {
            for (let token = start; token < end; token++) tokens.add(token);
          }
          read.set(layer, tokens);
        },
      });
      const began = performance.now();
      await fork.prefill(next);
      const sums = shared.get(way)!;
      sums.times.push(performance.now() - began);
      wanted ??= read;
      for (const layer of way.layers) {
        for (const token of wanted.get(layer) ?? []) {
          sums.of++;
          if (read.get(layer)?.has(token)) sums.hits++;
        }
      }
    }
  }
  return new Map([...shared].map(([way, { hits, of, times }]) => [way, {
    recall: hits / of,
    milliseconds: times.sort((a, b) => a - b)[times.length >> 1]!,
  }]));
}

/** Of the text's first 16K tokens' last ones, every step selecting. */
async function perplexityOf({ scope, layers }: Way): Promise<number> {
  const tokens = text.slice(0, 16_384);
  const losses = await negativeLogLikelihoods(
    model,
    tokens,
    tokens.length - Number(flags.scored),
    { scope, stepSize: profile?.stepSize ?? 64, selectLayers: layers },
  );
  return Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length);
}

/** Facts in 16K tokens of other prose, read and asked by one way. */
async function factsOf({ scope, layers }: Way): Promise<{ right: number; of: number }> {
  const of = Number(flags.needles);
  if (of === 0) return { right: 0, of };
  const needles = createNeedles(Array.from({ length: of }, () => "magic" as const), 7);
  using session = model.session({ scope, select: "always", selectLayers: [...layers] });
  const writer = session.writable().getWriter();
  for (const { text } of writeHaystack({ seed: 7, length: 16_384 * 4, needles })) {
    await writer.write(text);
  }
  await writer.close();
  let right = 0;
  for (const { question, answer } of needles) {
    using fork = session.fork();
    let said = "";
    for await (const text of fork.ask(question, { maxTokens: 16 })) said += text;
    if (said.includes(answer)) right++;
  }
  return { right, of };
}
