/**
 * What people see of an evaluation: tables of scores with their 95 % intervals.
 *
 * @module
 */

import type { EvalResult } from "../eval/case.ts";
import { type EvalShare, type EvalSummary, shareOfRows } from "../eval/run.ts";
import { mean } from "../eval/statistics.ts";
import { formatCount, formatSeconds, plural } from "./format.ts";

/** A table by task and length with a column for each method, and what all came to. */
export function describeResults(summary: EvalSummary, rows: readonly EvalResult[]): string {
  const methods = Object.values(summary.byMethod);
  const seconds = methods.reduce((sum, each) => sum + each.seconds, 0);
  const table = resultTable(rows);
  const isScored = !isPerplexity(rows);
  if (isScored) table.push(["all", "", ...methods.map(describeShare)]);
  const unit = isScored ? "percent, in parentheses the 95 % interval" : "perplexity";
  return `${alignColumns(table)}\n${plural(rows.length, "row")} in ${formatSeconds(seconds)}; ` +
    `${unit}\n`;
}

/** Rows by task and length, a column for each method; the first row names them. */
export function resultTable(rows: readonly EvalResult[]): string[][] {
  const methods = [...new Set(rows.map(({ method }) => method))];
  const table: string[][] = [["task", "length", ...methods]];
  for (const task of new Set(rows.map(({ task }) => task))) {
    const own = rows.filter((row) => row.task === task);
    for (const length of new Set(own.map(({ at }) => at["length"]))) {
      const cell = own.filter(({ at }) => at["length"] === length);
      table.push([
        task,
        length === undefined ? "" : formatCount(Number(length)),
        ...methods.map((method) => describeCell(cell.filter((row) => row.method === method))),
      ]);
    }
  }
  return table;
}

function describeCell(rows: readonly EvalResult[]): string {
  if (rows.length === 0) return "";
  return isPerplexity(rows)
    ? Math.exp(mean(rows.map(({ nll }) => nll))).toFixed(2)
    : describeShare(shareOfRows(rows));
}

/** `95.0 (75-99) of 20` in percent. */
export function describeShare({ score, n, interval, errors }: EvalShare): string {
  const failed = errors === 0 ? "" : `${n === 0 ? "" : ", "}${plural(errors, "error")}`;
  if (n === 0) return failed;
  const [low, high] = interval.map((x) => (100 * x).toFixed(0));
  return `${(100 * score).toFixed(1)} (${low}-${high}) of ${n}${failed}`;
}

type PerplexityRow = EvalResult & { readonly nll: number };

function isPerplexity(rows: readonly EvalResult[]): rows is readonly PerplexityRow[] {
  return rows.length > 0 && rows.every((row) => "nll" in row);
}

/** Rows as lines, columns beneath one another. */
export function alignColumns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd())
    .join("\n");
}
