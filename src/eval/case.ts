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
}

/** What a method made of a case: one line of an evaluation's output. */
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
  /** Reading and answering. */
  readonly seconds: number;
}
