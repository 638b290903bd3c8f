/**
 * Ends a streamed text at the first of some strings, without ever showing a part of one.
 *
 * @module
 */

/** Where a text ends. */
export interface StopRules {
  /** The text ends before the first of these. */
  readonly before?: readonly string[];
  /** The text ends after the first of these. */
  readonly after?: readonly string[];
}

/** What may be shown after some more text, and whether that was all. */
export interface StopStep {
  readonly text: string;
  readonly stopped: boolean;
}

/**
 * Looks for stop strings in a text that arrives in pieces.
 *
 * @example Usage
 * ```ts
 * import { StopStrings } from "./stop_strings.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const stop = new StopStrings({ before: ["\n\n"], after: ["."] });
 * deepEqual(stop.push("one\n"), { text: "one", stopped: false });
 * deepEqual(stop.push("two. three"), { text: "\ntwo.", stopped: true });
 * ```
 */
export class StopStrings {
  readonly #rules: readonly { readonly text: string; readonly keep: number }[];
  #held = "";

  constructor(rules: StopRules) {
    this.#rules = [
      ...(rules.before ?? []).map((text) => ({ text, keep: 0 })),
      ...(rules.after ?? []).map((text) => ({ text, keep: text.length })),
    ].filter(({ text }) => text !== "");
  }

  /** Takes the next piece; gives what can no longer become part of a stop string. */
  push(piece: string): StopStep {
    const text = this.#held + piece;
    // The first to be complete wins, not the first to begin: else the pieces' cuts would decide.
    let complete = Infinity;
    let end = 0;
    for (const { text: stop, keep } of this.#rules) {
      const at = text.indexOf(stop);
      if (at < 0 || at + stop.length > complete) continue;
      end = at + stop.length < complete ? at + keep : Math.min(end, at + keep);
      complete = at + stop.length;
    }
    if (complete < Infinity) {
      this.#held = "";
      return { text: text.slice(0, end), stopped: true };
    }
    const held = this.#heldLength(text);
    this.#held = text.slice(text.length - held);
    return { text: text.slice(0, text.length - held), stopped: false };
  }

  /** What was held back when the text ends by itself. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  /** Length of the longest end of `text` that starts a stop string. */
  #heldLength(text: string): number {
    let longest = 0;
    for (const { text: stop } of this.#rules) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
