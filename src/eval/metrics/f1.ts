/**
 * How much of an answer's words are a reference's: SQuAD's F1, as LongBench, L-Eval and
 * InfiniteBench compute it.
 *
 * @module
 */

import type { WordCutter } from "./jieba.ts";
import { isAsciiPunctuation, words } from "./python_text.ts";

// What the Chinese scorers leave out besides ASCII's punctuation.
const CHINESE_PUNCTUATION: ReadonlySet<string> = new Set(
  "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏",
);

/**
 * The F1 of an answer's words: the harmonic mean of how many of them are the reference's and how
 * many of the reference's they are, each counted as often as it stands there. Case, punctuation and
 * articles do not count.
 *
 * @returns From 0 to 1.
 *
 * @example Usage
 * ```ts
 * import { wordF1 } from "./f1.ts";
 * import { equal } from "node:assert/strict";
 *
 * equal(wordF1("The red house.", "a red brick house"), 2 * 1 * (2 / 3) / (1 + 2 / 3));
 * ```
 */
export function wordF1(prediction: string, reference: string): number {
  return bagF1(answerWords(prediction), answerWords(reference));
}

/** The same with a character for a word, without any white space: for Chinese. */
export function characterF1(prediction: string, reference: string): number {
  return bagF1([...bareChinese(prediction)], [...bareChinese(reference)]);
}

/** Lower case, without punctuation, then without articles. */
function answerWords(text: string): string[] {
  const bare = [...text.toLowerCase()].filter((c) => !isAsciiPunctuation(c)).join("");
  // Python's \b: letters and digits of every script belong to words.
  return words(bare.replace(/(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu, " "));
}

/** The same with Chinese words, as LongBench scores them; those of punctuation alone do not count. */
export function chineseWordF1(prediction: string, reference: string, cut: WordCutter): number {
  const bag = (text: string) => cut(text).map(bareChinese).filter((word) => word !== "");
  return bagF1(bag(prediction), bag(reference));
}

function bareChinese(text: string): string {
  const kept = [...text.toLowerCase()]
    .filter((c) => !isAsciiPunctuation(c) && !CHINESE_PUNCTUATION.has(c));
  return words(kept.join("")).join("");
}

/** F1 of two bags, in the order of operations of the official code: scores agree in every bit. */
function bagF1(prediction: readonly string[], reference: readonly string[]): number {
  const left = new Map<string, number>();
  for (const item of reference) left.set(item, (left.get(item) ?? 0) + 1);
  let common = 0;
  for (const item of prediction) {
    const count = left.get(item) ?? 0;
    if (count === 0) continue;
    left.set(item, count - 1);
    common++;
  }
  if (common === 0) return 0;
  const precision = common / prediction.length;
  const recall = common / reference.length;
  return (2 * precision * recall) / (precision + recall);
}
