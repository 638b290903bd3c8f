/**
 * Facts of one form whose keys look alike, hidden in a book: RULER's multi-key needles. And a hand on
 * the selection, to see what it finds and what would be answered if it found something else.
 *
 * @module
 */

import { WasmSelection } from "../../src/backend/wasm/select.ts";
import type { Backend, Selection } from "../../src/backend/backend.ts";
import { createNeedles, type Needle, type Random, seededRandom } from "../../src/eval/haystack.ts";
import { WORDS } from "../../src/eval/haystack_words.ts";
import { hideNeedles } from "../../src/cli/probe_texts.ts";
import type { Model } from "../../src/llama/load.ts";

/** How keys resemble one another. */
export const FAMILIES = ["apart", "grid", "syllables", "hex"] as const;

/** `apart`: other words; `grid`: one word of two shared; `syllables`: one of three differs; `hex`: a UUID's head. */
export type Family = typeof FAMILIES[number];

const SYLLABLES =
  ("ba be bo da de do fa fe fi ga go ka ki ko la le li lo ma me mi mo na ne ni no pa " +
    "pe ra re ri ro sa se so ta te to va vi").split(" ");

/** Facts of one form about `count` keys, at even depths in random order. */
export function createLookAlikes(family: Family, count: number, seed: number): Needle[] {
  const random = seededRandom(seed);
  const depths = drawFrom(
    Array.from({ length: count }, (_, i) => (i + 0.5) / count),
    count,
    random,
  );
  return createKeys(family, count, random).map((key, i) => {
    const answer = Array.from({ length: 7 }, () => random(10)).join("");
    return {
      kind: "magic",
      key,
      answer,
      depth: 0.02 + 0.94 * depths[i]!,
      sentence: ` One of the special magic numbers for ${key} is: ${answer}.`,
      question: `What is the special magic number for ${key}?`,
    };
  });
}

function createKeys(family: Family, count: number, random: Random): string[] {
  switch (family) {
    case "apart":
      return createNeedles(Array(count).fill("magic"), random(1e9)).map(({ key }) => key);
    case "grid": {
      const side = Math.ceil(Math.sqrt(count));
      const nouns = drawFrom(WORDS.keyNoun, side, random);
      return drawFrom(WORDS.keyAdjective, side, random)
        .flatMap((adjective) => nouns.map((noun) => `${adjective}-${noun}`)).slice(0, count);
    }
    case "syllables": {
      const side = Math.ceil(Math.cbrt(count));
      const [first, second, third] = [1, 2, 3].map(() => drawFrom(SYLLABLES, side, random));
      return first!.flatMap((a) => second!.flatMap((b) => third!.map((c) => a + b + c)))
        .slice(0, count);
    }
    case "hex":
      return Array.from(
        { length: count },
        () => Array.from({ length: 8 }, () => random(16).toString(16)).join(""),
      );
  }
}

/** Some of a list, in random order. */
export function drawFrom<T>(list: readonly T[], count: number, random: Random): T[] {
  const rest = [...list];
  return Array.from({ length: count }, () => rest.splice(random(rest.length), 1)[0]!);
}

/** Tokens [start, end). */
export type Stretch = readonly [start: number, end: number];

/** A text as a model reads it. */
export interface LookAlikeText {
  /** With the token that begins a text. */
  readonly tokens: Uint32Array;
  /** Where each fact stands. */
  readonly places: ReadonlyMap<Needle, Stretch>;
}

/** About `length` tokens of a book with the facts in them; which stretch is the seed's choice. */
export function hideInBook(
  model: Model,
  book: string,
  needles: readonly Needle[],
  length: number,
  seed: number,
): LookAlikeText {
  const UNITS_PER_TOKEN = 2.6; // pocket's, on this book
  const size = Math.max(0, (length - 25 * needles.length) * UNITS_PER_TOKEN);
  const from = book.indexOf(" ", seededRandom(seed)(Math.max(1, book.length - Math.ceil(size))));
  const text = hideNeedles(book.slice(from, from + size), needles);
  const { tokenizer } = model;
  const encode = (part: string) => tokenizer.encode(part, { special: false, continuation: true });
  // Facts begin with a space and end with a full stop: cut there, a text has the same tokens.
  const tokens: number[] = tokenizer.bosToken === null ? [] : [tokenizer.bosToken];
  const places = new Map<Needle, Stretch>();
  let at = 0;
  for (const needle of [...needles].sort((a, b) => a.depth - b.depth)) {
    const start = text.indexOf(needle.sentence, at);
    tokens.push(...encode(text.slice(at, start)));
    const first = tokens.length;
    tokens.push(...encode(needle.sentence));
    places.set(needle, [first, tokens.length]);
    at = start + needle.sentence.length;
  }
  tokens.push(...encode(text.slice(at)));
  return { tokens: Uint32Array.from(tokens), places };
}

/** What a selection is made to do. */
export interface Steering {
  /** The only KV head of a layer that picks, for all heads of the layer. */
  heads?: Readonly<Record<number, number>>;
  /** Only so many of a step's last queries pick; 0: none, but in steps of one query. */
  lastQueries?: number;
  /** Tokens that are read besides the selected ones, or instead of them. */
  read?: { readonly stretch: Stretch; readonly alone: boolean };
  /** Told what each call selected, as runs for the layer or for each KV head. */
  onSelect?: (queries: number, runs: readonly Uint32Array[]) => void;
  /** Time in `select`, in seconds. */
  seconds: number;
}

/** Steers the selections of a WebAssembly backend from now on. */
export function steerSelection(backend: Backend): Steering {
  const steering: Steering = { seconds: 0 };
  const select = backend.select.bind(backend);
  backend.select = (store, layer, query, scope, config): Selection => {
    const { heads, lastQueries = Infinity, read, onSelect } = steering;
    const began = performance.now();
    const voters = query.rows === 1 || query.rows <= lastQueries
      ? query
      : backend.rows(query, query.rows - lastQueries, query.rows);
    const head = heads?.[layer];
    // What is read besides takes the room of two spans.
    const maxSpans = config.maxSpans - (read ? 2 : 0);
    const sharing = head === undefined ? config.sharing : "kvHead";
    const found = select(store, layer, voters, scope, { ...config, maxSpans, sharing });
    const { runs } = found as WasmSelection;
    const chosen = (head === undefined ? runs : [runs[head]!])
      .map((runs) => read ? join(read.alone ? new Uint32Array(0) : runs, read.stretch) : runs);
    steering.seconds += (performance.now() - began) / 1000;
    onSelect?.(query.rows, chosen);
    return new WasmSelection(chosen);
  };
  return steering;
}

/** Whether the runs have all tokens of a stretch. */
export function covers(runs: Uint32Array, [start, end]: Stretch): boolean {
  return runs.some((from, i) => i % 2 === 0 && from <= start && runs[i + 1]! >= end);
}

/** The runs and the stretch, ascending and apart. */
function join(runs: Uint32Array, [start, end]: Stretch): Uint32Array {
  const joined: number[] = [];
  let from = start;
  let to = end;
  let isIn = false;
  for (let i = 0; i < runs.length; i += 2) {
    const [runStart, runEnd] = [runs[i]!, runs[i + 1]!];
    if (runStart <= to && runEnd >= from) {
      [from, to] = [Math.min(from, runStart), Math.max(to, runEnd)];
    } else {
      if (runStart > to && !isIn) {
        joined.push(from, to);
        isIn = true;
      }
      joined.push(runStart, runEnd);
    }
  }
  if (!isIn) joined.push(from, to);
  return Uint32Array.from(joined);
}
