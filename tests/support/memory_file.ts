/**
 * A spill file in memory.
 *
 * @module
 */

import { ok } from "node:assert/strict";
import type { SpillFile } from "../../src/backend/backend.ts";

/** A file that is none, and what was done with it. */
export class MemoryFile implements SpillFile {
  /** Bytes that it takes; writes beyond them fail as on a full disk. */
  capacity = Infinity;
  isBroken = false;
  writes = 0;
  reads = 0;
  isClosed = false;
  #bytes = new Uint8Array(0);

  /** Where it ends. */
  get size(): number {
    return this.#bytes.length;
  }

  write(byteOffset: number, bytes: Uint8Array): void {
    this.writes++;
    const end = byteOffset + bytes.length;
    if (end > this.capacity) throw new Error("no space left on the device");
    if (end > this.#bytes.length) {
      const longer = new Uint8Array(end);
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes.set(bytes, byteOffset);
  }

  read(byteOffset: number, target: Uint8Array): void {
    this.reads++;
    if (this.isBroken) throw new Error("the device failed");
    ok(byteOffset + target.length <= this.#bytes.length, "reads what was written");
    target.set(this.#bytes.subarray(byteOffset, byteOffset + target.length));
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
  }
}
