/**
 * Tokens to text as they come: no character is ever split.
 *
 * @module
 */

import type { Tokenizer } from "./tokenizer.ts";
import { incompleteLength } from "./utf8.ts";

/** Options of {@linkcode TokenDecoder}. */
export interface TokenDecoderOptions {
  /** Whether special tokens are spelled out. Default false: they are left out. */
  readonly special?: boolean;
  /**
   * Whether the tokens go on from earlier ones, so that a space at their start belongs to the text.
   * Default false: tokenizers that put a space before every text drop it again.
   */
  readonly continuation?: boolean;
}

/**
 * Decodes tokens as they come. What `push` and `flush` give back, joined, is the text of all tokens.
 * Bytes that are no UTF-8 become U+FFFD, as in `TextDecoder`; a byte order mark stays.
 *
 * @example Usage
 * ```ts
 * import { createTokenizer } from "./tokenizer.ts";
 * import { TokenDecoder } from "./token_decoder.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const vocab = { "<0xC3>": 0, "<0xA9>": 1, t: 2 };
 * const model = { type: "BPE", vocab, merges: [], byte_fallback: true };
 * const decoder = new TokenDecoder(createTokenizer({ model }, null));
 * deepEqual([0, 1, 2].map((token) => decoder.push(token)), ["", "é", "t"]);
 * ```
 */
export class TokenDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #special: boolean;
  readonly #continuation: boolean;
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true });
  #stripsSpace: boolean;
  #held: Uint8Array = new Uint8Array(0); // the start of a character, at most 3 bytes

  /** A decoder at the start of a text. */
  constructor(tokenizer: Tokenizer, options: TokenDecoderOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#special = options.special ?? false;
    this.#continuation = options.continuation ?? false;
    this.#stripsSpace = tokenizer.stripsFirstSpace && !this.#continuation;
  }

  /**
   * The text that is complete with these tokens; may be empty.
   *
   * @param tokens One, or several at once.
   * @throws {RangeError} If a token is not below `vocabSize`.
   */
  push(tokens: number | ArrayLike<number>): string {
    const parts = [this.#held];
    let length = this.#held.length;
    for (const token of typeof tokens === "number" ? [tokens] : Array.from(tokens)) {
      const bytes = this.#bytesOf(token);
      parts.push(bytes);
      length += bytes.length;
    }
    const joined = new Uint8Array(length);
    let offset = 0;
    for (const part of parts) {
      joined.set(part, offset);
      offset += part.length;
    }
    const end = length - incompleteLength(joined);
    this.#held = joined.slice(end);
    return this.#text.decode(joined.subarray(0, end));
  }

  /** What a token adds to the text. */
  #bytesOf(token: number): Uint8Array {
    const bytes = this.#tokenizer.tokenBytes(token);
    if (!this.#special && this.#tokenizer.specialTokens.has(token)) return bytes.subarray(0, 0);
    if (!this.#stripsSpace || bytes.length === 0) return bytes;
    this.#stripsSpace = false;
    return bytes[0] === 0x20 ? bytes.subarray(1) : bytes;
  }

  /** Ends the text: a character that stayed incomplete becomes U+FFFD. The decoder is as new then. */
  flush(): string {
    const text = this.#text.decode(this.#held);
    this.#held = new Uint8Array(0);
    this.#stripsSpace = this.#tokenizer.stripsFirstSpace && !this.#continuation;
    return text;
  }
}

/** A stream of tokens, one by one or in arrays, to a stream of text: {@linkcode TokenDecoder} as a `TransformStream`. */
export class TokenDecoderStream extends TransformStream<number | Uint32Array, string> {
  /** A stream at the start of a text. */
  constructor(tokenizer: Tokenizer, options: TokenDecoderOptions = {}) {
    const decoder = new TokenDecoder(tokenizer, options);
    super({
      transform(tokens, controller) {
        const text = decoder.push(tokens);
        if (text !== "") controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.flush();
        if (text !== "") controller.enqueue(text);
      },
    });
  }
}
