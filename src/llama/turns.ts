/**
 * Whose turn it is in a conversation by a chat template, and what the template puts there.
 *
 * @module
 */

import { TokenEncoder } from "../text/token_encoder.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type Chat, QUESTION_SEPARATOR } from "./chat.ts";
import type { Turn } from "./session_header.ts";

/** The turns whose tokens are not forgotten, of a sequence of `length` tokens. */
export function turnsWithin(turns: readonly Turn[], length: number): readonly Turn[] {
  return turns.filter(({ at }) => at < length);
}

/**
 * What the template puts before the user's text.
 *
 * @param turns Those that there were, ascending.
 * @returns Null within a turn of the user's.
 * @throws {TypeError} If the template cannot be used, or has no second turn.
 */
export function markupBefore(chat: Chat, turns: readonly Turn[]): string | null {
  const parts = chat.parts();
  const turn = turns.at(-1);
  if (turn?.of === "user") return null;
  if (turn === undefined) return parts.opening;
  if (parts.next !== null) return parts.next;
  throw new TypeError(
    "Cannot go on after an answer: the model's chat template has one turn only; fork the session " +
      "before asking, or set raw",
  );
}

/**
 * A question and all that the template puts around it. Encoded apart from the text before it:
 * questions are steps of their own.
 *
 * @param options `turns` are those before it; `continuation` is whether anything is.
 * @throws {TypeError} As {@linkcode markupBefore}.
 */
export function encodeTurn(
  tokenizer: Tokenizer,
  chat: Chat,
  question: string,
  { turns, continuation }: { readonly turns: readonly Turn[]; readonly continuation: boolean },
): Uint32Array {
  const before = markupBefore(chat, turns) ?? QUESTION_SEPARATOR;
  const encoder = new TokenEncoder(tokenizer, { special: false, continuation });
  encoder.pushMarkup(before);
  const start = encoder.push(question).tokens;
  encoder.pushMarkup(chat.parts().closing);
  return Uint32Array.from([...start, ...encoder.flush().tokens]);
}
