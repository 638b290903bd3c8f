/**
 * Texts to hide facts in: generated prose, or somebody's text, repeated where it is too short.
 *
 * @module
 */

import { seededRandom, writeHaystack } from "./haystack.ts";
import type { TextTokens } from "./text_tokens.ts";

/** Text of any length. */
export interface HaystackSource {
  /** What tells it from others. */
  readonly name: string;
  /**
   * Exactly `count` units; another seed gives another stretch.
   *
   * @throws {RangeError} If there is no text.
   */
  tokens(count: number, seed: number): Promise<Uint32Array>;
}

/** Characters for a unit at first, and by how much more where that was too few. */
const FIRST_GUESS = 3;
const MORE = 1.5;

/** Generated prose: see {@linkcode writeHaystack}. */
export function generatedSource(units: TextTokens): HaystackSource {
  return {
    name: "generated",
    tokens(count, seed) {
      for (let length = Math.ceil(count * FIRST_GUESS) + 100;; length = Math.ceil(length * MORE)) {
        let text = "";
        for (const piece of writeHaystack({ seed, length })) text += piece.text;
        const tokens = units.encode(text);
        if (tokens.length >= count) return Promise.resolve(tokens.slice(0, count));
      }
    },
  };
}

/**
 * Somebody's text: a stretch from a place of the seed's choice on; beyond its end it begins anew.
 *
 * @param name Tells it from other texts.
 * @param read Asked once.
 */
export function textSource(
  units: TextTokens,
  name: string,
  read: () => Promise<string>,
): HaystackSource {
  let whole: Promise<Uint32Array> | null = null;
  return {
    name,
    async tokens(count, seed) {
      const all = await (whole ??= read().then((text) => units.encode(text)));
      if (all.length === 0) throw new RangeError(`Cannot hide facts in "${name}": it is empty`);
      const from = seededRandom(seed)(Math.max(1, all.length - count + 1));
      const start = findWordStart(units, all, from);
      return Uint32Array.from({ length: count }, (_, i) => all[(start + i) % all.length]!);
    },
  };
}

/** The first unit from `from` on that begins with white space; 0 if there is none. */
function findWordStart(units: TextTokens, tokens: Uint32Array, from: number): number {
  for (let i = from; i < Math.min(tokens.length, from + 1000); i++) {
    if (/^\s/.test(units.decode(tokens.subarray(i, i + 1)))) return i;
  }
  return 0;
}
