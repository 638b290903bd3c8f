/**
 * ROUGE-L as the Python package `rouge` computes it, which is LongBench's: of sets, where a word
 * counts once however often it stands there.
 *
 * @module
 */

import type { WordCutter } from "./jieba.ts";
import { words } from "./python_text.ts";
import { commonSubsequence } from "./rouge.ts";

/**
 * ROUGE-L, summary level, of sets. Sentences end at full stops. The words in common are the union
 * over every pair of sentences of their longest common subsequence.
 *
 * @returns The F-measure, from 0 to just below 1: the package adds 1e-8 below its fraction line.
 */
export function rougeLOfSets(prediction: string, reference: string): number {
  const ours = sentences(prediction);
  const theirs = sentences(reference);
  if (ours.length === 0 || theirs.length === 0) return 0;
  const common = new Set<string>();
  for (const line of theirs) {
    for (const other of ours) {
      for (const index of commonSubsequence(line, other, "b")) common.add(line[index]!);
    }
  }
  const precision = common.size / new Set(ours.flat()).size;
  const recall = common.size / new Set(theirs.flat()).size;
  return 2 * ((precision * recall) / (precision + recall + 1e-8));
}

/**
 * The same for Chinese, which has no spaces: LongBench puts them between jieba's words. Between
 * characters is another metric, whose scores are not comparable with those.
 */
export function rougeLOfCutSets(prediction: string, reference: string, cut: WordCutter): number {
  return rougeLOfSets(cut(prediction).join(" "), cut(reference).join(" "));
}

/** The words of each; one of white space alone has a single empty word, as in the package. */
function sentences(text: string): string[][] {
  return text.split(".").filter((sentence) => sentence !== "")
    .map((sentence) => words(sentence).join(" ").split(" "));
}
