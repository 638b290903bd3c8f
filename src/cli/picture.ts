/**
 * `picture`: draws results and traces, to a file or as text.
 *
 * @module
 */

import { curveCharts } from "../eval/pictures/curve_charts.ts";
import { type Chart, costCharts, perplexityChart } from "../eval/pictures/curves.ts";
import { absent, drawPng, drawSvg } from "../eval/pictures/draw.ts";
import { needleGrid } from "../eval/pictures/needle_grid.ts";
import { needleMap } from "../eval/pictures/needle_map.ts";
import { readCostRow, readNeedleRow, readPerplexityRow } from "../eval/pictures/rows.ts";
import { readPackageFile } from "../system/package_file.ts";
import { checkReplaceable, replaceFile, replaceFileWith } from "../system/replace_file.ts";
import {
  checkReadable,
  environmentVariable,
  isSameFile,
  standardOutput,
} from "../system/system.ts";
import { clip, plural, printable } from "./format.ts";
import { readJsonLines } from "./json_lines.ts";
import { inColors, plain } from "./paint.ts";
import type { PictureSettings } from "./picture_args.ts";
import { drawGrid } from "./picture_grid.ts";
import { drawPlot, drawTable } from "./picture_plot.ts";
import { recallPage } from "./recall_page.ts";
import { drawRecall } from "./recall_text.ts";
import { readRecallTrace } from "./recall_trace.ts";

/** Characters of a name in a picture. */
const NAME = 60;

/** What names may be written in, in a PNG: the type has a file for each. */
const SCRIPTS = ["latin", "latin-ext", "greek", "cyrillic"];

/** Runs `picture`. */
export async function picture({ kind, source, out }: PictureSettings): Promise<void> {
  if (source !== "-") await checkReadable(source);
  if (out !== undefined) {
    if (source !== "-" && await isSameFile(source, out)) {
      throw new Error(`Cannot draw: the picture would overwrite "${out}", which is to be read`);
    }
    await checkReplaceable(out);
  }
  const { isTerminal, columns } = standardOutput;
  const isColored = isTerminal && environmentVariable("NO_COLOR") === undefined;
  const paint = isColored ? inColors : plain;
  const show = (text: string) => standardOutput.write(text);
  switch (kind) {
    case "needle": {
      const rows = await readRows(source, readNeedleRow, "an at.length and an at.depth");
      const grid = needleGrid(rows);
      if (out === undefined) return await show(drawGrid(grid, columns, paint));
      return await drawFile(needleMap(grid), out);
    }
    case "perplexity": {
      const rows = await readRows(
        source,
        readPerplexityRow,
        "a perplexity and a position or an at.length",
      );
      const chart = perplexityChart(rows);
      if (out === undefined) return await show(drawCharts([chart]));
      return await drawFile(curveCharts([chart]), out);
    }
    case "cost": {
      const fields = "a length and secondsPerQuestion, or tokens and questionSeconds";
      const charts = costCharts(await readRows(source, readCostRow, fields));
      if (out === undefined) return await show(drawCharts(charts));
      return await drawFile(curveCharts(charts, "Cost by length"), out);
    }
    case "recall": {
      const map = await readRecallTrace(source, readJsonLines(source, (text) => text));
      if (out === undefined) return await show(drawRecall(map, columns, paint));
      return await replaceFile(out, await recallPage(map));
    }
  }

  function drawCharts(charts: readonly Chart[]): string {
    const draw = isColored ? (chart: Chart) => drawPlot(chart, columns, paint) : drawTable;
    return charts.map(draw).join("\n");
  }
}

/** Draws to a file of the kind that its name ends in. */
async function drawFile(specification: object, path: string): Promise<void> {
  const svg = await drawSvg(specification);
  if (path.toLowerCase().endsWith(".svg")) return await replaceFile(path, svg);
  const font = "@fontsource/source-sans-3";
  const files = SCRIPTS.flatMap((script) => [400, 700].map((weight) => `${script}-${weight}`));
  const fonts = files.map((name) =>
    readPackageFile(`${font}/files/source-sans-3-${name}-normal.woff2`).catch(absent(font))
  );
  const resvg = "@resvg/resvg-wasm";
  const wasm = readPackageFile(`${resvg}/index_bg.wasm`).catch(absent(resvg));
  const png = await drawPng(svg, { wasm: await wasm, fonts: await Promise.all(fonts) });
  await replaceFileWith(path, (write) => write(new Uint8Array(png)));
}

/**
 * The rows of a results file.
 *
 * @param read Gives null for lines of other kinds.
 * @param fields What a row's line has, for the message where there is none.
 */
async function readRows<Row>(
  source: string,
  read: (value: unknown) => Row | null,
  fields: string,
): Promise<Row[]> {
  const rows: Row[] = [];
  let lines = 0;
  for await (
    const { value, number } of readJsonLines(source, (text) => clip(printable(text), NAME))
  ) {
    lines++;
    try {
      const row = read(value);
      if (row !== null) rows.push(row);
    } catch (cause) {
      throw new Error(`Cannot draw ${source}, line ${number}: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
  if (rows.length > 0) return rows;
  throw new Error(
    `Cannot draw ${source}: there must be lines with ${fields}, and none of ` +
      `${plural(lines, "line")} has them`,
  );
}
