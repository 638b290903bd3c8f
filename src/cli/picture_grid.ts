/**
 * Needle maps in a terminal: a table whose cells have the score's colour behind the number.
 *
 * @module
 */

import { depthLabel, lengthLabels, rangeLabel, scoreLabel } from "../eval/pictures/axes.ts";
import type { NeedleGrid, NeedlePanel } from "../eval/pictures/needle_grid.ts";
import { inkOn, SCORE_COLORS } from "../eval/pictures/theme.ts";
import { clip } from "./format.ts";
import { mix, type Paint, plain } from "./paint.ts";

/** Characters between two maps, and of the depths before one. */
const GAP = 3;
const DEPTHS = 8;
/** What titles may have, however few cells there are. */
const TITLE = 28;

/** What a line looks like: its width counts no escape sequences. */
interface Line {
  readonly text: string;
  readonly width: number;
}

/**
 * Draws all maps, side by side where they fit.
 *
 * @param columns Characters of a line.
 */
export function drawGrid(grid: NeedleGrid, columns: number, paint: Paint): string {
  const labels = lengthLabels(grid.lengths);
  const names = grid.lengths.map((length) => labels.label(length));
  const cell = Math.max(4, ...names.map((name) => name.length + 1));
  const fitting = Math.max(1, Math.floor((columns - DEPTHS) / cell));
  const blocks = grid.panels.flatMap((panel) =>
    slices(grid.lengths.length, fitting).map(([from, to]) =>
      panelLines(panel, grid, { names, cell, from, to, paint })
    )
  );
  const cases = grid.panels.flatMap(({ cells }) => cells.map(({ cases }) => cases));
  return [
    ...inRows(blocks, columns),
    `columns: text length, tokens${
      labels.unit === null ? "" : ` (${labels.unit})`
    }; rows: depth of the needle in the text`,
    `cells: mean score in percent of ${rangeLabel(cases)} ` +
    (Math.max(...cases) === 1 ? "case" : "cases") + "; -: not measured",
    ...bar(paint),
  ].join("\n") + "\n";
}

function panelLines(
  panel: NeedlePanel,
  grid: NeedleGrid,
  { names, cell, from, to, paint }: {
    readonly names: readonly string[];
    readonly cell: number;
    readonly from: number;
    readonly to: number;
    readonly paint: Paint;
  },
): Line[] {
  const width = DEPTHS + (to - from) * cell;
  const most = Math.max(width, TITLE);
  const line = (text: string) => ({
    text: clip(text, most),
    width: Math.min([...text].length, most),
  });
  const scores = new Map(panel.cells.map((c) => [`${c.length} ${c.depth}`, c.score]));
  return [
    line(panel.method),
    line(`${panel.task}: ${(panel.score * 100).toFixed(1)} %`),
    line(" ".repeat(DEPTHS) + names.slice(from, to).map((name) => name.padStart(cell)).join("")),
    ...grid.depths.map((depth) => {
      const cells = grid.lengths.slice(from, to).map((length) => {
        const score = scores.get(`${length} ${depth}`);
        if (score === undefined) return "-".padStart(cell);
        const ink = inkOn(score) === "white" ? "#ffffff" : "#000000";
        return paint(scoreLabel(score).padStart(cell), { ink, ground: mix(SCORE_COLORS, score) });
      });
      return { text: depthLabel(depth).padStart(DEPTHS - 1) + " " + cells.join(""), width };
    }),
    line(""),
  ];
}

/** Blocks of lines next to one another, as many as fit. */
function inRows(blocks: readonly (readonly Line[])[], columns: number): string[] {
  const lines: string[] = [];
  const widthOf = (block: readonly Line[]) => Math.max(...block.map(({ width }) => width));
  for (let next = 0; next < blocks.length;) {
    const row = [blocks[next++]!];
    let width = widthOf(row[0]!);
    while (next < blocks.length && width + GAP + widthOf(blocks[next]!) <= columns) {
      width += GAP + widthOf(blocks[next]!);
      row.push(blocks[next++]!);
    }
    for (let i = 0; i < row[0]!.length; i++) {
      const parts = row.map((block) => {
        const { text, width } = block[i]!;
        return text + " ".repeat(widthOf(block) - width + GAP);
      });
      lines.push(parts.join("").trimEnd());
    }
  }
  return lines;
}

/** What the colours mean; nothing where there are none. */
function bar(paint: Paint): string[] {
  if (paint === plain) return [];
  const blocks = Array.from(
    { length: 21 },
    (_, i) => paint("█", { ink: mix(SCORE_COLORS, i / 20) }),
  );
  return [`score, %: 0 ${blocks.join("")} 100`];
}

function slices(length: number, size: number): [from: number, to: number][] {
  return Array.from(
    { length: Math.ceil(length / size) },
    (_, i) => [i * size, Math.min(length, (i + 1) * size)],
  );
}
