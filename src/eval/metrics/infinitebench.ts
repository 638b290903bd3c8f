/**
 * InfiniteBench's scores, task by task, as its `compute_scores.py` gives them, quirks included:
 * what was published is comparable with nothing else.
 *
 * @module
 */

import { characterF1, wordF1 } from "./f1.ts";
import { blank, strip, words } from "./python_text.ts";
import { rougeLsum } from "./rouge.ts";

/** A right answer as the data has it: a text, a number, or a list of them. */
export type Label = string | number | readonly Label[];

/** The score of one answer, from 0 to 1. */
export type LabelScore = (prediction: string, label: Label) => number;

/** How each task is scored. */
export const INFINITEBENCH_SCORES: Readonly<Record<string, LabelScore>> = {
  passkey: firstNumberIs,
  number_string: firstNumberIs,
  kv_retrieval: (prediction, label) =>
    Number(words(blank(prediction, QUOTES_AND_STOPS)).includes(text(label))),
  longdialogue_qa_eng: (prediction, label) =>
    Number(
      words(blank(prediction, QUOTES_AND_STOPS))
        .some((word) => word.toUpperCase() === text(first(label))),
    ),
  longbook_sum_eng: (prediction, label) =>
    Math.max(...list(label).map((reference) => rougeLsum(prediction, text(reference)))),
  longbook_qa_eng: (prediction, label) =>
    Math.max(...list(label).map((reference) => wordF1(prediction, text(reference)))),
  longbook_qa_chn: (prediction, label) =>
    Math.max(...list(label).map((reference) => characterF1(prediction, text(reference)))),
  longbook_choice_eng: (prediction, label) =>
    Number(choosesRightly(prediction, list(label).map(text))),
  math_find: (prediction, label) => {
    const found = /\p{Nd}+\.\p{Nd}+|\p{Nd}+/u.exec(prediction)?.[0];
    return Number(found !== undefined && Number(found.normalize("NFKC")) === first(label));
  },
  math_calc: (prediction, label) => calculatedShare(prediction, label, 0),
  code_run: (prediction, label) => {
    const last = words(blank(prediction, ["\n", ".", "`", "'", '"', ":"])).at(-1);
    return Number(last !== undefined && integer(last) === first(label));
  },
  code_debug: (prediction, label) => Number(namesTheFault(prediction, list(label).map(text))),
};

const QUOTES_AND_STOPS = ["\n", ":", '"', "'", ".", ",", "?", "!", "{", "}"];

/**
 * The share of the intermediate values that are right before the first wrong one.
 *
 * @param skip Numbers to leave out at the answer's start: 1 for published answers of GPT-4, which
 * were prompted to repeat the first.
 */
export function calculatedShare(prediction: string, label: Label, skip: number): number {
  const nested = first(label);
  const values = list(typeof nested === "object" ? nested : label);
  const numbers = (prediction.match(/[0-9]+/g) ?? []).map(Number).slice(skip);
  const wrong = values.findIndex((value, i) => value !== numbers[i]);
  return (wrong < 0 ? values.length : wrong) / values.length;
}

function firstNumberIs(prediction: string, label: Label): number {
  return Number((/[0-9]+/.exec(prediction)?.[0] ?? "") === first(label));
}

/** A letter at the start, else the text of an option, else what a phrase announces. */
function choosesRightly(prediction: string, label: readonly string[]): boolean {
  const answer = strip(prediction);
  if (answer === "") return false;
  if (/^[A-D]/.test(answer)) return label.includes(answer[0]!);
  if (label.includes(answer)) return true;
  const flat = blank(answer, ["\n", '"', "'", ".", ",", "?", "!", "{", "}"]).replace(/ +/g, " ");
  const announced = behindPhrase(flat, ["answer is:", "answer:", "answer is", "option is"]);
  if (announced !== null) return label.some((option) => announced.startsWith(option));
  // The official test for a letter is one for a stretch of "ABCD".
  const letter = words(flat).find((word) => "ABCD".includes(word));
  return letter !== undefined && label.includes(letter);
}

/** `[name of the function, letter]`: the letter at the start, or either behind a phrase. */
function namesTheFault(prediction: string, [name = "", letter = ""]: readonly string[]): boolean {
  const answer = strip(prediction);
  if (answer.startsWith(`${letter}.`) || answer.startsWith(`${letter}:`)) return true;
  const flat = blank(answer, ["\n", "`", "'", '"', "-", "*", "Option", "option"])
    .replace(/ +/g, " ");
  const announced = behindPhrase(flat, ["answer is:", "is:", "answer:", "correct option is:"]);
  return announced !== null && (announced.startsWith(letter) || announced.startsWith(name));
}

/**
 * What stands behind the first phrase, in the order of `phrases`, that a text has, and behind one
 * more character. Null where there is none of them; the empty string never starts with an answer.
 */
function behindPhrase(flat: string, phrases: readonly string[]): string | null {
  const phrase = phrases.find((phrase) => flat.includes(phrase));
  if (phrase === undefined) return null;
  return [...flat.slice(flat.indexOf(phrase) + phrase.length)].slice(1).join("");
}

/** What Python's `int` makes of a word; null where it refuses. */
function integer(word: string): number | null {
  return /^[+-]?[0-9]+(_[0-9]+)*$/.test(word) ? Number(word.replaceAll("_", "")) : null;
}

function list(label: Label): readonly Label[] {
  return typeof label === "object" ? label : [label];
}

function first(label: Label): Label | undefined {
  return typeof label === "object" ? label[0] : label;
}

function text(label: Label | undefined): string {
  return typeof label === "string" ? label : String(label ?? "");
}
