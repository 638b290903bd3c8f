/**
 * Bytes that can be read by position: a file, a URL with ranges (http_source.ts), a blob, an array.
 *
 * @module
 */

/** Random access to bytes whose number is known. */
export interface ByteSource {
  /** For messages: a path or URL. */
  readonly name: string;
  /** Size in bytes. */
  readonly byteLength: number;
  /**
   * Fills `target` wholly with the bytes from `start` on. `target` may lie in shared memory.
   *
   * @throws {RangeError} If [start, start + target.byteLength) is not within the source.
   */
  read(target: Uint8Array, start: number): Promise<void>;
  /** Closes what is open. */
  close?(): Promise<void>;
}

/**
 * An array of bytes as a source. The array is not copied and must not change.
 *
 * @param name For messages.
 *
 * @example Usage
 * ```ts
 * import { fromBytes, readBytes } from "./byte_source.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const source = fromBytes(new Uint8Array([1, 2, 3, 4]), "four bytes");
 * deepEqual(await readBytes(source, 1, 3), new Uint8Array([2, 3]));
 * ```
 */
export function fromBytes(bytes: Uint8Array, name: string): ByteSource {
  return {
    name,
    byteLength: bytes.byteLength,
    read(this: ByteSource, target, start) {
      return attempt(() => {
        checkRange(this, target, start);
        target.set(bytes.subarray(start, start + target.byteLength));
      });
    },
  };
}

/**
 * A `Blob` or `File` as a source, e.g. one that was dropped on a page; nothing is read until asked.
 *
 * @param name For messages.
 */
export function fromBlob(blob: Blob, name: string): ByteSource {
  return {
    name,
    byteLength: blob.size,
    async read(this: ByteSource, target, start) {
      checkRange(this, target, start);
      const part = await blob.slice(start, start + target.byteLength).arrayBuffer();
      target.set(new Uint8Array(part));
    },
  };
}

/**
 * The bytes [start, end) of a source, in memory of their own.
 *
 * @throws {RangeError} If they are not within the source; nothing has been allocated then.
 */
export async function readBytes(
  source: ByteSource,
  start: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  checkBounds(source, start, end);
  const bytes = new Uint8Array(end - start);
  await source.read(bytes, start);
  return bytes;
}

/**
 * What every `read` checks first.
 *
 * @throws {RangeError} If [start, start + target.byteLength) is not within the source.
 */
export function checkRange(source: ByteSource, target: Uint8Array, start: number): void {
  checkBounds(source, start, start + target.byteLength);
}

function checkBounds(source: ByteSource, start: number, end: number): void {
  if (!Number.isSafeInteger(start) || start < 0 || !(end >= start && end <= source.byteLength)) {
    throw new RangeError(
      `Cannot read bytes [${start}, ${end}) of ${source.name}: it has ${source.byteLength} bytes`,
    );
  }
}

/** A promise of what happens now, errors included. */
// deno-lint-ignore require-await
async function attempt(action: () => void): Promise<void> {
  action();
}
