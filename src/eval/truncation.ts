/**
 * How the benchmarks fit prompts into models that read no further: asked for, never by default.
 *
 * @module
 */

import type { PromptParts } from "./prompt_template.ts";
import type { TextTokens } from "./text_tokens.ts";

/** The most tokens of a prompt, without those that its text does not spell. */
export interface Truncation {
  readonly tokens: number;
  readonly units: Pick<TextTokens, "encode" | "decode" | "perToken">;
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
  { tokens, units }: Truncation,
  odd: "dropped" | "last",
): string {
  const most = Math.floor(tokens * units.perToken);
  const all = units.encode(before + context + after);
  if (all.length <= most) return before + context;
  const first = Math.floor(most / 2);
  const last = odd === "last" ? Math.ceil(most / 2) : first;
  const tail = units.decode(all.subarray(all.length - last));
  if (!tail.endsWith(after)) {
    throw new RangeError(
      `Cannot cut a prompt to ${tokens} tokens: what is behind the text, "${start(after)}", must ` +
        `fit into half of them`,
    );
  }
  const kept = units.decode(all.subarray(0, first)) + tail;
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
  { tokens, units }: Truncation,
  end: "first" | "last",
): string {
  const limit = Math.floor(tokens * units.perToken);
  let kept = document;
  for (let most = tokens; most > 0 && units.encode(kept).length > limit; most -= WORDS_AT_ONCE) {
    const words = kept.split(" ");
    kept = (end === "first" ? words.slice(0, most) : words.slice(-most)).join(" ");
  }
  return kept;
}

function start(text: string): string {
  const short = text.slice(0, 60);
  return short.length < text.length ? `${short} ...` : short;
}
