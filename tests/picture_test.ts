// Pictures of results: what is in their SVG and PNG, and what a terminal shows.

import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { inColors, mix, plain } from "../src/cli/paint.ts";
import { drawGrid } from "../src/cli/picture_grid.ts";
import { drawPlot, drawTable } from "../src/cli/picture_plot.ts";
import { lengthLabels, scoreLabel, shortNumber } from "../src/eval/pictures/axes.ts";
import { curveCharts, logTicks } from "../src/eval/pictures/curve_charts.ts";
import { costCharts, perplexityChart } from "../src/eval/pictures/curves.ts";
import { absent, drawSvg } from "../src/eval/pictures/draw.ts";
import { needleGrid } from "../src/eval/pictures/needle_grid.ts";
import { needleMap } from "../src/eval/pictures/needle_map.ts";
import {
  type NeedleRow,
  readCostRow,
  readNeedleRow,
  readPerplexityRow,
} from "../src/eval/pictures/rows.ts";
import { launch, notBuilt as skip } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "reattention-picture-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs `picture`. */
function picture(...args: string[]) {
  const command = [...launch, "picture", ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    encoding: "utf8",
    env: { ...process.env, REATTENTION_DEBUG: "" },
    input: "",
  });
  return { status, out: stdout, error: stderr };
}

/** A file of JSON lines; gives its path. */
function jsonLines(name: string, lines: readonly unknown[], end = "\n"): string {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => JSON.stringify(line)).join("\n") + end);
  return path;
}

const result = (
  method: string,
  length: number,
  depth: number,
  score: number,
  more: Readonly<Record<string, number | string>> = {},
) => ({
  id: `single/${length}/${depth}`,
  task: "single",
  method,
  at: { length, depth, ...more },
  prediction: "",
  expected: [""],
  score,
  tokens: length,
  seconds: 1,
});

/** Always right, never right, and half of two. */
const RESULTS = [
  { type: "header", version: 1, suite: "needle" },
  result("reattention", 16384, 0.1, 1, { repeat: 0 }),
  result("reattention", 16384, 0.1, 1, { repeat: 1 }),
  result("reattention", 1048576, 0.1, 0, { repeat: 0 }),
  result("reattention", 1048576, 0.1, 1, { repeat: 1 }),
  result("reattention", 16384, 0.9, 1),
  result("window <&", 16384, 0.1, 0),
  result("window <&", 1048576, 0.9, 0),
  { ...result("window <&", 1048576, 0.1, 0), error: "out of memory" },
  { score: 0.7, summary: true },
];

const gridOf = (results: readonly unknown[]) =>
  needleGrid(results.map(readNeedleRow).filter((row): row is NeedleRow => row !== null));

test("results become a grid: means by method, length and depth", () => {
  const { lengths, depths, tasks, methods, panels } = gridOf(RESULTS);
  deepEqual([lengths, depths], [[16384, 1048576], [0.1, 0.9]]);
  deepEqual([tasks, methods], [["single"], ["reattention", "window <&"]]);
  deepEqual(panels[0]!.cells, [
    { length: 16384, depth: 0.1, score: 1, cases: 2 },
    { length: 16384, depth: 0.9, score: 1, cases: 1 },
    { length: 1048576, depth: 0.1, score: 0.5, cases: 2 },
  ]);
  equal(panels[0]!.score, 0.8);
  equal(panels[1]!.cells.length, 2);
});

test("what else sets cases apart makes maps of their own, repeats do not", () => {
  const rows = [4, 16].flatMap((distractors) =>
    [0, 1].map((repeat) => result("reattention", 1024, 0.5, 1, { distractors, repeat }))
  );
  deepEqual(gridOf(rows).tasks, ["single, distractors 4", "single, distractors 16"]);
});

/** The shapes that a mark drew, by what they say they are. */
function shapes(svg: string, mark: string): { readonly label: string; readonly fill: string }[] {
  return [...svg.matchAll(/<path ([^>]*)>/g)].map(([, attributes]) => attributes!)
    .filter((text) => text.includes(`aria-roledescription="${mark}"`))
    .map((text) => ({
      label: /aria-label="([^"]*)"/.exec(text)![1]!,
      fill: /(?:fill|stroke)="([^"]*)"/.exec(text)![1]!,
    }));
}

/** The texts of an SVG, in order. */
const texts = (svg: string) => [...svg.matchAll(/<text [^>]*>([^<]*)<\/text>/g)].map(([, t]) => t!);

test("a needle map has a cell for each length and depth, in its score's colour, with its value", async () => {
  const svg = await drawSvg(needleMap(gridOf(RESULTS)));
  const red = "rgb(178, 24, 43)";
  const green = "rgb(59, 165, 93)";
  deepEqual(shapes(svg, "rect mark"), [
    { label: "reattention, single: 16K tokens, depth 10 %: 100 % of 2 cases", fill: green },
    { label: "reattention, single: 16K tokens, depth 90 %: 100 % of 1 case", fill: green },
    {
      label: "reattention, single: 1M tokens, depth 10 %: 50 % of 2 cases",
      fill: "rgb(254, 224, 139)",
    },
    { label: "window &lt;&amp;, single: 16K tokens, depth 10 %: 0 % of 1 case", fill: red },
    { label: "window &lt;&amp;, single: 1M tokens, depth 90 %: 0 % of 1 case", fill: red },
  ]);
  const all = texts(svg);
  for (
    const text of [
      "16K",
      "1M",
      "10 %",
      "90 %",
      "text length, tokens",
      "depth",
      "score, % (0: never right, 100: always right)",
      "reattention",
      "window &lt;&amp;",
      "mean 80.0 %",
      "single; a cell is the mean score of 1 to 2 cases, in percent; grey: not measured; " +
      "1K = 1024 tokens",
    ]
  ) ok(all.includes(text), `"${text}" is not in ${JSON.stringify(all)}`);
  deepEqual(all.filter((text) => /^(100|50|0)$/.test(text)).length, 5 + 3); // cells, and the bar's
  ok(!svg.includes("NaN") && !svg.includes("undefined"));
});

test("a picture is about as wide as a page, whatever is in it", async () => {
  const lengths = [4, 8, 16, 32, 64, 128, 256, 512].map((k) => k * 1024);
  for (const methods of [1, 2, 3, 4, 7]) {
    const rows = Array.from(
      { length: methods },
      (_, m) =>
        lengths.flatMap((length) =>
          [0, 0.5, 1].map((depth) => result(`method ${m}`, length, depth, 1))
        ),
    ).flat();
    const svg = await drawSvg(needleMap(gridOf(rows)));
    const width = Number(/<svg [^>]*width="(\d+)/.exec(svg)![1]);
    ok(width > 400 && width <= 830, `${methods} methods: ${width} pixels`);
    equal(texts(svg).filter((text) => text === "100").length, rows.length + 1);
  }
});

test("perplexity is drawn by position, a line for each method, logarithmic where it spans much", async () => {
  const rows = ["reattention", "full"].flatMap((method) =>
    [512, 4096, 32768].map((position) =>
      readPerplexityRow({
        method,
        at: { length: position, repeat: 0 },
        perplexity: method === "full" ? position : 34,
      })!
    )
  );
  const chart = perplexityChart(rows);
  deepEqual([chart.xScale, chart.yScale], ["log", "log"]);
  const svg = await drawSvg(curveCharts([chart]));
  equal(shapes(svg, "line mark").length, 2);
  const points = shapes(svg, "point").map(({ fill }) => fill);
  deepEqual([points.length, new Set(points).size], [6, 2]);
  const all = texts(svg);
  for (
    const text of ["Perplexity by position", "position in the text, tokens", "reattention", "full"]
  ) ok(all.includes(text), text);
  for (const tick of ["1k", "10k"]) ok(all.includes(tick), `${tick}: ${all}`);
  // Repeats are averaged as likelihoods are: the geometric mean.
  const twice = [4, 9].map((perplexity) => ({ method: "a", position: 0, perplexity }));
  ok(Math.abs(perplexityChart(twice).curves[0]!.points[0]!.y - 6) < 1e-9);
});

test("cost is drawn by length: a question, and reading a token; from both kinds of rows", async () => {
  const rows = [
    { selector: "exact", length: 16384, secondsPerQuestion: 0.2, tokensPerSecond: 8000 },
    { selector: "exact", length: 1048576, secondsPerQuestion: 2, tokensPerSecond: 4000 },
    {
      runtime: "Bun",
      selector: "ask, blockmax",
      tokens: 16391,
      questionSeconds: 0.1,
      tokensPerSecondHere: 10_000,
    },
    { runtime: "Bun", tokens: 16391, questionSeconds: 0.1, tokensPerSecondHere: 10_000 },
  ].map((row) => readCostRow(row)!);
  deepEqual(rows.map(({ selector }) => selector), ["exact", "exact", "ask, blockmax, Bun", "Bun"]);
  const [question, reading] = costCharts(rows);
  deepEqual(question!.curves[0]!.points, [{ x: 16384, y: 0.2 }, { x: 1048576, y: 2 }]);
  deepEqual(reading!.curves[0]!.points, [{ x: 16384, y: 125 }, { x: 1048576, y: 250 }]);
  const all = texts(await drawSvg(curveCharts([question!, reading!], "Cost by length")));
  for (
    const text of [
      "Cost by length",
      "seconds a question (less is better)",
      "microseconds a token (less is better)",
      "length read, tokens",
      "100k",
      "1M",
      "ask, blockmax, Bun",
    ]
  ) ok(all.includes(text), `${text}: ${all}`);
  match(drawTable(reading!), /^ +1,048,576 +250 +- +-$/m);
});

test("lines of other kinds are left out, rows that cannot be are refused", () => {
  for (const value of [null, 3, "x", [], {}, { at: null }, { at: { length: 3 } }, RESULTS[0]]) {
    deepEqual([readNeedleRow(value), readPerplexityRow(value), readCostRow(value)], [
      null,
      null,
      null,
    ]);
  }
  for (
    const [read, complaint] of [
      [() => readNeedleRow(result("a", 0, 0.5, 1)), /length must be a whole number .* got 0/],
      [() => readNeedleRow(result("a", 16, 50, 1)), /depth must be from 0 to 1, got 50/],
      [() => readNeedleRow(result("a", 16, 0.5, 100)), /score must be from 0 to 1, got 100/],
      [() => readNeedleRow({ ...result("a", 16, 0.5, 1), method: " " }), /method must be a name/],
      [
        () => readPerplexityRow({ method: "a", position: 1, perplexity: 0.5 }),
        /perplexity must be 1 or more, got 0.5/,
      ],
      [
        () => readCostRow({ selector: "a", length: 1, secondsPerQuestion: 0, tokensPerSecond: 1 }),
        /secondsPerQuestion must be above 0 seconds, got 0/,
      ],
    ] as const
  ) throws(read, complaint);
  throws(() => needleGrid([]), /there are no results/);
  const many = Array.from({ length: 201 }, (_, i) => result("a", i + 1, 0.5, 1));
  throws(() => gridOf(many), /at most 200 lengths and depths, got 201 lengths and 1 depths/);
});

test("numbers on axes are short and true", () => {
  const label = (lengths: number[]) => {
    const { unit, label } = lengthLabels(lengths);
    return [unit, ...lengths.map(label)];
  };
  deepEqual(label([16384, 1572864]), ["1K = 1024 tokens", "16K", "1.5M"]);
  deepEqual(label([4000, 128_000, 1_000_000]), ["1K = 1000 tokens", "4K", "128K", "1M"]);
  deepEqual(label([16384, 1_000_000]), [null, "16,384", "1,000,000"]);
  deepEqual([1, 0.996, 0.004, 0, 0.666].map(scoreLabel), ["100", "99", "1", "0", "67"]);
  deepEqual([950, 999.9, 16391, 1.05e6, 0.01234].map(shortNumber), [
    "950",
    "1k",
    "16.4k",
    "1.05M",
    "0.0123",
  ]);
  deepEqual(logTicks(0.04, 12, 7), [0.1, 0.3, 1, 3, 10]);
  deepEqual(logTicks(95, 400, 7), [100, 150, 200, 300, 400]);
  deepEqual(logTicks(1, 1e9, 5), [1, 100, 1e4, 1e6, 1e8]);
  for (let i = 1; i < 300; i++) {
    const ticks = logTicks(1.03 ** i, 1.03 ** (i + i % 90 + 4), 7);
    ok(ticks.length <= 7, `${ticks}`);
  }
});

// deno-lint-ignore no-control-regex
const bare = (text: string) => text.replace(/\u001b\[[\d;]*m/g, "");

test("in a terminal a needle map is a table with colours behind its numbers", () => {
  const grid = gridOf(RESULTS);
  const colored = drawGrid(grid, 80, inColors);
  ok(colored.includes("\u001b[38;2;0;0;0;48;2;59;165;93m 100\u001b[0m"));
  ok(colored.includes("\u001b[38;2;255;255;255;48;2;178;24;43m   0\u001b[0m"));
  const lines = drawGrid(grid, 80, plain).split("\n");
  deepEqual(lines.slice(0, 5), [
    "reattention        window <&",
    "single: 80.0 %     single: 0.0 %",
    "         16K  1M            16K  1M",
    "   10 %  100  50      10 %    0   -",
    "   90 %  100   -      90 %    -   0",
  ]);
  deepEqual(bare(colored).split("\n").slice(0, 5), lines.slice(0, 5));
  // Where there is no room beside, the next is below.
  ok(drawGrid(grid, 30, plain).split("\n").includes("window <&"));
  equal(mix(["#000000", "#ffffff"], 0.5), "#808080");
});

test("in a terminal curves are drawn in dots, within its width", () => {
  const chart = perplexityChart([1, 10, 100, 1000].flatMap((position) => [
    { method: "level", position, perplexity: 10 },
    { method: "rising", position, perplexity: 10 * position },
  ]));
  const drawn = drawPlot(chart, 60, inColors);
  const lines = bare(drawn).split("\n");
  ok(lines.every((line) => line.length <= 60), drawn);
  ok(drawn.includes("\u001b[38;2;86;180;233m") && drawn.includes("\u001b[38;2;230;159;0m"));
  match(lines[2]!, /^ +10k ┤ .*[\u2801-\u28ff]$/);
  match(lines[15]!, /^ {6}10 ┤[\u2801-\u28ff]{40,}$/);
  ok(lines.some((line) => /^ +● rising$/.test(line)));
  match(drawTable(chart), /^ +1,000 +10 +10000$/m);
});

test("what is not installed is said with what to do", async () => {
  await rejects(
    Promise.reject(new Error("no such package")).catch(absent("vega")),
    /^Error: Cannot draw: the package vega must be installed .* "npm install vega vega-lite /,
  );
});

test("picture writes SVG and PNG files, and tables where nobody watches", { skip }, () => {
  const results = jsonLines("results.jsonl", RESULTS);
  for (const ending of ["svg", "png"]) {
    const path = join(folder, `map.${ending}`);
    deepEqual(picture("needle", results, "--out", path), { status: 0, out: "", error: "" });
    const bytes = readFileSync(path);
    if (ending === "svg") match(bytes.toString(), /^<svg .*<\/svg>$/s);
    else {
      deepEqual([...bytes.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
      const svg = readFileSync(join(folder, "map.svg"), "utf8");
      // Two pixels for each of the SVG's; width and height are the header's first fields.
      deepEqual(
        [bytes.readUInt32BE(16), bytes.readUInt32BE(20)],
        ["width", "height"].map((name) => 2 * Number(new RegExp(`${name}="(\\d+)"`).exec(svg)![1])),
      );
    }
  }
  const table = picture("needle", results);
  deepEqual([table.status, table.error], [0, ""]);
  match(table.out, /^ {3}10 % {2}100 {2}50/m);
  ok(!table.out.includes("\u001b"));
});

test("picture says what is wrong with a file, and leaves out a line that was cut", { skip }, () => {
  const cost = { selector: "a\u001b[31m", length: 9, secondsPerQuestion: 1, tokensPerSecond: 1 };
  const cut = jsonLines("cut.jsonl", [cost, cost], '\n{"selector":"b","len');
  const { status, out, error } = picture("cost", cut);
  equal(status, 0);
  match(out, /^length read, tokens {2}a·\[31m$/m);
  match(error, /^note: the last line of .*cut\.jsonl is cut, and was left out\n$/);

  const broken = jsonLines("broken.jsonl", [cost, cost], '\n{"selector\n{}\n');
  match(picture("cost", broken).error, /broken\.jsonl, line 3: it must be JSON, and is not\n$/);
  const wrong = jsonLines("wrong.jsonl", [cost, { ...cost, length: -1 }]);
  const refused = picture("cost", wrong, "--out", join(folder, "never.svg"));
  equal(refused.status, 1);
  match(
    refused.error,
    /wrong\.jsonl, line 2: length must be a whole number of tokens above 0, got -1\n$/,
  );
  ok(!existsSync(join(folder, "never.svg")));
  match(
    picture("needle", cut).error,
    /there must be lines with an at\.length and an at\.depth, and none of 2 lines has them\n$/,
  );
  for (
    const args of [["needle", cut, "--out", "x.html"], ["recall", cut, "--out", "x.svg"], [
      "tree",
      cut,
    ]]
  ) {
    equal(picture(...args).status, 2, args.join(" "));
  }
  match(
    picture("cost", cut, "--out", join(folder, "no", "x.svg")).error,
    /there is no such folder\n$/,
  );
});
