/**
 * What a backend holds, and where that ends.
 *
 * @module
 */

import { OutOfMemoryError } from "../../errors.ts";

/** As much as one wasm32 memory could hold, so that absurd sizes fail alike everywhere. */
const LIMIT_BYTES = 2 ** 32;

/** Counts the bytes of all handles of one backend. */
export class Ledger {
  #byteLength = 0;

  /** Bytes taken and not given back. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /**
   * Counts bytes before they are allocated.
   *
   * @param what For the message, e.g. `a weight`.
   * @throws {OutOfMemoryError} If there would be too many; nothing has changed then.
   */
  take(what: string, bytes: number): void {
    this.check(what, bytes);
    this.#byteLength += bytes;
  }

  /** @throws {OutOfMemoryError} If {@linkcode Ledger.take} would. */
  check(what: string, bytes: number): void {
    if (this.#byteLength + bytes > LIMIT_BYTES) {
      throw new OutOfMemoryError(
        `Cannot make room for ${what}: it needs ${bytes} bytes, but of the reference backend's ` +
          `${LIMIT_BYTES} only ${
            LIMIT_BYTES - this.#byteLength
          } are free; use a smaller model or a shorter text`,
        bytes,
        LIMIT_BYTES,
      );
    }
  }

  /** Counts bytes that are no longer used. */
  give(bytes: number): void {
    this.#byteLength -= bytes;
  }
}
