// What each layer read: the trace's texts, the map that is made of it, and its page in a real browser.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { inColors, plain } from "../src/cli/paint.ts";
import { piecesOf } from "../src/cli/pieces.ts";
import { recallPage } from "../src/cli/recall_page.ts";
import { drawRecall } from "../src/cli/recall_text.ts";
import { placeOf, readRecallTrace, type RecallMap, textOf } from "../src/cli/recall_trace.ts";
import { createTrace } from "../src/cli/trace.ts";
import { loadModel } from "../mod.ts";
import { findBrowser, visit } from "./support/browser.ts";

const browser = findBrowser();
const skip = browser === null && "there is no Chromium";
if (skip) console.error(`!! ${skip}: the test of the recall page was skipped`);

const folder = mkdtempSync(join(tmpdir(), "reattention-recall-"));
after(() => rmSync(folder, { recursive: true, force: true }));

async function* numbered(lines: readonly unknown[]) {
  for (const [i, value] of lines.entries()) yield { value, number: i + 1 };
}

const read = (...lines: unknown[]): Promise<RecallMap> =>
  readRecallTrace("a trace", numbered(lines));

const HEADER = {
  type: "header",
  version: 1,
  model: "embedded",
  scope: { globalSize: 16, localSize: 240 },
  inputs: ["book.txt"],
};

const span = (start: number, end: number) => ({
  start,
  end,
  input: 0,
  startByte: start * 4,
  endByte: end * 4,
});

/** Texts of tokens [start, end): `w300 ` and so on. */
const words = (start: number, end: number) => ({
  start,
  pieces: Array.from({ length: end - start }, (_, i) => `w${start + i} `),
});

const LINES = [
  HEADER,
  { type: "selection", step: 3, phase: "read", layer: 1, length: 700, spans: [span(20, 40)] },
  {
    type: "selection",
    step: 9,
    phase: "question",
    layer: 1,
    length: 1004,
    spans: [span(300, 316), span(500, 516)],
    texts: [words(288, 544)],
  },
  { type: "selection", step: 9, phase: "question", layer: 2, length: 1004, spans: [span(40, 56)] },
  {
    type: "selection",
    step: 10,
    phase: "generate",
    layer: 1,
    length: 1005,
    spans: [span(308, 324)],
  },
  { type: "selection", step: 10, phase: "generate", layer: 2, length: 1005, spans: [] },
  {
    type: "selection",
    step: 11,
    phase: "generate",
    layer: 1,
    length: 1006,
    spans: [span(300, 316)],
  },
  {
    type: "end",
    length: 1007,
    inputs: [{ name: "book.txt", byteLength: 4000, replaced: 0 }],
    writing: {
      start: 1000,
      question: "What?",
      pieces: ["\n", "What", "?", " It", " is", " 7", "1"],
    },
  },
];

test("a trace becomes a map: lanes, steps, stretches, texts and places", async () => {
  const map = await read(...LINES);
  equal(map.question, "What?");
  equal(map.length, 1007);
  equal(map.writingStart, 1000);
  deepEqual(map.steps.map(({ phase, length }) => [phase, length]), [
    ["question", 1004],
    ["generate", 1005],
    ["generate", 1006],
  ]);
  deepEqual(map.lanes.map(({ layer }) => layer), [1, 2]);
  // Tokens 308 to 316 were read in all three steps; those around them in half of these or more.
  deepEqual(map.lanes[0]!.stretches, [
    { start: 300, end: 316, steps: 3 },
    { start: 316, end: 324, steps: 1 },
    { start: 500, end: 516, steps: 1 },
  ]);
  deepEqual(map.steps[1]!.spans, [[{ start: 308, end: 324 }], []]);
  equal(textOf(map, { start: 300, end: 302 }), "w300 w301 ");
  equal(textOf(map, { start: 40, end: 56 }), null);
  equal(placeOf(map, { start: 300, end: 316 }), "book.txt, bytes 1,200 to 1,264");
  equal(placeOf(map, { start: 301, end: 316 }), null);
});

test("a layer with a selection for each KV head has a lane for each", async () => {
  const line = { type: "selection", step: 1, phase: "generate", layer: 4, length: 90 };
  const map = await read(
    HEADER,
    { ...line, kvHead: 1, spans: [span(20, 36)] },
    { ...line, kvHead: 0, spans: [span(30, 46)] },
  );
  deepEqual(map.lanes.map(({ layer, kvHead }) => [layer, kvHead]), [[4, 0], [4, 1]]);
  equal(map.question, null);
});

for (
  const [what, lines, complaint] of [
    ["no header", [LINES[2]], /line 1: a trace begins with its header/],
    ["a later version", [{ ...HEADER, version: 2 }], /version must be 1, got 2/],
    ["nothing", [], /it is empty/],
    ["no selections", [HEADER, LINES.at(-1)], /there are none: the text may fit into one scope/],
    ["selections of the reading alone", LINES.slice(0, 2), /only 1 made while reading/],
    ["null", [HEADER, null], /line 2: a line of a trace must be an object, got null/],
    [
      "a span that ends nowhere",
      [HEADER, { ...LINES[2], spans: [{ start: 5, end: 1e9 }] }],
      /line 2: a span must end after it starts, within 1,004 tokens/,
    ],
    [
      "a span as long as time",
      [HEADER, { ...LINES[2], length: 2 ** 50, spans: [{ start: 5, end: 2 ** 50 }] }],
      /may select at most 32,000,000 tokens/,
    ],
    [
      "spans that are none",
      [HEADER, { ...LINES[2], spans: "x" }],
      /spans must be an array, got "x"/,
    ],
    ["half a layer", [HEADER, { ...LINES[2], layer: 0.5 }], /layer must be a whole number/],
  ] as const
) {
  test(`a trace with ${what} is refused`, async () => {
    await rejects(read(...lines), (error: Error) => {
      match(error.message, /^Cannot draw a trace/);
      match(error.message, complaint);
      return true;
    });
  });
}

test("in a terminal a recall map is a line of blocks for each layer, elsewhere a list", async () => {
  const map = await read(...LINES);
  const list = drawRecall(map, 80, plain);
  match(list, /^What was read for "What\?": 3 steps, 1,007 tokens in all$/m);
  match(list, /^ +3 of 3 {2}tokens 300 to 316 \(book\.txt, bytes 1,200 to 1,264\)\n +w300 w301 /m);
  ok(!list.includes("\u001b") && list.split("\n").every((line) => line.length <= 80));
  const strips = drawRecall(map, 80, inColors).split("\n").filter((line) => line.includes("·"))
    // deno-lint-ignore no-control-regex
    .map((line) => line.replace(/\u001b\[[\d;]*m/g, ""));
  // 72 characters for 1007 tokens: token 300 is in the 22nd, 500 in the 36th.
  match(strips[0]!, /^layer 1 ·{21}██▃·{11}▃▃·+$/);
  match(strips[1]!, /^layer 2 ··▃▃·+$/);
});

test("the trace quotes what was selected, once, and what was asked and answered", async () => {
  // Characters of several tokens each, around a fact, in a text of which little is selected.
  const filler = "Der Bär aß 漢字 im Regen, und naïve Leute staunten. ".repeat(60);
  const fact = "The pass key is 71432. Remember it. 71432 is the pass key. ";
  const text = filler + fact + filler;
  const written: string[] = [];
  const file = {
    write: (text: string) => {
      written.push(text);
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  using model = await loadModel(undefined, { threads: 1 });
  const locate = (startByte: number, endByte: number) => ({ input: 0, startByte, endByte });
  const pieces = (start: number, end: number) => piecesOf(model, session, start, end);
  const trace = createTrace(file, {}, locate, pieces);
  using session = model.session({ onSelect: trace.record });
  const writer = session.writable().getWriter();
  await writer.write(text);
  await writer.close();
  const start = session.length;
  let answer = "";
  for await (const piece of session.ask("What is the pass key?", { maxTokens: 12 })) {
    answer += piece;
  }
  await trace.end({});
  equal(answer.trim(), "71432.");

  const lines = written.join("").trimEnd().split("\n").map((line) => JSON.parse(line));
  const known = new Map<number, string>();
  for (const { texts = [] } of lines) {
    for (const { start, pieces } of texts as { start: number; pieces: string[] }[]) {
      for (const [i, piece] of pieces.entries()) {
        ok(!known.has(start + i), `token ${start + i} is quoted twice`);
        known.set(start + i, piece);
      }
    }
  }
  ok(known.size > 0 && known.size < start, `${known.size} of ${start} tokens are quoted`);
  const bytes = new TextEncoder().encode(text);
  let spans = 0;
  for (const { spans: found = [] } of lines) {
    for (const { start, end, startByte, endByte } of found) {
      spans++;
      const quoted = Array.from({ length: end - start }, (_, i) => known.get(start + i)).join("");
      const whole = new TextDecoder().decode(bytes.subarray(startByte, endByte));
      // A character that ends behind the stretch is not in it; one that began before it is.
      const inner = whole.replaceAll("\ufffd", "");
      ok(
        quoted.includes(inner) && quoted.length <= inner.length + 1,
        JSON.stringify([quoted, whole]),
      );
    }
  }
  ok(spans > 10);
  match(piecesOf(model, session, start, session.length).join(""), /^\n?What is .*71432\.$/s);
});

/** What tests/browser/recall.js saw. */
interface Seen {
  readonly title: string;
  readonly what: string;
  readonly tip: string | null;
  readonly bars: number;
  readonly hotBars: number;
  readonly quotes: readonly string[];
  readonly pressed: readonly string[];
}

interface Facts {
  readonly first: Seen;
  readonly pointed: Seen;
  readonly left: Seen;
  readonly clicked: readonly Seen[];
  readonly pointedAgain: Seen;
  readonly closer: Seen & { readonly ticks: readonly string[]; readonly back: boolean };
  readonly back: Seen & { readonly ticks: readonly string[] };
  readonly words: readonly string[];
  readonly ran: unknown;
  readonly scripts: number;
  readonly images: number;
  readonly loaded: readonly string[];
  readonly isWide: boolean;
}

test(
  "the page shows a stretch's text under the pointer and what a clicked token read, whatever the texts are",
  { skip },
  async () => {
    const evil = `</script><script>ran=1</script><img src=x onerror="ran=2">'"&amp;<!--`;
    const pieces = words(288, 544).pieces;
    pieces[300 - 288] = evil;
    pieces[301 - 288] = "\u2028\u202e\u0000\ud800";
    const lines = LINES.map((line) =>
      "texts" in line ? { ...line, texts: [{ start: 288, pieces }] } : "writing" in line
        ? {
          ...line,
          writing: {
            ...line.writing!,
            question: evil,
            pieces: [...line.writing!.pieces.slice(0, 5), evil, "1"],
          },
        }
        : line
    );
    const page = await recallPage(
      await read({ ...HEADER, model: evil, inputs: [evil] }, ...lines.slice(1)),
    );
    writeFileSync(join(folder, "page.html"), page);
    ok(!page.includes("<img") && page.split("<script").length === 3);
    ok(!/https?:(?!\/\/www\.w3\.org\/2000\/svg)/.test(page));

    const facts = await visit<Facts>(browser!, {
      plan: null,
      isolated: false,
      page: "recall.html",
      pages: { "/recall": readFileSync(join(folder, "page.html"), "utf8") },
    });
    equal(facts.ran, null);
    deepEqual([facts.scripts, facts.images, facts.isWide], [2, 0, false]);
    deepEqual(facts.loaded, []);
    equal(facts.first.title, `What was read for “${evil}”`);
    equal(facts.first.bars, 4);
    deepEqual(facts.first.pressed, ["all steps"]);
    equal(facts.first.tip, null);
    ok(facts.first.quotes[0]!.startsWith(evil));

    equal(facts.pointed.hotBars, 1);
    match(facts.pointed.tip!, /^layer 1, in 3 of 3 steps, tokens 300 to 316 \(/);
    ok(facts.pointed.tip!.includes("w299 "));
    ok(facts.pointed.tip!.includes(evil));
    deepEqual([facts.left.tip, facts.left.hotBars], [null, 0]);

    // The tokens that steps chose: 1005 and 1006. The one at 1004 was chosen by no step of the trace.
    deepEqual(facts.words, [evil, "1"]);
    equal(facts.clicked[0]!.what, `What the token “${evil}” read`);
    deepEqual(facts.clicked[0]!.quotes, [words(308, 324).pieces.join("")]);
    deepEqual(facts.clicked.map(({ bars }) => bars), [1, 1]);
    deepEqual(facts.clicked[1]!.pressed, ["1"]);
    match(facts.pointedAgain.tip!, /^layer 1, tokens 300 to 316/);
    // An eighth of the text around it: 126 tokens.
    deepEqual([facts.closer.bars, facts.closer.back], [1, true]);
    ok(
      facts.closer.ticks.includes("300") && !facts.closer.ticks.includes("0"),
      `${facts.closer.ticks}`,
    );
    ok(facts.back.ticks.includes("0") && facts.back.ticks.includes("1,000"), `${facts.back.ticks}`);
  },
);
