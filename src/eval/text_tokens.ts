/**
 * What texts are measured in: a model's tokens, or words where a server keeps its own to itself.
 *
 * @module
 */

import type { Tokenizer } from "../text/tokenizer.ts";

/** Text to units and back: the units of a text, joined, are the text. */
export interface TextTokens {
  /** Units for a token of the model: 1 where they are its tokens. */
  readonly perToken: number;
  encode(text: string): Uint32Array;
  decode(tokens: Uint32Array): string;
}

/** A model's tokens; control tokens that a text spells out are text. */
export function modelTokens(tokenizer: Tokenizer): TextTokens {
  return {
    perToken: 1,
    encode: (text) => tokenizer.encode(text, { special: false, continuation: true }),
    decode: (tokens) => tokenizer.decode(tokens, { continuation: true }),
  };
}

/** English has about four tokens for three words. */
const WORDS_PER_TOKEN = 0.75;

/** Words with the white space before them, numbered as they come. */
export function wordTokens(): TextTokens {
  const words: string[] = [];
  const ids = new Map<string, number>();
  const idOf = (word: string) => {
    const known = ids.get(word);
    if (known !== undefined) return known;
    ids.set(word, words.length);
    return words.push(word) - 1;
  };
  return {
    perToken: WORDS_PER_TOKEN,
    encode: (text) => Uint32Array.from(text.match(/\s*\S+|\s+$/g) ?? [], idOf),
    decode: (tokens) => Array.from(tokens, (id) => words[id]!).join(""),
  };
}
