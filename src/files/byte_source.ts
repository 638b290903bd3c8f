/**
 * Bytes that can be read by position: a file, a URL with ranges, a blob, an array.
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
