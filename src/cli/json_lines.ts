/**
 * Files of JSON lines, as runs write them and may have left them.
 *
 * @module
 */

import { readFile, readStandardInput, standardError } from "../system/system.ts";
import { readLines } from "./questions.ts";

/** UTF-16 units of a line at most: a result holds an answer, a trace's line a step's texts. */
const MOST_OF_A_LINE = 1 << 24;

/** A line of a file, parsed. */
export interface ParsedLine {
  readonly value: unknown;
  /** The first is 1. */
  readonly number: number;
}

/**
 * JSON lines. One that is cut at the end of the file, as a run that was killed leaves it, is left out
 * with a note.
 *
 * @param source A path; `-` is standard input.
 * @param clean What becomes of every string.
 * @throws {Error} If another line is no JSON.
 */
export async function* readJsonLines(
  source: string,
  clean: (text: string) => string,
): AsyncGenerator<ParsedLine> {
  const bytes = source === "-" ? readStandardInput() : readFile(source);
  let number = 0;
  let broken: { readonly number: number; readonly cause: unknown } | null = null;
  for await (const line of readLines(bytes, MOST_OF_A_LINE)) {
    number++;
    if (line === "") continue;
    if (broken !== null) {
      throw new Error(`Cannot read ${source}, line ${broken.number}: it must be JSON, and is not`, {
        cause: broken.cause,
      });
    }
    let value: unknown;
    try {
      value = JSON.parse(line, (_, part) => typeof part === "string" ? clean(part) : part);
    } catch (cause) {
      broken = { number, cause };
      continue;
    }
    yield { value, number };
  }
  if (broken !== null) {
    await standardError.write(`note: the last line of ${source} is cut, and was left out\n`);
  }
}
