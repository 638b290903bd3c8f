/**
 * The values of old chunks in a spill file: which places are taken, and what it means when the file fails.
 *
 * @module
 */

import type { SpillFile } from "./backend.ts";

/** The places of a file. */
interface Places {
  /** Given back, by their size in bytes. */
  readonly free: Map<number, number[]>;
  /** Where nothing was written yet, in bytes. */
  end: number;
}

/** One for each file, so that caches that spill into the same one keep out of each other's way. */
const PLACES = new WeakMap<SpillFile, Places>();

/** Where the chunks of one cache and of its forks go. */
export class SpillSpace {
  readonly #file: SpillFile;
  readonly #chunkBytes: number;
  readonly #places: Places;

  /** @param chunkBytes What of a chunk goes into the file. */
  constructor(file: SpillFile, chunkBytes: number) {
    this.#file = file;
    this.#chunkBytes = chunkBytes;
    this.#places = PLACES.get(file) ?? { free: new Map(), end: 0 };
    PLACES.set(file, this.#places);
  }

  /**
   * Writes a chunk.
   *
   * @param parts One after the other, `chunkBytes` together; not shared memory.
   * @returns Where it is, in bytes of the file.
   * @throws {Error} If they could not all be written; no place is taken then.
   */
  write(parts: Iterable<Uint8Array>): number {
    const place = this.#free.pop() ?? this.#places.end;
    this.#places.end = Math.max(this.#places.end, place + this.#chunkBytes);
    try {
      let at = place;
      for (const part of parts) {
        this.#file.write(at, part);
        at += part.byteLength;
      }
    } catch (cause) {
      this.give(place);
      throw spillError("spill old values of the KV cache", cause);
    }
    return place;
  }

  /**
   * Reads part of a chunk.
   *
   * @param place What `write` returned.
   * @param out Not shared memory.
   * @throws {Error} If the file fails.
   */
  read(place: number, from: number, out: Uint8Array): void {
    try {
      this.#file.read(place + from, out);
    } catch (cause) {
      throw spillError("read spilled values of the KV cache", cause);
    }
  }

  /** Takes a place back. */
  give(place: number): void {
    this.#free.push(place);
  }

  get #free(): number[] {
    const { free } = this.#places;
    const fitting = free.get(this.#chunkBytes) ?? [];
    free.set(this.#chunkBytes, fitting);
    return fitting;
  }
}

function spillError(attempt: string, cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Error(`Cannot ${attempt}: ${reason}`, { cause });
}
