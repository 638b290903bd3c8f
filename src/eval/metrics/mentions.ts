/**
 * LongBench's scores of what an answer names: a class, a paragraph, a number.
 *
 * @module
 */

import { digitRuns } from "./python_text.ts";

/**
 * Classification: 1 over the number of classes that the answer names, if the right one is among
 * them. Names within the right one's do not count against it.
 */
export function classification(
  prediction: string,
  reference: string,
  classes: readonly string[],
): number {
  const named = classes.filter((name) => prediction.includes(name));
  // The official code removes from the list that it walks, so the one behind a removed one stays.
  for (let i = 0; i < named.length; i++) {
    if (reference.includes(named[i]!) && named[i] !== reference) {
      named.splice(named.indexOf(named[i]!), 1);
    }
  }
  return named.includes(reference) ? 1 / named.length : 0;
}

/** The share of the numbers in an answer that are the right one. */
export function numberShare(prediction: string, reference: string): number {
  const numbers = digitRuns(prediction);
  return numbers.length === 0
    ? 0
    : numbers.filter((number) => number === reference).length / numbers.length;
}

/** The same for the number of a paragraph; null where the reference, e.g. `Paragraph 3`, has none. */
export function paragraphNumber(reference: string, language: "en" | "zh"): string | null {
  const pattern = language === "en" ? /Paragraph (\p{Nd}+)/u : /段落(\p{Nd}+)/u;
  return pattern.exec(reference)?.[1] ?? null;
}
