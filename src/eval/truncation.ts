/**
 * How the benchmarks fit prompts into models that read no further: asked for, never by default.
 *
 * @module
 */

import type { PromptParts } from "./prompt_template.ts";

/** What cutting needs of a model's tokenizer. */
export interface CuttingTokenizer {
  /** Whether a text's first token is one that it does not spell; it counts. */
  readonly addBos: boolean;
  encode(text: string, options?: { readonly special?: boolean }): Uint32Array;
  decode(tokens: Uint32Array): string;
}

/** The most tokens of a prompt, as a tokenizer counts. */
export interface Truncation {
  readonly tokens: number;
  readonly tokenizer: CuttingTokenizer;
}

/**
 * LongBench's and InfiniteBench's rule: of a prompt that is too long, the first and the last half of
 * the tokens stay.
 *
 * @param odd Where the odd token of the limit goes.
 * @returns The context, and what is before it, as one text; what is behind it stays whole.
 * @throws {RangeError} If the second half would cut what stands behind the context.
 */
export function cutMiddle(
  context: string,
  { before, after }: PromptParts,
  { tokens, tokenizer }: Truncation,
  odd: "dropped" | "last",
): string {
  const bos = tokenizer.addBos ? 1 : 0;
  const all = tokenizer.encode(before + context + after, { special: false });
  if (all.length + bos <= tokens) return before + context;
  const first = Math.max(Math.floor(tokens / 2) - bos, 0);
  const last = odd === "last" ? Math.ceil(tokens / 2) : Math.floor(tokens / 2);
  const tail = last === 0 ? "" : tokenizer.decode(all.subarray(-last));
  if (!tail.endsWith(after)) {
    throw new RangeError(
      `Cannot cut a prompt to ${tokens} tokens: what is behind the text, "${start(after)}", must ` +
        `fit into half of them`,
    );
  }
  const kept = tokenizer.decode(all.subarray(0, first)) + tail;
  return kept.slice(0, kept.length - after.length);
}

/** Words that L-Eval's rule drops more at each attempt. */
const WORDS_AT_ONCE = 250;

/**
 * L-Eval's rule: a document has at most as many tokens as are left beside its answer; as many words
 * stay, then 250 fewer at a time until they fit.
 *
 * @param end Which stay: the first, or the last for code.
 */
export function cutWords(
  document: string,
  { tokens, tokenizer }: Truncation,
  end: "first" | "last",
): string {
  const bos = tokenizer.addBos ? 1 : 0;
  let kept = document;
  for (
    let most = tokens;
    most > 0 && tokenizer.encode(kept, { special: false }).length + bos > tokens;
    most -= WORDS_AT_ONCE
  ) {
    const words = kept.split(" ");
    kept = (end === "first" ? words.slice(0, most) : words.slice(-most)).join(" ");
  }
  return kept;
}

function start(text: string): string {
  const short = text.slice(0, 60);
  return short.length < text.length ? `${short} ...` : short;
}
