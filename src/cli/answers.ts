/**
 * Questions about hidden facts, and whether the answers are right.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import type { Session } from "../llama/session.ts";
import type { AskOptions } from "../llama/session_options.ts";
import type { Needle } from "../eval/haystack.ts";

/** An answer and whether it is the hidden fact. */
export interface Answer {
  readonly text: string;
  readonly right: boolean;
}

/** Tokens that an answer may have beyond the right one: enough to be seen to be wrong. */
const SPARE_TOKENS = 3;

/** What the model answers, the question and the answer becoming part of the session. */
export async function answerOf(
  model: Model,
  session: Session,
  needle: Needle,
  options: Pick<AskOptions, "raw" | "signal"> = {},
): Promise<string> {
  const maxTokens = model.tokenizer.encode(` ${needle.answer}.`).length + SPARE_TOKENS;
  let answer = "";
  for await (const piece of session.ask(needle.question, { ...options, maxTokens })) {
    answer += piece;
  }
  return answer;
}

/** Right is the hidden fact, letter by letter; a full stop may follow it. */
export function judge(text: string, needle: Needle): Answer {
  return { text, right: text.trim().replace(/\.$/, "") === needle.answer };
}

/**
 * The same for models that do not know where an answer ends: right is what begins with the hidden
 * fact and goes on with something that does not belong to it.
 */
export function judgeStart(text: string, needle: Needle): Answer {
  const answer = text.trimStart();
  const right = answer.startsWith(needle.answer) &&
    !/^[\p{L}\p{N}]|^\.\p{N}/u.test(answer.slice(needle.answer.length));
  return { text, right };
}
