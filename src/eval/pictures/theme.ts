/**
 * How pictures look: one type, quiet grids, colours that people who see red and green alike can tell
 * apart.
 *
 * @module
 */

/** The type that PNG text is set in, and what stands in for it where an SVG is shown. */
export const FONT = "Source Sans 3";
const FONT_STACK = `'${FONT}', 'Source Sans Pro', 'Helvetica Neue', Arial, sans-serif`;

/** Width that a picture has on a page, in pixels. */
export const PICTURE_WIDTH = 800;

/**
 * Red, yellow, green for 0, a half, 1. Their lightness differs (red is dark, yellow light, green
 * between), so that they are told apart without hue.
 */
export const SCORE_COLORS: readonly string[] = [
  "#b2182b",
  "#ef6548",
  "#fee08b",
  "#a6d96a",
  "#3ba55d",
];

/** Black or white, whichever is read better on a score's colour. */
export function inkOn(score: number): "black" | "white" {
  return score < 0.2 ? "white" : "black";
}

/** Lines of curves: Okabe and Ito's colours, the dark ones first. */
export const LINE_COLORS: readonly string[] = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#333333",
];

/** Points of curves: a second sign beside colour. */
export const LINE_SHAPES: readonly string[] = [
  "circle",
  "square",
  "triangle-up",
  "diamond",
  "triangle-down",
  "cross",
  "triangle-right",
];

const INK = "#1f2328";
const QUIET = "#59636e";

/** Vega-Lite's `config`. */
export const CONFIG: object = {
  font: FONT_STACK,
  background: "white",
  padding: { left: 12, right: 16, top: 12, bottom: 12 },
  view: { stroke: null },
  title: {
    anchor: "start",
    frame: "group",
    color: INK,
    fontSize: 18,
    fontWeight: 700,
    subtitleColor: QUIET,
    subtitleFontSize: 13,
    subtitlePadding: 4,
    offset: 14,
  },
  axis: {
    labelColor: INK,
    labelFontSize: 12,
    titleColor: QUIET,
    titleFontSize: 13,
    titleFontWeight: 400,
    titlePadding: 8,
    domainColor: "#8c959f",
    tickColor: "#8c959f",
    gridColor: "#e4e7eb",
  },
  legend: {
    labelColor: INK,
    labelFontSize: 12,
    labelLimit: 340,
    titleColor: QUIET,
    titleFontSize: 13,
    titleFontWeight: 400,
    titleLimit: 400,
  },
};

/** The `index`-th of some marks, from the first again after the last. */
export function nth<T>(marks: readonly T[], index: number): T {
  return marks[index % marks.length]!;
}
