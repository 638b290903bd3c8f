/**
 * L-Eval's scores of closed questions: what counts as an answer differs from task to task, then
 * one comparison judges all.
 *
 * @module
 */

import { isAsciiPunctuation, strip, words } from "./python_text.ts";

/**
 * Exact match. Letters of options are equal, or a part of the right ones (a quarter); numbers are
 * equal as numbers; any other answer must hold the right one in its first line of two or more
 * characters, spaces and case aside.
 *
 * @returns 0, 0.25 or 1.
 */
export function exactMatch(prediction: string, reference: string): number {
  const right = bare(reference);
  const answer = bare(prediction);
  if (/^[A-D]*$/.test(right)) {
    if (answer === right) return 1;
    return [...answer].every((letter) => right.includes(letter)) ? 0.25 : 0;
  }
  const [ours, theirs] = [decimal(prediction), decimal(reference)];
  if (ours !== null && theirs !== null) return Number(ours === theirs);
  const line = prediction.split("\n").find((line) => [...line].length > 1) ?? prediction;
  const loose = (text: string) => text.toLowerCase().replaceAll(" ", "");
  return Number(loose(line).includes(loose(reference)));
}

/** The letters that an answer chooses; where several may be right, all of them, in order. */
export function chosenLetters(prediction: string, several: boolean): string {
  if (strip(prediction) === "") return "None";
  if ("ABCD".includes(prediction)) return prediction;
  const firstLetter = /[A-D]/.exec(prediction)?.[0];
  if (!several && firstLetter !== undefined) return firstLetter;
  const leading = /^[A-D]*/.exec(prediction)![0];
  if (leading.length > 1) return sortedLetters(leading);
  // Letters set off as options are: `B.`, `(C)`, `D `; before the model asks itself the next one.
  const rest = prediction.slice(leading.length).split("Question")[0]!;
  const marked = (rest.match(/[A-Z](?=[\s.)])/gu) ?? []).join("");
  const chosen = sortedLetters(leading + marked);
  if (chosen !== "") return chosen;
  return /[A-D]+/.exec(rest)?.[0] ?? "A";
}

/** The letters of the right options, as the data writes them: the first word's. */
export function rightLetters(reference: string): string {
  return (words(reference)[0] ?? "").replace(/[^A-D]/g, "") || "A";
}

/** The digits of the number that an answer states last, up to its point; `The answer is` first. */
export function statedNumber(text: string): string {
  const announced = /The answer is (\S+)/u.exec(text)?.[1];
  const word = announced ??
    text.split("\n\n")[0]!.split(" ").findLast((word) => /\p{Nd}/u.test(word)) ?? "";
  return [...word.split(".")[0]!].filter((c) => /\p{Nd}/u.test(c)).join("");
}

/** Code's output without what its spelling leaves open. */
export function plainOutput(text: string): string {
  const steps: readonly (readonly [string, string])[] = [
    [",", ""],
    ["'", ""],
    ["\\", ""],
    [".0", ""],
    ["] [", "]["],
    ["[ [", "[["],
    ["] ]", "]]"],
  ];
  return steps.reduce((rest, [from, to]) => rest.replaceAll(from, to), text.replace(/\s+/gu, " "));
}

/** The end of an answer about code, or what follows `the final output`: as long as it may be. */
export function statedOutput(prediction: string, reference: string): string {
  const most = words(reference).length + 3;
  const padding = ["will be", "of the code", "is", "would be", "the value of", "the result of"];
  const plain = [...padding, "printed"]
    .reduce((rest, phrase) => rest.replaceAll(phrase, ""), plainOutput(prediction));
  const parts = plain.split("the final output");
  const stated = parts.at(-1)!.split(/\s+/u);
  return (parts.length > 1 ? stated.slice(0, most) : stated.slice(-most)).join(" ");
}

/** What an answer says first, true or false. */
export function statedTruth(text: string): string {
  return /true|false/.exec(text.toLowerCase())?.[0] ?? "<error>";
}

/** Without punctuation and articles; case stays. */
function bare(text: string): string {
  const kept = [...text].filter((c) => !isAsciiPunctuation(c)).join("");
  return words(kept.replace(/(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu, " ")).join(" ");
}

/** What Python's `float` makes of a text; null where it refuses. */
function decimal(text: string): number | null {
  const bare = strip(text).replace(/(?<=\d)_(?=\d)/g, "");
  if (/^[+-]?(inf|infinity)$/i.test(bare)) return bare.startsWith("-") ? -Infinity : Infinity;
  if (/^[+-]?nan$/i.test(bare)) return NaN;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(bare) ? Number(bare) : null;
}

function sortedLetters(text: string): string {
  return [...new Set(text.replace(/[^A-D]/g, ""))].sort().join("");
}
