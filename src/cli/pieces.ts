/**
 * The texts of single tokens, for those who look at a model's work token by token.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import type { Session } from "../llama/session.ts";
import { TokenDecoder } from "../text/token_decoder.ts";

/** Tokens of which a character may consist: UTF-8 has four bytes at most. */
const MOST_OF_A_CHARACTER = 4;

/**
 * The texts of tokens [start, end) of a sequence, one each; joined, they are the text. Control tokens
 * are spelled out. A token that ends within a character has its text in the one that completes it, be
 * the character's first token in the range or before it.
 */
export function piecesOf(model: Model, session: Session, start: number, end: number): string[] {
  const from = Math.max(0, start - (MOST_OF_A_CHARACTER - 1));
  const decoder = new TokenDecoder(model.tokenizer, { special: true, continuation: from > 0 });
  return Array.from(session.tokens(from, end), (token) => decoder.push(token)).slice(start - from);
}
