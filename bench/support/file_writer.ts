/**
 * Writes a file from its beginning to its end, in parts, under another name until it is whole.
 *
 * @module
 */

import { type FileHandle, open, rename, rm } from "node:fs/promises";

/** Bytes that are collected before they are written. */
const BUFFER_BYTES = 4 << 20;

/** A file under way. */
export class FileWriter {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #filled = 0;
  #written = 0;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  /** Runs `write`; if it fails, nothing is left behind. */
  static async write(path: string, write: (file: FileWriter) => Promise<void>): Promise<void> {
    const unfinished = `${path}.unfinished`;
    const file = new FileWriter(unfinished, await open(unfinished, "w"));
    try {
      await write(file);
      await file.#flush();
      await file.#handle.close();
      await rename(unfinished, path);
    } catch (error) {
      await file.#handle.close().catch(() => {});
      await rm(unfinished, { force: true });
      throw error;
    }
  }

  /** Bytes so far. */
  get length(): number {
    return this.#written + this.#filled;
  }

  async bytes(bytes: Uint8Array): Promise<void> {
    await this.generate(bytes.length, (target, offset) => {
      target.set(bytes.subarray(offset, offset + target.length));
    });
  }

  /** `length` bytes that `fill` makes, part by part; `offset` counts from the first of them. */
  async generate(
    length: number,
    fill: (target: Uint8Array, offset: number) => void,
  ): Promise<void> {
    for (let offset = 0; offset < length;) {
      const count = Math.min(length - offset, BUFFER_BYTES - this.#filled);
      fill(this.#buffer.subarray(this.#filled, this.#filled + count), offset);
      offset += count;
      this.#filled += count;
      if (this.#filled === BUFFER_BYTES) await this.#flush();
    }
  }

  /** Zeros up to a multiple of `alignment`. */
  async align(alignment: number): Promise<void> {
    await this.generate(
      (alignment - this.length % alignment) % alignment,
      (target) => {
        target.fill(0);
      },
    );
  }

  async #flush(): Promise<void> {
    for (let start = 0; start < this.#filled;) {
      const { bytesWritten } = await this.#handle.write(
        this.#buffer,
        start,
        this.#filled - start,
        this.#written + start,
      );
      if (bytesWritten === 0) {
        throw new Error(`Cannot write "${this.#path}": no room is left`);
      }
      start += bytesWritten;
    }
    this.#written += this.#filled;
    this.#filled = 0;
  }
}
