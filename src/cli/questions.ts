/**
 * Questions, one a line, from a terminal or a file.
 *
 * @module
 */

import { checkReadable, isWholeFile, readFile } from "../system/system.ts";
import { openTerminal } from "../system/terminal.ts";
import { Utf8Decoder } from "../text/utf8.ts";
import { type FollowSettings, UsageError } from "./args.ts";

/** Where questions about a text that is being read come from. */
export interface QuestionSources {
  /** Those that are there before the reading begins. */
  readonly early: AsyncIterable<string>;
  /** Those that come while it goes on, empty lines included; null where there can be none. */
  readonly live: AsyncIterable<string> | null;
  /** Whether the latter are typed on the terminal. */
  readonly isTyped: boolean;
}

/**
 * Finds where the questions come from; reads none yet.
 *
 * @throws {UsageError} If there can be no question.
 * @throws {Error} If their file cannot be read.
 */
export async function openQuestions(settings: FollowSettings): Promise<QuestionSources> {
  const { question, questions: path } = settings;
  if (path !== undefined) await checkReadable(path);
  const isWhole = path !== undefined && await isWholeFile(path);
  async function* early(): AsyncGenerator<string> {
    if (question !== undefined) yield question;
    if (isWhole) yield* readLines(readFile(path!));
  }
  if (path !== undefined) {
    return { early: early(), live: isWhole ? null : readLines(readFile(path)), isTyped: false };
  }
  const terminal = openTerminal();
  if (terminal === null && question === undefined) {
    throw new UsageError(
      "There is nothing to answer: a question, --questions or a terminal to type on must be there",
    );
  }
  return { early: early(), live: terminal && readLines(terminal), isTyped: terminal !== null };
}

/** UTF-16 units of a question at most, so that a file without line ends takes no memory. */
export const MAX_QUESTION_LENGTH = 1 << 16;

/**
 * Lines as they come, without their ends and the white space around them; the last may have no end.
 * One that is longer than `most` is cut to one more than that.
 */
export async function* readLines(
  bytes: AsyncIterable<Uint8Array>,
  most = MAX_QUESTION_LENGTH,
): AsyncGenerator<string> {
  const decoder = new Utf8Decoder();
  let line = "";
  const take = (text: string) => line = (line + text).slice(0, most + 1);
  for await (const chunk of bytes) {
    const [first, ...others] = decoder.push(chunk).split("\n");
    take(first!);
    for (const next of others) {
      yield line.trim();
      line = "";
      take(next);
    }
  }
  take(decoder.flush());
  if (line !== "") yield line.trim();
}
