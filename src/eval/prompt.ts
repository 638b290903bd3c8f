/**
 * A case as a model reads it: in the question form that it was trained on, in a turn of its chat
 * template, or word for word.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import { completeQuestion } from "../llama/profile.ts";
import type { StopRules } from "../llama/stop_strings.ts";
import { TokenEncoder } from "../text/token_encoder.ts";
import type { EvalCase } from "./case.ts";

/** What is read before a context: the token that begins a text, a template's opening. */
export function encodeOpening(model: Model, raw: boolean): Uint32Array {
  const { first, encoder } = openEncoder(model, raw);
  return concatenate([first, encoder.flush().tokens]);
}

/** A context's tokens, after the opening. Control tokens that it spells out are text. */
export async function encodeContext(
  model: Model,
  context: Iterable<string> | AsyncIterable<string>,
  raw: boolean,
): Promise<Uint32Array> {
  const { first, encoder } = openEncoder(model, raw);
  const parts = [first];
  for await (const text of context) parts.push(encoder.push(text).tokens);
  parts.push(encoder.flush().tokens);
  return concatenate(parts);
}

function openEncoder(
  { tokenizer, chat }: Model,
  raw: boolean,
): { readonly first: Uint32Array; readonly encoder: TokenEncoder } {
  const encoder = new TokenEncoder(tokenizer, { special: false });
  if (!raw && chat !== null) {
    encoder.pushMarkup(chat.parts().opening);
    return { first: new Uint32Array(0), encoder };
  }
  const { addBos, bosToken } = tokenizer;
  const begins = addBos && bosToken !== null;
  return { first: begins ? Uint32Array.of(bosToken) : new Uint32Array(0), encoder };
}

/** What follows the context, and where the answer ends. */
export interface EncodedQuestion {
  readonly tokens: Uint32Array;
  readonly stop: StopRules;
}

/**
 * A question's tokens, encoded apart from the context's, as sessions do.
 *
 * @param raw Leaves question forms and chat template out.
 */
export function encodeQuestion(
  model: Model,
  { question, answerPrefix, stop = [] }: EvalCase,
  raw: boolean,
): EncodedQuestion {
  const { tokenizer, profile } = model;
  const chat = raw ? null : model.chat;
  const form = raw || profile === null ? null : completeQuestion(profile, question.trim());
  if (form !== null) {
    const tokens = tokenizer.encode(form.text, { special: false, continuation: true });
    return { tokens, stop: { before: [...form.before ?? [], ...stop], after: form.after } };
  }
  const encoder = new TokenEncoder(tokenizer, { special: false, continuation: true });
  const parts = [encoder.push(question).tokens];
  if (chat !== null) encoder.pushMarkup(chat.parts().closing);
  parts.push(encoder.push(answerPrefix).tokens, encoder.flush().tokens);
  return { tokens: concatenate(parts), stop: { before: stop } };
}

/** Arrays of tokens as one. */
export function concatenate(parts: readonly Uint32Array[]): Uint32Array {
  const whole = new Uint32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
