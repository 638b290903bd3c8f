/**
 * The needle heat map: length to the right, depth downwards, red to green.
 *
 * @module
 */

import { depthLabel, type LengthLabels, lengthLabels, rangeLabel, scoreLabel } from "./axes.ts";
import type { NeedleGrid, NeedlePanel } from "./needle_grid.ts";
import { CONFIG, inkOn, PICTURE_WIDTH, SCORE_COLORS } from "./theme.ts";

/** Pixels: beside the cells of a row of maps; between two maps; of a letter of a map's title; of a cell. */
const MARGIN = 96;
const GAP = 18;
const LETTER = 8;
const CELL = { least: 9, readable: 20, wanted: 28, most: 62, height: 26, lowHeight: 14 };

/** A Vega-Lite specification. */
export function needleMap(grid: NeedleGrid): object {
  const { tasks, methods, panels, lengths, depths } = grid;
  const { columns, cellWidth } = layout(grid);
  const cellHeight = depths.length > 16 ? CELL.lowHeight : CELL.height;
  const labels = lengthLabels(lengths);
  const rows = tasks.flatMap((task) => inRows(panels.filter((p) => p.task === task), columns));
  const size = { cellWidth, cellHeight };
  const cases = panels.flatMap(({ cells }) => cells.map(({ cases }) => cases));
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: {
      text: "What is found, by length and depth",
      subtitle: [
        `${tasks.length === 1 ? `${tasks[0]}; ` : ""}a cell is the mean score of ` +
        `${rangeLabel(cases)} ${Math.max(...cases) === 1 ? "case" : "cases"}, in percent` +
        (panels.some(({ cells }) => cells.length < lengths.length * depths.length)
          ? "; grey: not measured"
          : "") +
        (labels.unit === null ? "" : `; ${labels.unit}`),
      ],
    },
    spacing: GAP,
    vconcat: rows.map((row, r) => ({
      spacing: GAP,
      hconcat: row.map((panel, c) =>
        panelMap(panel, grid, labels, {
          ...size,
          title: [
            ...(methods.length > 1 ? [panel.method] : tasks.length === 1 ? [panel.method] : []),
            ...(tasks.length > 1 ? [panel.task] : []),
          ],
          isOnly: row.length === 1,
          hasDepths: c === 0,
          hasLengthTitle: r === rows.length - 1,
        })
      ),
    })),
    config: CONFIG,
  };
}

/** How many maps stand side by side, and how wide their cells are: room for values and names comes first. */
function layout({ lengths, methods }: NeedleGrid): { columns: number; cellWidth: number } {
  const room = PICTURE_WIDTH - MARGIN;
  const widthFor = (columns: number) =>
    Math.floor((room - GAP * (columns - 1)) / columns / lengths.length);
  const longest = Math.max(...methods.map(({ length }) => length));
  const wanted = Math.max(CELL.wanted * lengths.length, Math.min(longest * LETTER, room / 2 - GAP));
  let columns = methods.length;
  while (columns > 1 && widthFor(columns) * lengths.length < wanted) columns--;
  // Even rows: four in two rows are two and two, not three and one.
  columns = Math.ceil(methods.length / Math.ceil(methods.length / columns));
  return { columns, cellWidth: Math.max(CELL.least, Math.min(CELL.most, widthFor(columns))) };
}

function inRows<T>(values: readonly T[], columns: number): T[][] {
  return Array.from(
    { length: Math.ceil(values.length / columns) },
    (_, r) => values.slice(r * columns, (r + 1) * columns),
  );
}

interface PanelLook {
  readonly cellWidth: number;
  readonly cellHeight: number;
  readonly title: readonly string[];
  /** Whether there is no other beside it, over which its title could run. */
  readonly isOnly: boolean;
  readonly hasDepths: boolean;
  readonly hasLengthTitle: boolean;
}

function panelMap(
  panel: NeedlePanel,
  { lengths, depths }: NeedleGrid,
  labels: LengthLabels,
  look: PanelLook,
): object {
  const values = panel.cells.map(({ length, depth, score, cases }) => ({
    length: labels.label(length),
    depth: depthLabel(depth),
    score: score * 100,
    value: scoreLabel(score),
    ink: inkOn(score),
    description: `${panel.method}, ${panel.task}: ${labels.label(length)} tokens, depth ` +
      `${depthLabel(depth)}: ${scoreLabel(score)} % of ${cases} ${cases === 1 ? "case" : "cases"}`,
  }));
  const hasValues = look.cellWidth >= CELL.readable && look.cellHeight >= CELL.lowHeight;
  const lengthNames = lengths.map((length) => labels.label(length));
  // Names of all lengths, upright where they fit side by side.
  const isWide = Math.max(...lengthNames.map((name) => name.length)) * 7 + 2 <= look.cellWidth;
  return {
    title: {
      text: look.title[0] ?? "",
      subtitle: [
        `${look.title.slice(1).concat(`mean ${(panel.score * 100).toFixed(1)} %`).join("; ")}`,
      ],
      fontSize: 14,
      subtitleFontSize: 12,
      offset: 6,
      limit: look.isOnly ? PICTURE_WIDTH : look.cellWidth * lengths.length,
    },
    width: look.cellWidth * lengths.length,
    height: look.cellHeight * depths.length,
    view: { fill: "#e4e7eb" },
    data: { values },
    encoding: {
      x: {
        field: "length",
        type: "ordinal",
        scale: { domain: lengthNames, paddingInner: 0, paddingOuter: 0 },
        axis: {
          title: look.hasLengthTitle ? "text length, tokens" : null,
          labelAngle: isWide ? 0 : -90,
          labelOverlap: "greedy",
          domain: false,
        },
      },
      y: {
        field: "depth",
        type: "ordinal",
        scale: { domain: depths.map(depthLabel), paddingInner: 0, paddingOuter: 0 },
        axis: look.hasDepths
          ? {
            title: look.cellHeight * depths.length < 120 ? "depth" : "depth of the needle",
            labelOverlap: "greedy",
            domain: false,
          }
          : null,
      },
    },
    layer: [
      {
        mark: { type: "rect", stroke: "white", strokeWidth: look.cellWidth < 16 ? 0 : 1 },
        encoding: {
          color: {
            field: "score",
            type: "quantitative",
            scale: { domain: [0, 25, 50, 75, 100], range: SCORE_COLORS, clamp: true },
            legend: {
              title: "score, % (0: never right, 100: always right)",
              orient: "bottom",
              direction: "horizontal",
              gradientLength: 320,
              gradientThickness: 12,
              values: [0, 25, 50, 75, 100],
            },
          },
          description: { field: "description", type: "nominal" },
        },
      },
      ...(hasValues
        ? [{
          mark: {
            type: "text",
            fontSize: look.cellWidth < 26 ? 10 : 12,
            aria: false,
            color: { expr: "datum.ink" },
          },
          encoding: { text: { field: "value", type: "nominal" } },
        }]
        : []),
    ],
  };
}
