/**
 * Needle results as a grid: the mean score of each method at each length and depth.
 *
 * @module
 */

import type { NeedleRow } from "./rows.ts";

/** Cases of one method at one length and depth. */
export interface NeedleCell {
  readonly length: number;
  readonly depth: number;
  /** Mean, from 0 to 1. */
  readonly score: number;
  readonly cases: number;
}

/** One map: a method's cells in one kind of task. */
export interface NeedlePanel {
  /** The task, and what else sets it apart from other panels: `multi-key, distractors 16`. */
  readonly task: string;
  readonly method: string;
  readonly cells: readonly NeedleCell[];
  /** Mean of all its cases, from 0 to 1. */
  readonly score: number;
}

/** All maps of some results. */
export interface NeedleGrid {
  /** Ascending. */
  readonly lengths: readonly number[];
  /** Ascending: the first is nearest to the beginning. */
  readonly depths: readonly number[];
  /** As they first come. */
  readonly tasks: readonly string[];
  /** As they first come. */
  readonly methods: readonly string[];
  /** By task, then by method; pairs without results have none. */
  readonly panels: readonly NeedlePanel[];
}

/** Lengths, depths, and pairs of task and method that a picture can show. */
const MOST_SIDE = 200;
const MOST_PANELS = 100;

/** Of where a case stands, what is averaged over or an axis. */
const AVERAGED = new Set(["length", "depth", "repeat", "seed"]);

/**
 * Averages results.
 *
 * @throws {RangeError} If there are none, or more than a picture can show.
 */
export function needleGrid(rows: readonly NeedleRow[]): NeedleGrid {
  const lengths = ascending(rows.map(({ length }) => length));
  const depths = ascending(rows.map(({ depth }) => depth));
  if (rows.length === 0) throw new RangeError("Cannot draw a needle map: there are no results");
  if (Math.max(lengths.length, depths.length) > MOST_SIDE) {
    throw new RangeError(
      `Cannot draw a needle map: there may be at most ${MOST_SIDE} lengths and depths, got ` +
        `${lengths.length} lengths and ${depths.length} depths`,
    );
  }
  const nameTask = taskNames(rows);
  const named = rows.map((row) => ({ ...row, task: nameTask(row) }));
  const tasks = [...new Set(named.map(({ task }) => task))];
  const methods = [...new Set(named.map(({ method }) => method))];
  const groups = groupBy(named, ({ task, method }) => JSON.stringify([task, method]));
  if (groups.size > MOST_PANELS) {
    throw new RangeError(
      `Cannot draw a needle map: there may be at most ${MOST_PANELS} pairs of a task and a method, ` +
        `got ${groups.size}`,
    );
  }
  const panels = tasks.flatMap((task) =>
    methods.flatMap((method) => {
      const own = groups.get(JSON.stringify([task, method]));
      return own ? [{ task, method, cells: cellsOf(own), score: meanScore(own) }] : [];
    })
  );
  return { lengths, depths, tasks, methods, panels };
}

function cellsOf(rows: readonly NeedleRow[]): NeedleCell[] {
  return [...groupBy(rows, ({ length, depth }) => `${length} ${depth}`).values()].map((cases) => ({
    length: cases[0]!.length,
    depth: cases[0]!.depth,
    score: meanScore(cases),
    cases: cases.length,
  })).sort((a, b) => a.length - b.length || a.depth - b.depth);
}

/** A task's name, with what else differs among its results: these are maps of their own. */
function taskNames(rows: readonly NeedleRow[]): (row: NeedleRow) => string {
  const differing = new Map(
    [...groupBy(rows, ({ task }) => task)].map(([task, own]) => {
      const fields = [...new Set(own.flatMap(({ at }) => Object.keys(at)))]
        .filter((field) => !AVERAGED.has(field));
      return [task, fields.filter((field) => new Set(own.map(({ at }) => at[field])).size > 1)];
    }),
  );
  return ({ task, at }) =>
    [task, ...differing.get(task)!.map((field) => `${field} ${at[field] ?? "none"}`)].join(", ");
}

function meanScore(rows: readonly NeedleRow[]): number {
  return rows.reduce((sum, { score }) => sum + score, 0) / rows.length;
}

function ascending(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

/** As `Map.groupBy`, which Node 20 has not. */
function groupBy<T>(values: readonly T[], key: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group) group.push(value);
    else groups.set(key(value), [value]);
  }
  return groups;
}
