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
 * Decodes tokens one by one. What `push` and `flush` give back, joined, is the text of all tokens.
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
  #held = new Uint8Array(0); // the start of a character, at most 3 bytes

  /** A decoder at the start of a text. */
  constructor(tokenizer: Tokenizer, options: TokenDecoderOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#special = options.special ?? false;
    this.#continuation = options.continuation ?? false;
    this.#stripsSpace = tokenizer.stripsFirstSpace && !this.#continuation;
  }

  /**
   * The text that is complete with this token; may be empty.
   *
   * @throws {RangeError} If the token is not below `vocabSize`.
   */
  push(token: number): string {
    let bytes = this.#tokenizer.tokenBytes(token);
    if (bytes.length === 0 || !this.#special && this.#tokenizer.specialTokens.has(token)) return "";
    if (this.#stripsSpace) {
      this.#stripsSpace = false;
      if (bytes[0] === 0x20) bytes = bytes.subarray(1);
    }
    if (this.#held.length > 0) {
      const joined = new Uint8Array(this.#held.length + bytes.length);
      joined.set(this.#held);
      joined.set(bytes, this.#held.length);
      bytes = joined;
    }
    const end = bytes.length - incompleteLength(bytes);
    this.#held = bytes.slice(end);
    return this.#text.decode(bytes.subarray(0, end));
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
        let text = "";
        if (typeof tokens === "number") text = decoder.push(tokens);
        else for (const token of tokens) text += decoder.push(token);
        if (text !== "") controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.flush();
        if (text !== "") controller.enqueue(text);
      },
    });
  }
}
