/**
 * Finding a tokenizer's added tokens in a text that is still arriving.
 *
 * @module
 */

/** A token that is looked for in the text before anything else happens to it. */
export interface AddedToken {
  readonly id: number;
  /** What it looks like in the text. */
  readonly content: string;
  /** A control token such as the end of a text, as opposed to a word that was added later. */
  readonly special: boolean;
  /** White space before it belongs to it. */
  readonly stripsBefore: boolean;
  /** White space after it belongs to it. */
  readonly stripsAfter: boolean;
}

/** An added token in a text, or how much of the text certainly holds none. */
export type Match =
  | { readonly token: AddedToken; readonly start: number; readonly end: number }
  | { readonly token: null; readonly end: number };

/** Finds the first added token of a text; see {@linkcode createMatcher}. */
export type Matcher = (text: string, final: boolean) => Match;

/**
 * A finder of added tokens: leftmost first, at one place the longest.
 *
 * While the text may go on (`final` false) a match counts only if no longer one can still grow
 * from its place, and the end of the text is held back where it may be the start of a token.
 *
 * @param tokens What to look for, each under the form it has in the text.
 * @returns Null where there is nothing to look for.
 *
 * @example Usage
 * ```ts
 * import { createMatcher } from "./added_tokens.ts";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const end = { id: 7, content: "<end>", special: true, stripsBefore: false, stripsAfter: false };
 * const match = createMatcher([[end.content, end]])!;
 * equal(match("a <end> b", false).token, end);
 * deepEqual(match("a <en", false), { token: null, end: 2 });
 * deepEqual(match("a <en", true), { token: null, end: 5 });
 * ```
 */
export function createMatcher(tokens: Iterable<readonly [string, AddedToken]>): Matcher | null {
  const byForm = new Map(tokens);
  if (byForm.size === 0) return null;
  const forms = [...byForm.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(forms.map((form) => form.replace(/[^\w]/gu, escape)).join("|"), "gu");
  const longest = forms[0]!.length;
  const starts = new Set<string>();
  for (const form of forms) {
    for (let length = 1; length < form.length; length++) starts.add(form.slice(0, length));
  }

  return (text, final) => {
    pattern.lastIndex = 0;
    const found = pattern.exec(text);
    if (!final) {
      const limit = found?.index ?? text.length;
      for (let at = Math.max(0, text.length - longest + 1); at < text.length && at <= limit; at++) {
        if (starts.has(text.slice(at))) return { token: null, end: at };
      }
    }
    if (found === null) return { token: null, end: text.length };
    const form = found[0];
    return { token: byForm.get(form)!, start: found.index, end: found.index + form.length };
  };
}

/** Any character as a regular expression with the `u` flag that matches it alone. */
function escape(character: string): string {
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}
