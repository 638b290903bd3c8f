/**
 * Measurements along the length of a text, as curves: one per method or selector.
 *
 * @module
 */

import type { CostRow, PerplexityRow } from "../rows.ts";

/** A point of a curve; both are above 0 where their axis is logarithmic. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** What one method did. */
export interface Curve {
  readonly name: string;
  /** By `x`, ascending. */
  readonly points: readonly Point[];
}

/** Curves over the same axes. */
export interface Chart {
  readonly title: string;
  readonly xTitle: string;
  readonly yTitle: string;
  readonly xScale: "linear" | "log";
  readonly yScale: "linear" | "log";
  readonly curves: readonly Curve[];
}

/** Curves that can be told apart, and points that can be seen. */
const MOST_CURVES = 14;
const MOST_POINTS = 20_000;

/** A range from here on is drawn to a logarithmic scale: below, its least value would be a speck. */
const WIDE = 12;

/**
 * Perplexity by position; rows of the same method and position are averaged as likelihoods are.
 *
 * @throws {RangeError} If there are none, or more than a picture can show.
 */
export function perplexityChart(rows: readonly PerplexityRow[]): Chart {
  const curves = toCurves("perplexity", rows, ({ method, position, perplexity }) => ({
    name: method,
    x: position,
    y: Math.log(perplexity),
  })).map(({ name, points }) => ({
    name,
    points: points.map(({ x, y }) => ({ x, y: Math.exp(y) })),
  }));
  return {
    title: "Perplexity by position",
    xTitle: "position in the text, tokens",
    yTitle: "perplexity (lower is better)",
    xScale: scaleOf(rows.map(({ position }) => position)),
    yScale: scaleOf(rows.map(({ perplexity }) => perplexity)),
    curves,
  };
}

/**
 * Cost by length: what a question takes, and what reading a token takes.
 *
 * @throws {RangeError} If there are none, or more than a picture can show.
 */
export function costCharts(rows: readonly CostRow[]): Chart[] {
  const chart = (title: string, yTitle: string, y: (row: CostRow) => number): Chart => ({
    title,
    xTitle: "length read, tokens",
    yTitle,
    xScale: "log",
    yScale: "log",
    curves: toCurves("cost", rows, (row) => ({ name: row.selector, x: row.length, y: y(row) })),
  });
  return [
    chart(
      "A question with its answer",
      "seconds a question (less is better)",
      ({ secondsPerQuestion }) => secondsPerQuestion,
    ),
    chart(
      "Reading",
      "microseconds a token (less is better)",
      ({ tokensPerSecond }) => 1e6 / tokensPerSecond,
    ),
  ];
}

function toCurves<Row>(
  what: string,
  rows: readonly Row[],
  pointOf: (row: Row) => Point & { readonly name: string },
): Curve[] {
  if (rows.length === 0) throw new RangeError(`Cannot draw ${what}: there are no rows`);
  const sums = new Map<string, Map<number, { sum: number; count: number }>>();
  for (const row of rows) {
    const { name, x, y } = pointOf(row);
    const points = sums.get(name) ?? sums.set(name, new Map()).get(name)!;
    const point = points.get(x) ?? points.set(x, { sum: 0, count: 0 }).get(x)!;
    point.sum += y;
    point.count++;
  }
  const points = [...sums.values()].reduce((count, { size }) => count + size, 0);
  if (sums.size > MOST_CURVES || points > MOST_POINTS) {
    throw new RangeError(
      `Cannot draw ${what}: there may be at most ${MOST_CURVES} curves and ${MOST_POINTS} points, ` +
        `got ${sums.size} and ${points}`,
    );
  }
  return [...sums].map(([name, points]) => ({
    name,
    points: [...points].map(([x, { sum, count }]) => ({ x, y: sum / count }))
      .sort((a, b) => a.x - b.x),
  }));
}

/** Logarithmic where the values span much and all have a logarithm. */
function scaleOf(values: readonly number[]): Chart["xScale"] {
  const [least, greatest] = extent(values);
  return least > 0 && greatest / least >= WIDE ? "log" : "linear";
}

/** The least and the greatest of some numbers. */
export function extent(values: readonly number[]): [least: number, greatest: number] {
  return values.reduce<[number, number]>(
    ([least, greatest], value) => [Math.min(least, value), Math.max(greatest, value)],
    [Infinity, -Infinity],
  );
}

/** The least and the greatest of a chart's values along one axis. */
export function extentOf({ curves }: Chart, axis: "x" | "y"): [least: number, greatest: number] {
  return extent(curves.flatMap(({ points }) => points.map((point) => point[axis])));
}

/**
 * What a logarithmic axis spans: the values and a margin; heights a power of ten at least, or noise
 * would be hills; lengths half of one, or there might be no number on it.
 *
 * @param margin At each end, as a part of the values' span.
 */
export function logDomain(
  chart: Chart,
  axis: "x" | "y",
  margin: number,
): [least: number, greatest: number] {
  const [least, greatest] = extentOf(chart, axis);
  const span = Math.log10(greatest / least);
  const added = Math.max(margin * span, ((axis === "y" ? 1 : 0.5) - span) / 2);
  return [least / 10 ** added, greatest * 10 ** added];
}
