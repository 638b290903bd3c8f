/**
 * Curves in a terminal, drawn in the dots of braille letters; or as a table.
 *
 * @module
 */

import { shortNumber } from "../eval/pictures/axes.ts";
import { type Chart, extentOf, logDomain, type Point } from "../eval/pictures/curves.ts";
import { nth } from "../eval/pictures/theme.ts";
import { clip, formatCount } from "./format.ts";
import type { Paint } from "./paint.ts";

/** Lines of a plot, and characters of the numbers before it. */
const HEIGHT = 14;
const NUMBERS = 8;

/** Of lines: those of other pictures, the light ones first, because most terminals are dark. */
const COLORS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#999999"];

/** A braille letter has two dots beside each other and four upon each other. */
const DOTS = { across: 2, down: 4 };

/** Which bit of the letter is the dot at [row][column]. */
const BITS = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/**
 * Plots a chart's curves.
 *
 * @param columns Characters of a line.
 */
export function drawPlot(chart: Chart, columns: number, paint: Paint): string {
  const width = Math.max(20, Math.min(100, columns - NUMBERS - 3));
  const bits = new Uint8Array(width * HEIGHT);
  const owner = new Uint8Array(width * HEIGHT); // the curve that drew there last
  const place = placer(chart, width * DOTS.across - 1, HEIGHT * DOTS.down - 1);
  // The first last, so that nothing hides it.
  [...chart.curves.entries()].reverse().forEach(([curve, { points }]) => {
    const dots = points.map(place);
    dots.forEach((dot, i) => {
      for (const { x, y } of between(dots[Math.max(0, i - 1)]!, dot)) {
        const cell = Math.floor(y / DOTS.down) * width + Math.floor(x / DOTS.across);
        bits[cell]! |= BITS[y % DOTS.down]![x % DOTS.across]!;
        owner[cell] = curve;
      }
    });
  });
  const [least, greatest] = domainOf(chart, "y");
  const middle = chart.yScale === "log" ? Math.sqrt(least * greatest) : (least + greatest) / 2;
  const numbers: Readonly<Record<number, string>> = {
    0: shortNumber(greatest),
    [HEIGHT / 2]: shortNumber(middle),
    [HEIGHT - 1]: shortNumber(least),
  };
  const lines = Array.from({ length: HEIGHT }, (_, row) => {
    const cells = Array.from({ length: width }, (_, column) => {
      const cell = row * width + column;
      if (bits[cell] === 0) return " ";
      return paint(String.fromCharCode(0x2800 + bits[cell]!), {
        ink: nth(COLORS, owner[cell]!),
      });
    });
    const number = numbers[row] ?? "";
    return `${number.padStart(NUMBERS)} ${number === "" ? "│" : "┤"}${cells.join("").trimEnd()}`;
  });
  const [first, last] = domainOf(chart, "x").map(shortNumber) as [string, string];
  const legend = chart.curves.map(({ name }, i) =>
    paint("●", { ink: nth(COLORS, i) }) + ` ${name}`
  );
  return [
    chart.title,
    `${" ".repeat(NUMBERS + 1)}${chart.yTitle}${chart.yScale === "log" ? ", logarithmic" : ""}`,
    ...lines,
    `${" ".repeat(NUMBERS)} └${"─".repeat(width)}`,
    `${" ".repeat(NUMBERS + 2)}${first}${last.padStart(width - first.length)}`,
    `${" ".repeat(NUMBERS + 2)}${chart.xTitle}${chart.xScale === "log" ? ", logarithmic" : ""}`,
    ...legend.map((line) => `${" ".repeat(NUMBERS + 2)}${line}`),
  ].join("\n") + "\n";
}

/** What an axis spans. */
function domainOf(chart: Chart, axis: "x" | "y"): [least: number, greatest: number] {
  return chart[`${axis}Scale`] === "log" ? logDomain(chart, axis, 0) : extentOf(chart, axis);
}

/** Where a point's dot is; the first dot is at the top left. */
function placer(chart: Chart, right: number, bottom: number): (point: Point) => Point {
  const part = (axis: "x" | "y") => {
    const [least, greatest] = domainOf(chart, axis);
    const scale = chart[`${axis}Scale`] === "log" ? Math.log : (value: number) => value;
    const size = scale(greatest) - scale(least);
    return (value: number) => size === 0 ? 0.5 : (scale(value) - scale(least)) / size;
  };
  const [across, up] = [part("x"), part("y")];
  return ({ x, y }) => ({
    x: Math.round(across(x) * right),
    y: Math.round((1 - up(y)) * bottom),
  });
}

/** The dots of a straight line, its ends included. */
function between(a: Point, b: Point): Point[] {
  const steps = Math.max(Math.abs(b.x - a.x), Math.abs(b.y - a.y), 1);
  return Array.from({ length: steps + 1 }, (_, i) => ({
    x: Math.round(a.x + (b.x - a.x) * i / steps),
    y: Math.round(a.y + (b.y - a.y) * i / steps),
  }));
}

/** A chart's numbers: a row for each position, a column for each curve. */
export function drawTable(chart: Chart): string {
  const positions = [...new Set(chart.curves.flatMap(({ points }) => points.map(({ x }) => x)))]
    .sort((a, b) => a - b);
  const values = chart.curves.map(({ points }) => new Map(points.map(({ x, y }) => [x, y])));
  const header = [chart.xTitle, ...chart.curves.map(({ name }) => clip(name, 32))];
  const rows = positions.map((x) => [
    Number.isInteger(x) ? formatCount(x) : String(x),
    ...values.map((curve) => curve.has(x) ? String(Number(curve.get(x)!.toPrecision(4))) : "-"),
  ]);
  const widths = header.map((name, i) =>
    Math.max([...name].length, ...rows.map((row) => row[i]!.length))
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => " ".repeat(widths[i]! - [...cell].length) + cell).join("  ");
  return [`${chart.title}: ${chart.yTitle}`, line(header), ...rows.map(line)].join("\n") + "\n";
}
