/**
 * What people see of an evaluation: tables of scores with their 95 % intervals.
 *
 * @module
 */

import type { EvalResult } from "../eval/case.ts";
import { type EvalShare, type EvalSummary, summarize } from "../eval/run.ts";
import { mean } from "../eval/statistics.ts";
import { formatCount, formatSeconds, plural } from "./format.ts";

/** A table by task and length with a column for each method, and what all came to. */
export function describeResults(summary: EvalSummary, rows: readonly EvalResult[]): string {
  const methods = Object.keys(summary.byMethod);
  const tasks = [...new Set(rows.map(({ task }) => task))];
  const table: string[][] = [["task", "length", ...methods]];
  for (const task of tasks) {
    const own = rows.filter((row) => row.task === task);
    for (const length of [...new Set(own.map(({ at }) => at["length"]))]) {
      const cell = own.filter(({ at }) => at["length"] === length);
      const { byMethod } = summarize(summary.suite, cell);
      table.push([
        task,
        length === undefined ? "" : formatCount(Number(length)),
        ...methods.map((method) =>
          describePerplexity(cell.filter((row) => row.method === method)) ??
            describeShare(byMethod[method])
        ),
      ]);
    }
  }
  const seconds = Object.values(summary.byMethod).reduce((sum, each) => sum + each.seconds, 0);
  const about = `${plural(rows.length, "row")} in ${formatSeconds(seconds)}`;
  if (isPerplexity(rows)) return `${alignColumns(table)}\n${about}; perplexity\n`;
  table.push(["all", "", ...methods.map((method) => describeShare(summary.byMethod[method]))]);
  return `${alignColumns(table)}\n${about}; percent, in parentheses the 95 % interval\n`;
}

function isPerplexity(rows: readonly EvalResult[]): rows is readonly PerplexityRow[] {
  return rows.length > 0 && rows.every((row) => "nll" in row);
}

type PerplexityRow = EvalResult & { readonly nll: number };

/** Of all tokens that count; null where that is not what rows are about. */
function describePerplexity(rows: readonly EvalResult[]): string | null {
  if (!isPerplexity(rows)) return null;
  return Math.exp(mean(rows.map(({ nll }) => nll))).toFixed(2);
}

/** `95.0 (75-99) of 20` in percent. */
export function describeShare(share: EvalShare | undefined): string {
  if (share === undefined) return "";
  const { score, n, interval: [low, high], errors } = share;
  const failed = errors === 0 ? "" : `${n === 0 ? "" : ", "}${plural(errors, "error")}`;
  if (n === 0) return failed;
  const percent = (x: number) => (100 * x).toFixed(0);
  return `${(100 * score).toFixed(1)} (${percent(low)}-${percent(high)}) of ${n}${failed}`;
}

/** Rows as lines, columns beneath one another. */
export function alignColumns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd())
    .join("\n");
}
