/**
 * What every evaluation is made of: cases to read and answer, and what came of them.
 *
 * @module
 */

/** A text to read, a question about it, and how to score the answer. */
export interface EvalCase {
  /** Unique within an evaluation and the same in every run: `--only` names it. */
  readonly id: string;
  /** The task it belongs to, e.g. `niah_single_1`. */
  readonly task: string;
  /** Where it stands in tables and pictures: length, depth, distractors, repeat. */
  readonly at: Readonly<Record<string, number | string>>;
  /** What is streamed before the question, in pieces, from the start each time it is called. */
  context(): Iterable<string> | AsyncIterable<string>;
  /** What follows the context. */
  readonly question: string;
  /** What the answer begins with, given to the model; empty where the task has none. */
  readonly answerPrefix: string;
  /** The most tokens of an answer. */
  readonly maxTokens: number;
  /** The right answers, for the record. */
  readonly expected: readonly string[];
  /** From 0, wrong, to 1, right. */
  score(prediction: string): number;
  /** Strings before which an answer ends, besides where the model itself ends it. Default: none. */
  readonly stop?: readonly string[];
  /** Whether the model goes on with the text, without question form or chat template. Default: no. */
  readonly raw?: boolean;
  /** Whether the score of an answer that begins so is certain: then writing may end. Default: never. */
  settled?(prediction: string): boolean;
  /**
   * The same context as tokens, where it is a long text that other cases have, too, but for a few
   * stretches: one reading of that may serve them all.
   */
  readonly shared?: SharedText;
}

/** Tokens of a case's text; where `at` says only its characters, about a quarter of them. */
export function lengthOf({ at }: EvalCase): number {
  return Number(at["length"] ?? Math.ceil(Number(at["characters"] ?? 4) / 4));
}

/** A text that many cases have in common, and what one of them has in the place of some of it. */
export interface SharedText {
  /** The same object for all cases that share it. */
  readonly base: BaseText;
  /** Ascending, apart from one another, within the base. */
  patches(base: Uint32Array): readonly Patch[];
}

/** What {@linkcode SharedText}s share. */
export interface BaseText {
  /** Ids of the tokenizer that the cases were made for; made when they are first wanted. */
  tokens(): Promise<Uint32Array>;
}

/** As many tokens, from `start` on, in the place of those that are there. */
export interface Patch {
  readonly start: number;
  readonly tokens: Uint32Array;
}

/**
 * What a method made of a case: one line of an evaluation's output.
 *
 *     {"id":"multikey:16/16384/0.5/3","task":"multikey:16","method":"reattention",
 *      "at":{"length":16384,"depth":0.5,"distractors":16,"repeat":3},"prediction":"4817093.",
 *      "expected":["4817093"],"score":1,"tokens":16213,"seconds":0.41}
 *
 * Perplexity adds `nll` and `perplexity`, and its score is 1 / perplexity.
 */
export interface EvalResult {
  readonly id: string;
  readonly task: string;
  readonly method: string;
  readonly at: Readonly<Record<string, number | string>>;
  readonly prediction: string;
  readonly expected: readonly string[];
  /** From 0 to 1. */
  readonly score: number;
  /** Tokens of context and question. */
  readonly tokens: number;
  /** Reading and answering; of cases that share a reading the first bears it. */
  readonly seconds: number;
  /** Why there is no answer, where there is none: the row counts as an error and not as a score. */
  readonly error?: string;
}
