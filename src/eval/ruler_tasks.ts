/**
 * What is drawn for a sample of each of RULER's tasks. What it says then is in `ruler_prompts.ts`.
 *
 * @module
 */

import { type Random, seededRandom } from "./haystack.ts";
import { createUuid } from "./needle.ts";
import {
  amongLines,
  commonWordsPrompt,
  documentsPrompt,
  frequentWordsPrompt,
  type Layout,
  needleSentence,
  niahPrompt,
  noiseLines,
  type RulerPrompt,
  trackingPrompt,
  type ValueType,
  type WordList,
} from "./ruler_prompts.ts";

/** A question about documents, of SQuAD or HotpotQA. */
export interface DocumentQuestion {
  readonly query: string;
  readonly answers: readonly string[];
  /** Documents that have the answer: indices. */
  readonly documents: readonly number[];
  /** Documents of the same article, which go before others. */
  readonly related: readonly number[];
}

/** Questions and what they are about. */
export interface DocumentSet {
  readonly documents: readonly string[];
  readonly questions: readonly DocumentQuestion[];
}

/** What tasks are made of. */
export interface RulerMaterial {
  /** Sentences of essays, in order; repeated where they are too few. */
  readonly essays: readonly string[];
  readonly adjectives: readonly string[];
  readonly nouns: readonly string[];
  /** For common words. */
  readonly words: readonly string[];
  readonly squad?: DocumentSet;
  readonly hotpotqa?: DocumentSet;
}

/** A sample whose size is still open. */
export interface Draft {
  readonly expected: readonly string[];
  /** The prompt with `size` units of haystack. */
  render(size: number): RulerPrompt;
}

/** A task: what it draws, and how large it may be. */
export interface RulerTask {
  readonly maxTokens: number;
  /** Units of the smallest haystack, and of the steps by which one is too large. */
  readonly increment: number;
  /** What of {@linkcode RulerMaterial} it cannot do without. */
  readonly needs?: "squad" | "hotpotqa";
  /** Any of the answers is enough. */
  readonly isAny?: boolean;
  draft(material: RulerMaterial, random: Random, length: number, sample: number): Draft;
}

/** Which needles, in which haystack. */
interface NiahOptions {
  readonly haystack: "noise" | "needle" | "essay";
  readonly keys?: "words" | "uuids";
  readonly values?: ValueType;
  readonly numKeys?: number;
  readonly numValues?: number;
  readonly numQueries?: number;
}

/** The tasks by RULER's names. */
export const RULER_TASKS: Readonly<Record<string, RulerTask>> = {
  niah_single_1: niah({ haystack: "noise" }),
  niah_single_2: niah({ haystack: "essay" }),
  niah_single_3: niah({ haystack: "essay", values: "uuids" }),
  niah_multikey_1: niah({ haystack: "essay", numKeys: 4 }),
  niah_multikey_2: niah({ haystack: "needle" }),
  niah_multikey_3: niah({ haystack: "needle", keys: "uuids", values: "uuids" }),
  niah_multivalue: niah({ haystack: "essay", numValues: 4 }),
  niah_multiquery: niah({ haystack: "essay", numQueries: 4 }),
  vt: { maxTokens: 30, increment: 10, draft: draftTracking },
  cwe: { maxTokens: 120, increment: 10, draft: draftCommonWords },
  fwe: { maxTokens: 50, increment: 10, draft: draftFrequentWords },
  qa_1: documentTask("squad"),
  qa_2: documentTask("hotpotqa"),
};

/** Where needles stand in essays: 40 depths from 0 to 1. */
const DEPTHS = Array.from({ length: 40 }, (_, i) => Math.round(100 * i / 39) / 100);

function niah(options: NiahOptions): RulerTask {
  const { haystack, keys = "words", values = "numbers" } = options;
  const { numValues = 1, numQueries = 1 } = options;
  const numKeys = Math.max(options.numKeys ?? 1, numQueries);
  return {
    maxTokens: 128,
    increment: haystack === "essay" ? 20 : 5,
    draft(material, random) {
      const names = drawApart(numKeys, () => drawTerm(keys, material, random));
      const entries = names.map((key) => ({
        key,
        values: Array.from({ length: numValues }, () => drawTerm(values, material, random)),
      }));
      const hidden = shuffled(
        entries.flatMap((entry) =>
          entry.values.map((value) => needleSentence(values, entry.key, value))
        ),
        random,
      );
      const asked = drawSome(entries, numQueries, random);
      const depths = drawSome(DEPTHS, hidden.length, random).sort((a, b) => a - b);
      const seed = random(2 ** 31);
      const body = (size: number): string => {
        if (haystack === "essay") return amongSentences(material.essays, size, hidden, depths);
        const random = seededRandom(seed);
        const layout = drawLayout(size, hidden.length, random);
        const draw = (type: ValueType) => drawTerm(type, material, random);
        const lines = haystack === "noise"
          ? noiseLines(size)
          : Array.from({ length: size }, () => needleSentence(values, draw(keys), draw(values)));
        return amongLines(lines, layout, hidden);
      };
      const queries = asked.map(({ key }) => key);
      return {
        expected: asked.flatMap(({ values }) => values),
        render: (size) => niahPrompt(values, body(size), queries, numQueries * numValues === 1),
      };
    },
  };
}

/** A key or a value. */
function drawTerm(
  type: ValueType,
  { adjectives, nouns }: RulerMaterial,
  random: Random,
): string {
  switch (type) {
    case "uuids":
      return createUuid(random);
    case "numbers":
      return String(1_000_000 + random(9_000_000));
    case "words":
      return `${pick(adjectives, random)}-${pick(nouns, random)}`;
  }
}

/** The first `size` words of the essays, in sentences, with needles between these at some depths. */
function amongSentences(
  essays: readonly string[],
  size: number,
  hidden: readonly string[],
  depths: readonly number[],
): string {
  const sentences: string[] = [];
  for (let words = 0, i = 0; words < size && essays.length > 0; i++) {
    const all = essays[i % essays.length]!.split(/\s+/);
    const some = all.slice(0, size - words);
    sentences.push(some.join(" "));
    words += some.length;
  }
  const parts: string[] = [];
  let from = 0;
  for (const [i, needle] of hidden.entries()) {
    const to = Math.floor(sentences.length * depths[i]!);
    parts.push(...sentences.slice(from, to), needle);
    from = to;
  }
  return [...parts, ...sentences.slice(from)].join(" ");
}

/** Variables of a chain, the first with a value, and how much noise is in the example. */
const CHAIN = 5;
const EXAMPLE_NOISE = 16;

function draftTracking(_: RulerMaterial, random: Random): Draft {
  const draw = (letters: number) => {
    const names = drawApart(CHAIN, () => drawLetters(letters, "A", random));
    return { names, value: String(10_000 + random(89_999)) };
  };
  const example = { ...draw(3), layout: drawLayout(EXAMPLE_NOISE, CHAIN, random) };
  const chain = draw(5);
  const seed = random(2 ** 31);
  return {
    expected: chain.names,
    render(size) {
      const layout = drawLayout(size, CHAIN, seededRandom(seed));
      return trackingPrompt(example, { ...chain, layout });
    },
  };
}

/** How many common words, and how often each word occurs, in the example and in the task. */
const COMMON = 10;
const LONG = { example: { words: 40, common: 10, others: 3 }, common: 30, others: 3 };
const SHORT = { example: { words: 20, common: 3, others: 1 }, common: 6, others: 1 };
/** Tokens below which the lists are the short ones. */
const SHORT_LENGTH = 4096;

/** The haystack's size is the number of different words; at least those that are common. */
function draftCommonWords({ words }: RulerMaterial, random: Random, length: number): Draft {
  const { example, common, others } = length < SHORT_LENGTH ? SHORT : LONG;
  const list = (all: readonly string[], common: number, others: number, seed: number): WordList => {
    const frequent = all.slice(0, COMMON);
    const rest = all.slice(COMMON);
    const repeated = [
      ...Array.from({ length: common }, () => frequent).flat(),
      ...Array.from({ length: others }, () => rest).flat(),
    ];
    return { words: shuffled(repeated, seededRandom(seed)), common: frequent };
  };
  const solved = list(
    drawSome(words, example.words, random),
    example.common,
    example.others,
    random(2 ** 31),
  );
  const order = shuffled(words, random);
  const seed = random(2 ** 31);
  return {
    expected: order.slice(0, COMMON),
    render(size) {
      const all = order.slice(0, Math.max(COMMON, size));
      // Where the list has an end, words without a meaning go on.
      for (let i = all.length; i < size; i++) all.push(nonsense(i));
      return commonWordsPrompt(solved, list(all, common, others, seed));
    },
  };
}

/** A word for each number, no two alike. */
function nonsense(index: number): string {
  const syllables = "bedifogukalemoripusatevizonyax";
  let word = "";
  for (let rest = index + 225; rest > 0; rest = Math.floor(rest / 15)) {
    word += syllables.slice(rest % 15 * 2, rest % 15 * 2 + 2);
  }
  return word;
}

/** Coded words of six letters; the most frequent is noise. The frequency falls with the rank's square. */
const CODED_WORDS = 2000;
const CODED_LETTERS = 6;
const CODED_NOISE = "...";
const ZETA_2 = Math.PI ** 2 / 6;

/** The haystack's size is the number of words, as if frequencies were not rounded down. */
function draftFrequentWords(_: RulerMaterial, random: Random): Draft {
  const coded = drawApart(CODED_WORDS - 1, () => drawLetters(CODED_LETTERS, "a", random));
  const ranked = [CODED_NOISE, ...coded];
  const seed = random(2 ** 31);
  return {
    expected: ranked.slice(1, 4),
    render(size) {
      const words = ranked.flatMap((word, i) =>
        Array.from({ length: codedCount(size, i + 1) }, () => word)
      );
      return frequentWordsPrompt(shuffled(words, seededRandom(seed)));
    },
  };
}

/** How often the word of a rank occurs in a coded text of so many words. */
export function codedCount(words: number, rank: number): number {
  return Math.floor(words / rank ** 2 / ZETA_2);
}

function documentTask(needs: "squad" | "hotpotqa"): RulerTask {
  return {
    maxTokens: 32,
    increment: 10,
    needs,
    isAny: true,
    draft(material, random, _, sample) {
      const { documents, questions } = material[needs]!;
      const { query, answers, documents: right, related } = questions[sample % questions.length]!;
      const others = shuffled(
        documents.map((_, i) => i).filter((i) => !right.includes(i) && !related.includes(i)),
        random,
      );
      const order = [...right, ...shuffled(related, random), ...others];
      const seed = random(2 ** 31);
      return {
        expected: answers,
        render(size) {
          // Where there are no more, they come again.
          const count = Math.max(right.length, size);
          const chosen = Array.from({ length: count }, (_, i) => order[i % order.length]!);
          const shown = shuffled(chosen, seededRandom(seed)).map((i) => documents[i]!);
          return documentsPrompt(shown, query);
        },
      };
    },
  };
}

/** Places for some lines among others, ascending. */
function drawLayout(lines: number, count: number, random: Random): Layout {
  const places = Array.from({ length: Math.max(lines, count) }, (_, i) => i);
  const before = drawSome(places, count, random).sort((a, b) => a - b);
  return { lines, before: before.map((place) => Math.min(place, lines)) };
}

function drawLetters(count: number, first: "a" | "A", random: Random): string {
  const from = first.charCodeAt(0);
  return String.fromCharCode(...Array.from({ length: count }, () => from + random(26)));
}

/** Some that differ. */
function drawApart(count: number, draw: () => string): string[] {
  const drawn = new Set<string>();
  while (drawn.size < count) drawn.add(draw());
  return [...drawn];
}

function pick<T>(list: readonly T[], random: Random): T {
  return list[random(list.length)]!;
}

/** Some of a list, in random order. */
function drawSome<T>(list: readonly T[], count: number, random: Random): T[] {
  return shuffled(list, random).slice(0, count);
}

function shuffled<T>(list: readonly T[], random: Random): T[] {
  const all = [...list];
  for (let i = all.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all;
}
