/**
 * Charts of curves: one colour and one sign of points each.
 *
 * @module
 */

import { shortNumber } from "./axes.ts";
import { type Chart, extentOf, logDomain } from "./curves.ts";
import { CONFIG, LINE_COLORS, LINE_SHAPES, nth, PICTURE_WIDTH } from "./theme.ts";

/** Pixels beside a chart, and its height. */
const MARGIN = 100;
const HEIGHT = 300;

/** Points from here on make a thick line of their own: they are left out. */
const MOST_SIGNS = 40;

/** Ticks that fit. */
const MOST_TICKS = { x: 9, y: 7 };

/**
 * Charts side by side, with one legend.
 *
 * @param title Of all of them, if there are several.
 * @returns A Vega-Lite specification.
 */
export function curveCharts(charts: readonly Chart[], title?: string): object {
  const width = Math.floor(PICTURE_WIDTH / charts.length) - MARGIN;
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    ...(title === undefined ? {} : { title }),
    spacing: 28,
    hconcat: charts.map((chart) => curveChart(chart, width, title === undefined)),
    config: CONFIG,
  };
}

function curveChart(chart: Chart, width: number, isOnly: boolean): object {
  const names = chart.curves.map(({ name }) => name);
  const values = chart.curves.flatMap(({ name, points }) =>
    points.map(({ x, y }) => ({ name, x, y }))
  );
  const hasSigns = chart.curves.every(({ points }) => points.length <= MOST_SIGNS);
  return {
    title: { text: chart.title, ...(isOnly ? {} : { fontSize: 14, offset: 8 }) },
    width,
    height: HEIGHT,
    data: { values },
    mark: {
      type: "line",
      strokeWidth: 2,
      ...(hasSigns ? { point: { size: 55, filled: true, opacity: 1 } } : {}),
    },
    encoding: {
      x: axis(chart, "x", Math.min(MOST_TICKS.x, Math.floor(width / 52))),
      y: axis(chart, "y", MOST_TICKS.y),
      color: {
        field: "name",
        type: "nominal",
        scale: { domain: names, range: names.map((_, i) => nth(LINE_COLORS, i)) },
        legend: legend(names),
      },
      ...(hasSigns
        ? {
          shape: {
            field: "name",
            type: "nominal",
            scale: { domain: names, range: names.map((_, i) => nth(LINE_SHAPES, i)) },
            legend: legend(names),
          },
        }
        : {}),
      description: { field: "name", type: "nominal" },
    },
  };
}

function legend(names: readonly string[]): object {
  const longest = Math.max(...names.map(({ length }) => length));
  const columns = Math.max(1, Math.floor((PICTURE_WIDTH - MARGIN) / (longest * 7 + 40)));
  return {
    title: null,
    orient: "bottom",
    columns: Math.min(columns, names.length),
    symbolSize: 80,
  };
}

function axis(chart: Chart, name: "x" | "y", most: number): object {
  const type = chart[`${name}Scale`];
  const domain = type === "log" ? logDomain(chart, name, 0.04) : null;
  const ticks = domain && logTicks(...domain, most);
  return {
    field: name,
    type: "quantitative",
    scale: domain ? { type, domain, nice: false } : { type, zero: false, nice: true },
    axis: {
      title: chart[`${name}Title`],
      ...(ticks ? { values: ticks } : { tickCount: most, labelOverlap: "greedy" }),
      labelExpr: ticks
        ? `(${
          JSON.stringify(Object.fromEntries(ticks.map((t) => [t, shortNumber(t)])))
        })[datum.value]`
        : `format(datum.value, "${extentOf(chart, name)[1] < 10_000 ? "~" : "~s"}")`,
    },
  };
}

/** Round numbers within the span of a logarithmic axis: as many as may be, two at least. */
export function logTicks(least: number, greatest: number, most: number): number[] {
  let found: number[] = [];
  for (const mantissas of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3]]) {
    found = within(least, greatest, mantissas, 1);
    if (found.length <= most) return found;
  }
  for (let decades = 1; found.length > most; decades++) {
    found = within(least, greatest, [1], decades);
  }
  return found;
}

/** Mantissas times every so many powers of ten. */
function within(
  least: number,
  greatest: number,
  mantissas: readonly number[],
  decades: number,
): number[] {
  const first = Math.floor(Math.log10(least) / decades) * decades;
  const ticks: number[] = [];
  for (let power = first; 10 ** power <= greatest; power += decades) {
    // Read as decimals, so that 3e-1 is 0.3.
    ticks.push(...mantissas.map((mantissa) => Number(`${mantissa}e${power}`)));
  }
  return ticks.filter((tick) => tick >= least && tick <= greatest);
}
