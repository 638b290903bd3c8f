/**
 * Files of the machine as byte sources. Deno, Bun and Node through `node:fs`.
 *
 * @module
 */

import { open, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type ByteSource, checkRange } from "../files/byte_source.ts";

/** Node refuses reads of 2 GiB and more. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Opens a file for reading by position; the bytes go straight into the reader's target, also when
 * that lies in (shared) wasm memory. It stays open until `close`.
 *
 * @throws {Error} If there is no such file, if it may not be read, or if it is not a regular file;
 * the system's error is the `cause`.
 */
export async function openFile(path: string): Promise<ByteSource> {
  const handle = await open(path, "r").catch((cause) => {
    throw new Error(`Cannot open "${path}": ${reason(cause)}`, { cause });
  });
  const info = await handle.stat();
  if (!info.isFile()) {
    await handle.close();
    const kind = info.isDirectory() ? "a directory" : "neither a file nor a directory";
    throw new Error(`Cannot open "${path}": it must be a regular file, but it is ${kind}`);
  }
  return {
    name: path,
    byteLength: info.size,
    async read(this: ByteSource, target, start) {
      checkRange(this, target, start);
      let filled = 0;
      while (filled < target.byteLength) {
        const length = Math.min(target.byteLength - filled, MAX_READ_BYTES);
        const { bytesRead } = await handle.read(target, filled, length, start + filled);
        if (bytesRead === 0) {
          throw new Error(
            `Cannot read "${path}": it had ${info.size} bytes when it was opened, ` +
              `but ends at byte ${start + filled} now`,
          );
        }
        filled += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}

/**
 * What a path leads to.
 *
 * @throws {Error} If the system does not tell, e.g. for want of a permission.
 */
export async function kindOf(path: string): Promise<"file" | "directory" | "missing"> {
  try {
    return (await stat(path)).isDirectory() ? "directory" : "file";
  } catch (cause) {
    if (isMissing(cause)) return "missing";
    throw new Error(`Cannot open "${path}": ${reason(cause)}`, { cause });
  }
}

/** The path of a `file:` URL. */
export function pathOf(url: URL): string {
  return fileURLToPath(url);
}

function isMissing(error: unknown): boolean {
  const code = (error as { code?: string }).code;
  return code === "ENOENT" || code === "ENOTDIR";
}

function reason(error: unknown): string {
  if (isMissing(error)) return "there is no such file";
  return error instanceof Error ? error.message : String(error);
}
