/**
 * A recall map as one HTML page that needs nothing else, and that lets nothing else in.
 *
 * @module
 */

import { formatCount, plural } from "./format.ts";
import { SCRIPT } from "./recall_page_script.ts";
import { STYLE } from "./recall_page_style.ts";
import { laneName, type RecallMap } from "./recall_trace.ts";

/** What the page's script reads. */
interface PageData {
  readonly length: number;
  readonly lanes: readonly string[];
  readonly inputs: readonly string[];
  /** Tokens that are read in any case: [start, end) each. */
  readonly always: readonly (readonly [start: number, end: number])[];
  /** Of each lane: start, end, steps; start, end, steps; ... */
  readonly all: readonly (readonly number[])[];
  readonly steps: readonly {
    /** The index of the token that it chose; null for the question. */
    readonly token: number | null;
    /** Of each lane: start, end; start, end; ... */
    readonly spans: readonly (readonly number[])[];
  }[];
  /** Of the answer: each token's index, text, and step. */
  readonly written: readonly (readonly [token: number, text: string, step: number | null])[];
  /** Texts of consecutive tokens, from the first of them on. */
  readonly texts: readonly (readonly [start: number, pieces: readonly string[]])[];
  /** Where selected tokens start and end: input and byte. */
  readonly starts: Readonly<Record<number, readonly [input: number, byte: number]>>;
  readonly ends: Readonly<Record<number, readonly [input: number, byte: number]>>;
}

/** The page. */
export async function recallPage(map: RecallMap): Promise<string> {
  const policy = [
    "default-src 'none'",
    `script-src ${await sourceOf(SCRIPT)}`,
    `style-src ${await sourceOf(STYLE)}`,
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const title = map.question === null ? "What the text's continuation read" : "What was read for";
  const question = map.question === null ? "" : ` “<bdi>${escapeHtml(map.question)}</bdi>”`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}${map.question === null ? "" : ` “${escapeHtml(map.question)}”`}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(title)}${question}</h1>
<p class="quiet"><bdi>${escapeHtml(describe(map))}</bdi></p>
${notes(map).map((note) => `<p class="failed">${escapeHtml(note)}</p>\n`).join("")}
<div id="tokens"></div>
<h2 id="what"></h2>
<p class="quiet"><span id="scale"></span> Grey: the first and the last tokens, which are always read.
Point at a bar for its text, double-click to look closer, click a token to see what it read.
<button type="button" id="whole" hidden>whole text</button></p>
<div><svg id="map" role="img" aria-labelledby="what"></svg></div>
<div id="tip" role="tooltip" hidden></div>
<h2>In words</h2>
<ol id="quotes"></ol>
<p id="rest" class="quiet"></p>
<noscript><p class="failed">This page draws with a script of its own, and scripts are switched off.</p></noscript>
<script type="application/json" id="data">${embed(pageData(map))}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function describe(
  { model, length, writingStart, inputs, emptyInputs, lanes, globalSize, localSize }: RecallMap,
): string {
  const read = writingStart ?? length;
  const layers = new Set(lanes.map(({ layer }) => layer)).size;
  const names = inputs.filter((_, i) => !emptyInputs.includes(i));
  const shown = names.slice(0, 5).join(", ") +
    (names.length > 5 ? `, ${names.length - 5} more` : "");
  const edges = globalSize === null || localSize === null
    ? ""
    : `; each step reads the first ${formatCount(globalSize)} and the last ${
      formatCount(localSize)
    } tokens and what is drawn here`;
  return `${plural(read, "token")} of text${shown === "" ? "" : ` (${shown})`}; model ${model}, ` +
    `${plural(layers, "layer")} that select${layers === 1 ? "s" : ""}${edges}`;
}

function notes({ omittedSteps, error, writingStart }: RecallMap): string[] {
  return [
    ...(error === null ? [] : [`The run failed: ${error}`]),
    ...(writingStart === null
      ? [
        "The trace has no texts of the question and the answer: it is of an older version, or was cut.",
      ]
      : []),
    ...(omittedSteps === 0 ? [] : [`The last ${plural(omittedSteps, "step")} are left out.`]),
  ];
}

function pageData(map: RecallMap): PageData {
  const { length, lanes, steps, inputs, pieces, globalSize, localSize } = map;
  const answers = new Map(
    steps.flatMap(({ phase, length }, i) => phase === "generate" ? [[length, i] as const] : []),
  );
  const firstWritten = Math.min(...answers.keys());
  const written = [...new Set([...pieces.keys(), ...answers.keys()])]
    .filter((token) => token >= firstWritten).sort((a, b) => a - b);
  const bytes = (places: RecallMap["starts"]) =>
    Object.fromEntries(
      [...places].map(([token, { input, byte }]) => [token, [input, byte]] as const),
    );
  const read = map.writingStart ?? length;
  return {
    length,
    lanes: lanes.map(laneName),
    inputs,
    always: [
      ...(globalSize === null ? [] : [[0, Math.min(globalSize, length)] as const]),
      ...(localSize === null ? [] : [[Math.max(0, read - localSize), length] as const]),
    ],
    all: lanes.map(({ stretches }) =>
      stretches.flatMap(({ start, end, steps }) => [start, end, steps])
    ),
    steps: steps.map(({ phase, length, spans }) => ({
      token: phase === "generate" ? length : null,
      spans: spans.map((set) => set.flatMap(({ start, end }) => [start, end])),
    })),
    written: written.map((token) => [token, pieces.get(token) ?? "", answers.get(token) ?? null]),
    texts: consecutive(pieces),
    starts: bytes(map.starts),
    ends: bytes(map.ends),
  };
}

/** Texts by token, as runs of tokens. */
function consecutive(pieces: ReadonlyMap<number, string>): [start: number, pieces: string[]][] {
  const runs: [number, string[]][] = [];
  for (const token of [...pieces.keys()].sort((a, b) => a - b)) {
    const run = runs.at(-1);
    if (run && run[0] + run[1].length === token) run[1].push(pieces.get(token)!);
    else runs.push([token, [pieces.get(token)!]]);
  }
  return runs;
}

/** JSON within a script element: no text in it can end the element. */
function embed(data: PageData): string {
  return JSON.stringify(data).replaceAll("<", "\\u003c");
}

/** How a page's policy names an inline script or style. */
async function sourceOf(text: string): Promise<string> {
  const hash = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)),
  );
  return `'sha256-${btoa(String.fromCharCode(...hash))}'`;
}

function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => names[character]!);
}
