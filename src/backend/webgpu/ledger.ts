/**
 * What a backend holds on the device, and where that ends.
 *
 * @module
 */

import { OutOfMemoryError } from "../../errors.ts";

/** Counts the bytes of all handles of one backend. */
export class Ledger {
  /** The most there may be, in bytes. */
  readonly limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** Bytes taken and not given back. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * Counts bytes before they are allocated.
   *
   * @param what For the message, e.g. `a weight`.
   * @throws {OutOfMemoryError} If there would be too many; nothing has changed then.
   */
  take(what: string, bytes: number): void {
    if (this.#usedBytes + bytes > this.limitBytes) {
      throw new OutOfMemoryError(
        `Cannot make room for ${what}: it needs ${bytes} bytes, but of the ${this.limitBytes} that the ` +
          `webgpu backend may hold only ${
            this.limitBytes - this.#usedBytes
          } are free; use a smaller ` +
          "model or a shorter text, or allow more memory",
        bytes,
        this.limitBytes,
      );
    }
    this.#usedBytes += bytes;
  }

  /** Counts bytes that are no longer used. */
  give(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
