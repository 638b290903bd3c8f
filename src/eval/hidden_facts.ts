/**
 * Facts in the place of some tokens of a long text, such that the changed text has the tokens of the
 * old one everywhere else: what {@linkcode SharedText}s are made of.
 *
 * @module
 */

import type { BaseText, Patch } from "./case.ts";
import type { HaystackSource } from "./haystack_source.ts";
import { concatenate } from "./prompt.ts";
import type { TextTokens } from "./text_tokens.ts";

/** A sentence and where it is wanted. */
export interface HiddenFact {
  /** With the white space before it. */
  readonly sentence: string;
  /** From 0, the start of the text, to 1, its end. */
  readonly depth: number;
}

/** The first units stay as they are: how keys are kept is decided by them. */
const UNTOUCHED = 512;
/** How far from where it is wanted a fact may stand to be between two sentences, in units. */
const SENTENCE_REACH = 48;
/** Units around a fact that must come back from the changed text as they are. */
const CHECKED = 12;

/** Units that a text may lose at its start, so that it begins with a word. */
const SPARE = 64;

/**
 * A text that cases share: `count` units of a source, after what is always before them.
 *
 * @param head The text begins with a space after it.
 */
export function baseText(
  units: TextTokens,
  source: HaystackSource,
  count: number,
  seed: number,
  head: Uint32Array = new Uint32Array(0),
): BaseText {
  const make = async () => {
    if (head.length === 0) return await source.tokens(count, seed);
    const text = await source.tokens(count + SPARE, seed);
    const isWordStart = (token: number) => /^\s/.test(units.decode(Uint32Array.of(token)));
    const start = Math.max(0, text.subarray(0, SPARE).findIndex(isWordStart));
    return concatenate([head, text.subarray(start, start + count)]);
  };
  let tokens: Promise<Uint32Array> | null = null;
  return { tokens: () => tokens ??= make() };
}

/**
 * Places facts, the first before the others: each as near to its depth as there is a word's start
 * with another behind as many units as the fact has; between sentences where one is near.
 *
 * @param first Where facts may stand from, in units. Default: past the first
 * {@linkcode UNTOUCHED}, or past a sixteenth of a shorter text.
 * @returns Ascending.
 * @throws {RangeError} If there is no room for all.
 */
export function placeFacts(
  units: TextTokens,
  base: Uint32Array,
  facts: readonly HiddenFact[],
  first: number = Math.min(UNTOUCHED, base.length >> 4),
): Patch[] {
  const starts = new Map<number, boolean>();
  const isWordStart = (at: number) => {
    if (at === base.length) return true;
    const token = base[at]!;
    const known = starts.get(token);
    if (known !== undefined) return known;
    const is = /^\s/.test(units.decode(Uint32Array.of(token)));
    starts.set(token, is);
    return is;
  };
  const isSentenceStart = (at: number) =>
    /[.!?]["')]*$/.test(units.decode(base.subarray(Math.max(0, at - 3), at)));
  const placed: Patch[] = [];
  for (const { sentence, depth } of facts) {
    const tokens = units.encode(sentence);
    const { length } = tokens;
    const last = base.length - length;
    const wanted = Math.round(first + depth * (last - first));
    const fits = (at: number) =>
      at >= first && at <= last && isWordStart(at) && isWordStart(at + length) &&
      placed.every((other) =>
        at + length <= other.start || at >= other.start + other.tokens.length
      );
    const near = (reach: number, holds: (at: number) => boolean): number | null => {
      for (let away = 0; away <= reach; away++) {
        for (const at of away === 0 ? [wanted] : [wanted + away, wanted - away]) {
          if (fits(at) && holds(at) && staysItself(units, base, at, tokens)) return at;
        }
      }
      return null;
    };
    const start = near(SENTENCE_REACH, isSentenceStart) ?? near(base.length, () => true);
    if (start === null) {
      throw new RangeError(
        `Cannot hide ${facts.length} facts: ${base.length} tokens must have room for all, the one ` +
          `after ${placed.length} with ${length} tokens does not fit`,
      );
    }
    placed.push({ start, tokens });
  }
  return placed.sort((a, b) => a.start - b.start);
}

/** Whether the changed text, as text, has the same units around the fact. */
function staysItself(
  units: TextTokens,
  base: Uint32Array,
  start: number,
  tokens: Uint32Array,
): boolean {
  const end = start + tokens.length;
  const before = base.subarray(Math.max(0, start - CHECKED), start);
  const after = base.subarray(end, end + CHECKED);
  const expected = [...before, ...tokens, ...after];
  const actual = units.encode(units.decode(Uint32Array.from(expected)));
  // The first and the last word may be pieces of longer ones.
  const from = before.length >> 1;
  const to = expected.length - (after.length >> 1);
  const shift = actual.length - expected.length;
  return shift === 0 && expected.slice(from, to).every((token, i) => actual[from + i] === token);
}

/** The changed text, as text, in pieces. */
export function* textOf(
  units: TextTokens,
  base: Uint32Array,
  patches: readonly Patch[],
): Generator<string> {
  const tokens = base.slice();
  for (const { start, tokens: changed } of patches) tokens.set(changed, start);
  yield units.decode(tokens);
}
