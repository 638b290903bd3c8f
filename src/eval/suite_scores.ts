/**
 * What a benchmark's own tables have of some rows: scores in percent by task, and their mean.
 *
 * @module
 */

import type { EvalResult } from "./case.ts";
import { levalRouge } from "./leval.ts";

/** A task's score as the benchmark reports it. */
export interface SuiteScore {
  readonly metric: string;
  /** Answers; those that failed are not among them. */
  readonly n: number;
  readonly errors: number;
  /** In percent; null where there is no answer. */
  readonly score: number | null;
  /** What there is to tell besides, in percent: ROUGE-1, 2 and L, or LongBench-E's lengths. */
  readonly parts?: Readonly<Record<string, number>>;
}

/** A method's scores. */
export interface SuiteScores {
  readonly tasks: Readonly<Record<string, SuiteScore>>;
  /** The mean of the tasks' scores, in percent; null where there is none. */
  readonly average: number | null;
}

/** Scores by method; methods and tasks in the order in which they come. */
export function suiteScores(rows: readonly EvalResult[]): Readonly<Record<string, SuiteScores>> {
  const byMethod = groups(rows, ({ method }) => method);
  return Object.fromEntries([...byMethod].map(([method, own]) => {
    const byTask = groups(own, ({ task }) => task);
    const tasks = [...byTask].map(([task, rows]) => [task, scoreOf(rows)] as const);
    const scores = tasks.flatMap(([, { score }]) => score === null ? [] : [score]);
    return [method, { tasks: Object.fromEntries(tasks), average: mean(scores) }];
  }));
}

function scoreOf(rows: readonly EvalResult[]): SuiteScore {
  const { metric, bin } = rows[0]!.at;
  const scored = rows.filter(({ error }) => error === undefined);
  const common = { metric: String(metric), n: scored.length, errors: rows.length - scored.length };
  if (metric === "rouge" && scored.length > 0) {
    const { geometricMean, ...parts } = levalRouge(scored);
    return { ...common, score: round(geometricMean), parts: rounded(parts) };
  }
  const percent = (rows: readonly EvalResult[]) => mean(rows.map(({ score }) => 100 * score));
  if (bin === undefined) return { ...common, score: percent(scored) };
  const bins = [...groups(scored, ({ at }) => String(at["bin"]))];
  return {
    ...common,
    score: percent(scored),
    parts: rounded(Object.fromEntries(bins.map(([bin, rows]) => [bin, percent(rows)!]))),
  };
}

function groups<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = found.get(key);
    if (group === undefined) found.set(key, [item]);
    else group.push(item);
  }
  return found;
}

function mean(numbers: readonly number[]): number | null {
  if (numbers.length === 0) return null;
  return round(numbers.reduce((sum, x) => sum + x, 0) / numbers.length);
}

function rounded(parts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, round(value)]));
}

/** As many digits as are published at most. */
export function round(percent: number): number {
  return Number(percent.toFixed(4));
}
