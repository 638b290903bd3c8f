/**
 * A file for what does not fit into memory. It belongs to the process, and is gone with it.
 *
 * @module
 */

import { closeSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { explain } from "./system.ts";

/** Bytes at positions. Calls return when they are done. */
export interface TemporaryFile extends Disposable {
  /**
   * Writes all bytes.
   *
   * @throws {Error} If the system could not, e.g. because the disk is full; says why.
   */
  write(byteOffset: number, bytes: Uint8Array): void;
  /**
   * Fills `target` with what was written there.
   *
   * @throws {Error} If the system could not, or nothing was written there; says why.
   */
  read(byteOffset: number, target: Uint8Array): void;
}

/**
 * Creates a file of its own in a folder. Its name is taken away at once, so that it is gone when the process
 * ends, however it ends; where the system keeps names of open files (Windows), when it is disposed of.
 *
 * @throws {Error} If the folder is none, or not to be written to; says why.
 */
export function createTemporaryFile(directory: string): TemporaryFile {
  const path = join(directory, `reattention-${crypto.randomUUID()}.spill`);
  const attempt = <T>(verb: "read" | "write", work: () => T): T => {
    try {
      return work();
    } catch (cause) {
      throw explain(cause, path, verb);
    }
  };
  const file = attempt("write", () => openSync(path, "wx+", 0o600));
  let hasName = !removed(path);
  let isOpen = true;
  return {
    write(byteOffset: number, bytes: Uint8Array): void {
      attempt("write", () => {
        // A disk that fills up takes a part first.
        for (let done = 0; done < bytes.length;) {
          const count = writeSync(file, bytes, done, bytes.length - done, byteOffset + done);
          if (count === 0) throw new Error("the system took no more bytes");
          done += count;
        }
      });
    },
    read(byteOffset: number, target: Uint8Array): void {
      attempt("read", () => {
        for (let done = 0; done < target.length;) {
          const count = readSync(file, target, done, target.length - done, byteOffset + done);
          if (count === 0) throw new Error(`the file ends at byte ${byteOffset + done}`);
          done += count;
        }
      });
    },
    [Symbol.dispose](): void {
      if (isOpen) closeSync(file);
      if (hasName) hasName = !removed(path);
      isOpen = false;
    },
  };
}

/** Takes a file's name away; false if the system does not let go of it. */
function removed(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch {
    return false;
  }
}
