/**
 * Facts whose keys look alike, and prose, under several rules of selection: right answers, loss, and
 * what selecting costs; and why wrong answers are wrong.
 *
 *     deno run -A bench/look_alikes.ts ../shared/text/war-and-peace.txt
 *     deno run -A bench/look_alikes.ts book.txt --length 16384 --texts 4 --questions 16 --distractors 16,64 \
 *       --families grid --windows 0
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadModel, openBackend } from "../mod.ts";
import { answerOf, judge } from "../src/cli/answers.ts";
import { type Needle, seededRandom } from "../src/eval/haystack.ts";
import { negativeLogLikelihoods } from "../src/llama/likelihood.ts";
import type { Session } from "../src/llama/session.ts";
import type { ScopeConfig } from "../src/reattention/scope.ts";
import {
  covers,
  createLookAlikes,
  drawFrom,
  type Family,
  hideInBook,
  type LookAlikeText,
  type Steering,
  steerSelection,
} from "./support/look_alikes.ts";

/** One way to select. */
interface Row {
  readonly name: string;
  readonly scope?: Partial<ScopeConfig>;
  readonly layers?: readonly number[];
  readonly steering?: Omit<Steering, "seconds">;
  /** Reads the right fact besides, or alone: what a perfect selection would be worth. */
  readonly oracle?: "besides" | "alone";
  /** Whether texts are also read by it, which takes long. */
  readonly reads?: boolean;
}

const margin = { votes: "margin" } as const;
const ROWS: readonly Row[] = [
  { name: "count, per layer (the paper's)", reads: true },
  { name: "count, every 4th query", scope: { voteEvery: 4 } },
  { name: "count, per KV head", scope: { sharing: "kvHead" } },
  { name: "count, per KV head, top 8", scope: { sharing: "kvHead", topK: 8 } },
  { name: "count, top 16, 8 spans", scope: { topK: 16, maxSpans: 8 } },
  { name: "count, 8 spans of 32", scope: { maxSpans: 8, spanSize: 32 } },
  { name: "count, last 16 queries", steering: { lastQueries: 16 } },
  { name: "count, KV heads 1.1 and 2.0", steering: { heads: { 1: 1, 2: 0 } } },
  { name: "count, layer 2 alone", layers: [2] },
  { name: "margin", scope: margin, reads: true },
  { name: "margin, every 4th query", scope: { ...margin, voteEvery: 4 }, reads: true },
  { name: "margin, every 8th query", scope: { ...margin, voteEvery: 8 } },
  { name: "margin, top 8", scope: { ...margin, topK: 8 } },
  { name: "margin, top 8, every 4th", scope: { ...margin, topK: 8, voteEvery: 4 }, reads: true },
  { name: "margin, top 16, every 4th", scope: { ...margin, topK: 16, voteEvery: 4 } },
  { name: "the right fact besides", oracle: "besides" },
  { name: "the right fact alone", oracle: "alone" },
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    length: { type: "string", default: "8192" },
    texts: { type: "string", default: "2" },
    questions: { type: "string", default: "12" },
    distractors: { type: "string", default: "16,64" },
    families: { type: "string", default: "apart,grid,syllables" },
    windows: { type: "string", default: "3" },
    rows: { type: "string", default: "" },
  },
});
const [path] = positionals;
if (path === undefined) throw new TypeError("Cannot start: a text file must be given, got none");
const book = readFileSync(path, "utf8");
const length = Number(values.length);
const wanted = values.rows.split(";");
const rows = ROWS.filter(({ name }, i) => i === 0 || wanted[0] === "" || wanted.includes(name));

using backend = await openBackend("wasm", { threads: 1 });
const steering = steerSelection(backend);
using model = await loadModel(undefined, { backend });
const began = performance.now();

/** A question under a row's rule. */
interface Outcome {
  readonly right: boolean;
  /** Whether the fact was in some layer's selection when the first wrong token was written. */
  readonly read: boolean;
}

async function ask(
  session: Session,
  { scope, layers, steering: steered, oracle }: Row,
  needle: Needle,
  { places }: LookAlikeText,
): Promise<Outcome> {
  const stretch = places.get(needle)!;
  const reads: boolean[] = []; // at each token of the answer
  const perStep = (layers ?? session.selectLayers).length;
  Object.assign(steering, { heads: undefined, lastQueries: undefined }, steered, {
    read: oracle && { stretch, alone: oracle === "alone" },
    onSelect: (queries: number, runs: readonly Uint32Array[]) => {
      if (queries === 1) {
        reads.push(runs.some((each) => covers(each, [stretch[1] - 7, stretch[1]])));
      }
    },
  });
  using fork = session.fork({ scope, selectLayers: layers });
  const text = await answerOf(model, fork, needle);
  Object.assign(steering, { read: undefined, onSelect: undefined });
  const encode = (answer: string) => model.tokenizer.encode(` ${answer}.`, { continuation: true });
  const expected = encode(needle.answer);
  const written = encode(text.trim().replace(/\.$/, ""));
  const wrong = expected.findIndex((token, i) => token !== written[i]);
  const step = Math.max(0, wrong) * perStep;
  return {
    right: judge(text, needle).right,
    read: reads.slice(step, step + perStep).includes(true),
  };
}

const asked = rows.map((): Outcome[] => []);
const askedBy = rows.map((): string[] => []); // right of each column
const askSeconds = rows.map(() => 0);
const afterReading = rows.map((): Outcome[] => []);
const columns: string[] = [];
for (const family of values.families.split(",") as Family[]) {
  for (const distractors of values.distractors.split(",").map(Number)) {
    columns.push(`${family} ${distractors}`);
    const firsts = asked.map((outcomes) => outcomes.length);
    for (let i = 0; i < Number(values.texts); i++) {
      const seed = 1000 * distractors + i + 1;
      const needles = createLookAlikes(family, distractors + 1, seed);
      const text = hideInBook(model, book, needles, length, seed);
      const count = Math.min(Number(values.questions), needles.length);
      const chosen = drawFrom(needles, count, seededRandom(seed + 1));
      using session = model.session({ select: "ask" });
      await session.prefill(text.tokens);
      for (const [r, row] of rows.entries()) {
        steering.seconds = 0;
        for (const needle of chosen) asked[r]!.push(await ask(session, row, needle, text));
        askSeconds[r]! += steering.seconds;
        if (!row.reads || i > 0) continue;
        using reader = model.session({ select: "always", scope: row.scope });
        await reader.prefill(text.tokens);
        for (const needle of chosen) afterReading[r]!.push(await ask(reader, row, needle, text));
      }
    }
    for (const [r, outcomes] of asked.entries()) {
      const these = outcomes.slice(firsts[r]);
      askedBy[r]!.push(`${countRight(these)}/${these.length}`);
    }
  }
}

// Prose: windows of the book, of which the second half counts.
const windows = Array.from({ length: Number(values.windows) }, (_, i) => {
  const from = Math.floor(book.length * (i + 0.5) / Number(values.windows));
  const tokens = model.tokenizer.encode(book.slice(from, from + 4 * length)).subarray(0, length);
  return Uint32Array.from([model.tokenizer.bosToken!, ...tokens]);
});
const losses: (readonly number[] | null)[] = [];
const proseSeconds: number[] = [];
for (const { scope, layers, steering: steered, oracle } of rows) {
  if (oracle || windows.length === 0) {
    losses.push(null);
    continue;
  }
  Object.assign(steering, { heads: undefined, lastQueries: undefined }, steered, { seconds: 0 });
  using session = model.session({ scope }); // the rules that a session would have
  const all: number[] = [];
  for (const window of windows) {
    all.push(
      ...await negativeLogLikelihoods(model, window, window.length >> 1, {
        scope: session.scope,
        stepSize: model.profile!.stepSize!,
        selectLayers: layers ?? session.selectLayers,
      }),
    );
  }
  losses.push(all);
  proseSeconds[losses.length - 1] = steering.seconds;
}

const table = rows.map(({ name }, r) => {
  const loss = losses[r];
  return [
    name,
    ...askedBy[r]!,
    share(asked[r]!),
    versus(asked[r]!, asked[0]!),
    (1000 * askSeconds[r]! / asked[r]!.length).toFixed(1),
    afterReading[r]!.length > 0 ? share(afterReading[r]!) : "",
    loss ? (average(loss)).toFixed(4) : "",
    loss && r > 0 ? difference(loss, losses[0]!) : "",
    loss ? proseSeconds[r]!.toFixed(2) : "",
  ];
});
const header = [
  "selection",
  ...columns,
  "right % (95 %)",
  "won, lost",
  "select, ms a question",
  "read so, right %",
  "nll of prose",
  "against the first",
  "select, s",
];
console.log(`| ${header.join(" | ")} |\n|${header.map(() => "---").join("|")}|`);
for (const row of table) console.log(`| ${row.join(" | ")} |`);

const besides = rows.findIndex(({ oracle }) => oracle === "besides");
const wrong = asked[0]!.map((outcome, i) => ({ ...outcome, mended: asked[besides]?.[i]?.right }))
  .filter(({ right }) => !right);
const read = wrong.filter((each) => each.read).length;
const mended = wrong.filter((each) => !each.read && each.mended).length;
console.log(
  `\nWrong by the first: ${wrong.length}. The fact was selected and not used: ${read}; not selected, and ` +
    `right when it joins: ${mended}; not selected, and wrong all the same: ${
      wrong.length - read - mended
    }.\n${windows.length} windows of ${length} tokens, ${columns.length} columns of ${values.texts} texts of ` +
    `about ${length} tokens; ${
      ((performance.now() - began) / 1000).toFixed(0)
    } s, ${backend.description}`,
);

function countRight(outcomes: readonly Outcome[]): number {
  return outcomes.filter(({ right }) => right).length;
}

/** Right answers in percent, with Wilson's interval. */
function share(outcomes: readonly Outcome[]): string {
  const n = outcomes.length;
  const p = countRight(outcomes) / n;
  const z = 1.96;
  const middle = (p + z * z / 2 / n) / (1 + z * z / n);
  const half = z / (1 + z * z / n) * Math.sqrt(p * (1 - p) / n + z * z / 4 / n / n);
  const percent = (x: number) => (100 * x).toFixed(0);
  return `${(100 * p).toFixed(1)} (${percent(middle - half)}-${percent(middle + half)})`;
}

/** Questions that are right here alone, and there alone. */
function versus(here: readonly Outcome[], there: readonly Outcome[]): string {
  const only = (a: readonly Outcome[], b: readonly Outcome[]) =>
    a.filter(({ right }, i) => right && !b[i]!.right).length;
  return `+${only(here, there)} -${only(there, here)}`;
}

function average(numbers: readonly number[]): number {
  return numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
}

/** The mean difference and its 95 % interval; neighbours are alike, so blocks of them count as one. */
function difference(here: readonly number[], there: readonly number[]): string {
  const BLOCK = 256;
  const means = Array.from({ length: Math.floor(here.length / BLOCK) }, (_, b) => {
    const [start, end] = [b * BLOCK, (b + 1) * BLOCK];
    return average(here.slice(start, end)) - average(there.slice(start, end));
  });
  const mean = average(means);
  const squares = means.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  const error = Math.sqrt(squares / means.length / (means.length - 1));
  return `${mean.toFixed(4)} ± ${(1.96 * error).toFixed(4)}`;
}
