/**
 * The lines of results files that pictures are drawn from. Lines of other kinds, such as a summary,
 * are no errors: they are left out.
 *
 * @module
 */

import type { EvalResult } from "../case.ts";
import type { CostRow, PerplexityRow } from "../rows.ts";

/** What a needle map takes of a result. */
export type NeedleRow =
  & Pick<EvalResult, "task" | "method" | "score">
  & {
    /** Tokens of the text. */
    readonly length: number;
    /** Where the needle is, from 0, the beginning, to 1, the end. */
    readonly depth: number;
    /** What else it stood at: distractors, repeat, ... */
    readonly at: EvalResult["at"];
  };

/**
 * A result with a length and a depth; null where the line is none.
 *
 * @throws {SyntaxError} If it is one, with values that cannot be.
 */
export function readNeedleRow(value: unknown): NeedleRow | null {
  const line = fieldsOf(value);
  const at = line && fieldsOf(line.at);
  if (!line || !at || at.length === undefined || at.depth === undefined) return null;
  // A case that failed has no score; a later run tries it again.
  if (line.error !== undefined) return null;
  return {
    task: name(line, "task"),
    method: name(line, "method"),
    score: number(line, "score", "from 0 to 1", (score) => score >= 0 && score <= 1),
    length: number(at, "length", "a whole number of tokens above 0", isCount),
    depth: number(at, "depth", "from 0 to 1", (depth) => depth >= 0 && depth <= 1),
    at: at as NeedleRow["at"],
  };
}

/**
 * A row of perplexities, or a result of `eval perplexity`, whose position is the length it stands at;
 * null where the line is none.
 *
 * @throws {SyntaxError} If it is one, with values that cannot be.
 */
export function readPerplexityRow(value: unknown): PerplexityRow | null {
  const line = fieldsOf(value);
  if (!line || line.perplexity === undefined || line.error !== undefined) return null;
  const position = line.position ?? fieldsOf(line.at)?.length;
  if (position === undefined) return null;
  return {
    method: name(line, "method"),
    position: number({ position }, "position", "0 or more tokens", (position) => position >= 0),
    perplexity: number(line, "perplexity", "1 or more", (perplexity) => perplexity >= 1),
  };
}

/**
 * A row of costs, or a row of bench/endless.ts, which names them otherwise; null where the line is
 * none.
 *
 * @throws {SyntaxError} If it is one, with values that cannot be.
 */
export function readCostRow(value: unknown): CostRow | null {
  const line = fieldsOf(value);
  if (!line) return null;
  const isEndless = line.secondsPerQuestion === undefined;
  const row = isEndless
    ? {
      selector: [line.selector, line.runtime].filter((name) => name !== undefined).join(", "),
      length: line.tokens,
      secondsPerQuestion: line.questionSeconds,
      tokensPerSecond: line.tokensPerSecondHere,
    }
    : line;
  if (row.length === undefined || row.secondsPerQuestion === undefined) return null;
  return {
    selector: name(row, "selector"),
    length: number(row, "length", "a whole number of tokens above 0", isCount),
    secondsPerQuestion: number(row, "secondsPerQuestion", "above 0 seconds", isPositive),
    tokensPerSecond: number(row, "tokensPerSecond", "above 0 tokens/s", isPositive),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields | null {
  return typeof value === "object" && value !== null ? value as Fields : null;
}

function name(line: Fields, field: string): string {
  const value = line[field];
  if (typeof value === "string" && value.trim() !== "") return value;
  throw new SyntaxError(`${field} must be a name, got ${shown(value)}`);
}

function number(
  line: Fields,
  field: string,
  rule: string,
  holds: (value: number) => boolean,
): number {
  const value = line[field];
  if (typeof value === "number" && Number.isFinite(value) && holds(value)) return value;
  throw new SyntaxError(`${field} must be ${rule}, got ${shown(value)}`);
}

const isCount = (value: number) => Number.isSafeInteger(value) && value > 0;
const isPositive = (value: number) => value > 0;

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "none").slice(0, 60);
}
