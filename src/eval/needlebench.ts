/**
 * NeedleBench's single retrieval, as the authors of ReAttention ran it (their fork of OpenCompass at
 * 126f9e2): its lengths, depths, wording and score.
 *
 * Two things are not to the letter. A needle takes the place of as many tokens instead of moving the
 * rest, at the nearest word's start; and lengths are the model's own tokens, not GPT-4's.
 *
 * @module
 */

import type { EvalCase } from "./case.ts";
import { createNeedles, seededRandom } from "./haystack.ts";
import type { HaystackSource } from "./haystack_source.ts";
import { baseText, placeFacts, textOf } from "./hidden_facts.ts";
import { hashOf } from "./needle.ts";
import type { TextTokens } from "./text_tokens.ts";

/** What NeedleBench's configuration has: tokens, depths from 0 to 1, samples of each. */
export const NEEDLEBENCH = {
  lengths: [32_000, 100_000, 200_000],
  depths: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
  repeats: 10,
} as const;

/** Tokens of a length that the text leaves to wording, question and answer. */
const BUFFER = 600;
const MAX_TOKENS = 50;
/** What an answer without the keyword is worth at most. */
const PARTIAL = 0.2;

/** A fact, as NeedleBench's needles file has it. */
export interface NeedleRecord {
  /** The sentence that is hidden. */
  readonly needle: string;
  /** The question, and how its answer begins. */
  readonly question: string;
  readonly answerPrefix: string;
  /** What a right answer contains. */
  readonly keyword: string;
}

const FORMAT = "Please answer in the format '";
/** What the format ends in where the answer belongs: the authors cut it off by its length. */
const BLANK_LENGTH = 10;

/**
 * The English records of NeedleBench's needles file, JSON lines.
 *
 * @throws {Error} If a line is none, or there are none in English.
 */
export function parseNeedleRecords(text: string, name: string): NeedleRecord[] {
  const records = text.split("\n").filter((line) => line.trim() !== "").flatMap((line, i) => {
    let value: Readonly<Record<string, unknown>> = {};
    try {
      value = Object(JSON.parse(line)) as typeof value;
    } catch {
      // Said below.
    }
    const { needle, retrieval_question: question, arg2, language } = value;
    if (typeof needle !== "string" || typeof question !== "string" || typeof arg2 !== "string") {
      throw new Error(
        `Cannot use the needles of "${name}": line ${
          i + 1
        } must have needle, retrieval_question and arg2`,
      );
    }
    if (language !== "English") return [];
    const [asked, format] = question.split(FORMAT);
    return [{
      needle,
      question: asked!.trimEnd(),
      answerPrefix: format === undefined ? "" : ` ${format.slice(0, -BLANK_LENGTH)}`,
      keyword: arg2,
    }];
  });
  if (records.length === 0) {
    throw new Error(`Cannot use the needles of "${name}": some must be English, found none`);
  }
  return records;
}

/** Own facts, for those who do not have the file. */
function ownRecord(seed: number): NeedleRecord {
  const [{ sentence, key, answer }] = createNeedles(["magic"], seed) as [
    ReturnType<typeof createNeedles>[number],
  ];
  return {
    needle: sentence.trim(),
    question: `What is the special magic number for ${key}?`,
    answerPrefix: ` The special magic number for ${key} is`,
    keyword: answer,
  };
}

/** Which cases. */
export interface NeedleBenchPlan {
  readonly lengths: readonly number[];
  readonly depths: readonly number[];
  readonly repeats: number;
  readonly seed: number;
  /** Null: facts of our own. */
  readonly records: readonly NeedleRecord[] | null;
}

/**
 * The cases, by length, depth and repeat.
 *
 * @throws {RangeError} If a length leaves no room for a text.
 */
export function createNeedleBenchCases(
  units: TextTokens,
  source: HaystackSource,
  { lengths, depths, repeats, seed, records }: NeedleBenchPlan,
): EvalCase[] {
  const head = units.encode(
    "You are an intelligent AI assistant skilled in answering user questions.\n" +
      "Please keep your answers concise and clear. Do not talk about irrelevant topics or repeat " +
      "your answers.\nThe document given to you by the user is",
  );
  return lengths.flatMap((length) => {
    const count = Math.floor((length - BUFFER) * units.perToken);
    if (count < 256) {
      throw new RangeError(
        `Cannot hide NeedleBench's needles: lengths must be at least 1000 tokens, got ${length}`,
      );
    }
    const base = baseText(units, source, count, seed + length, head);
    return depths.flatMap((depth) =>
      Array.from({ length: repeats }, (_, repeat): EvalCase => {
        const id = `needlebench/${length}/${depth}/${repeat}`;
        const random = seededRandom(hashOf(`${seed} ${id}`));
        const record = records?.[random(records.length)] ?? ownRecord(random(2 ** 31));
        const fact = { sentence: `\n${record.needle}\n`, depth };
        const patches = (base: Uint32Array) => placeFacts(units, base, [fact], head.length);
        const score = (prediction: string) =>
          needleBenchScore(prediction, record.needle, record.keyword);
        return {
          id,
          task: "needlebench",
          at: { length, depth, repeat },
          async *context() {
            const tokens = await base.tokens();
            yield* textOf(units, tokens, patches(tokens));
          },
          question: `\n\nNow, the question is: ${record.question}`,
          answerPrefix: record.answerPrefix,
          maxTokens: MAX_TOKENS,
          expected: [record.keyword],
          score,
          settled: (prediction) => score(prediction) === 1,
          shared: { base, patches },
        };
      })
    );
  });
}

/**
 * 1 where the keyword occurs; else up to 0.2 for an answer that resembles the needle, white space
 * aside, by the Levenshtein distance.
 *
 * @example Usage
 * ```ts
 * import { needleBenchScore } from "./needlebench.ts";
 * import { equal } from "node:assert/strict";
 *
 * equal(needleBenchScore("It is 12.", "The number is 12.", "12"), 1);
 * equal(needleBenchScore("abcd", "ab xy", "12"), 0.1);
 * ```
 */
export function needleBenchScore(prediction: string, needle: string, keyword: string): number {
  if (prediction.includes(keyword)) return 1;
  const [a, b] = [prediction, needle].map((text) => [...text.replace(/\s+/g, "")]);
  const longer = Math.max(a!.length, b!.length);
  return longer === 0 ? 0 : PARTIAL * (1 - levenshtein(a!, b!) / longer);
}

/** Insertions, deletions and replacements that make one of the other. */
function levenshtein(a: readonly string[], b: readonly string[]): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, x] of a.entries()) {
    const next = [i + 1];
    for (const [j, y] of b.entries()) {
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + Number(x !== y)));
    }
    row = next;
  }
  return row[b.length]!;
}
