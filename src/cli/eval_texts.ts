/**
 * Texts that evaluations hide facts in or measure.
 *
 * @module
 */

import { generatedSource, type HaystackSource, textSource } from "../eval/haystack_source.ts";
import type { TextTokens } from "../eval/text_tokens.ts";
import { checkReadable, readFile, readStandardInput } from "../system/system.ts";
import { joinInputs } from "./inputs.ts";

/** Characters of a file for each token that is wanted, at most: more are not read. */
const CHARACTERS_PER_TOKEN = 8;
/** Characters that are read in any case, so that stretches have somewhere to start. */
const LEAST_CHARACTERS = 1 << 22;

/**
 * A text to hide facts in.
 *
 * @param files Paths, in order; `-` is standard input; none: generated prose.
 * @param tokens The most that will be wanted at once.
 * @throws {Error} If a file cannot be read.
 */
export async function openHaystack(
  files: readonly string[],
  units: TextTokens,
  tokens: number,
): Promise<HaystackSource> {
  if (files.length === 0) return generatedSource(units);
  for (const path of files) if (path !== "-") await checkReadable(path);
  const most = Math.max(LEAST_CHARACTERS, tokens * CHARACTERS_PER_TOKEN);
  return textSource(units, files.join(", "), () => readTexts(files, most));
}

/**
 * Files as one text.
 *
 * @param most Characters after which reading ends.
 */
export async function readTexts(files: readonly string[], most: number): Promise<string> {
  const inputs = joinInputs(files.map((path) => ({
    name: path === "-" ? "standard input" : path,
    path: path === "-" ? null : path,
    bytes: () => path === "-" ? readStandardInput() : readFile(path),
  })));
  let whole = "";
  for await (const text of inputs.text()) {
    whole += text;
    if (whole.length >= most) break;
  }
  return whole;
}

/**
 * A file's JSON.
 *
 * @throws {Error} If it cannot be read or is none.
 */
export async function readJsonFile(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readTexts([path], Infinity)) as unknown;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new Error(`Cannot use "${path}": it must be JSON, ${cause.message}`, { cause });
  }
}
