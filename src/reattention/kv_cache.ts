/**
 * Everything read so far: a store of unrotated keys and values, and how much of it counts.
 *
 * @module
 */

import type { KeptEnds, KvStore } from "../backend/backend.ts";

/** A sequence's keys and values in all layers. All layers advance together, once per step. */
export class KvCache implements Disposable {
  /** Where the backend keeps them. */
  readonly store: KvStore;
  #length: number;

  /** Takes over an empty store, or one that already holds `length` tokens. */
  constructor(store: KvStore, length = 0) {
    this.store = store;
    this.#length = length;
  }

  /** Tokens that every layer holds. */
  get length(): number {
    return this.#length;
  }

  /**
   * Makes room for `count` more tokens, so that a step either happens wholly or not at all. Waits only where values
   * must leave a device first.
   *
   * @param spare Tokens beyond them that there must be room for, too.
   */
  reserve(count: number, spare = 0): void | Promise<void> {
    return this.store.reserve(this.#length + count, spare);
  }

  /** Counts `count` tokens that every layer has appended. */
  advance(count: number): void {
    this.#length += count;
  }

  /**
   * Forgets all tokens from `length` on.
   *
   * @throws {RangeError} If `length` is not within the sequence.
   */
  truncate(length: number): void {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.#length) {
      throw new RangeError(
        `Cannot truncate: the length must be an integer from 0 to ${this.#length} tokens, got ${length}`,
      );
    }
    this.store.truncate(length);
    this.#length = length;
  }

  /**
   * A second sequence with the same past; chunks are shared.
   *
   * @param keep What must stay of it. Default: what stays of this one.
   */
  fork(keep?: KeptEnds): KvCache {
    return new KvCache(this.store.fork(this.#length, keep), this.#length);
  }

  /** Gives the store back. */
  [Symbol.dispose](): void {
    this.store[Symbol.dispose]();
  }
}
