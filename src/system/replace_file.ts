/**
 * Files that are there whole or not at all.
 *
 * @module
 */

import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { explain } from "./system.ts";

/** Takes bytes, in order; they may change once it has resolved. */
export type FileSink = (bytes: Uint8Array<ArrayBuffer>) => Promise<void>;

/** Files that this process has replaced: two at once must not share a temporary one. */
let replaced = 0;

/**
 * Puts a text in a file's place. Whatever happens meanwhile, the path leads to the old file or to
 * the new one.
 *
 * @throws {Error} If it cannot be written; the message says why, and the old file is as it was.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  await replaceFileWith(path, (write) => write(new TextEncoder().encode(text)));
}

/**
 * The same for bytes that come in pieces. A process that is killed meanwhile leaves a file beside it, whose name
 * ends in `.tmp`.
 *
 * @param write Gives all bytes to the sink, and has all of them taken when it resolves.
 * @throws {Error} If it cannot be written; the message says why. What `write` throws passes as it is. The old file
 * is as it was.
 */
export async function replaceFileWith(
  path: string,
  write: (sink: FileSink) => Promise<void>,
): Promise<void> {
  const failed = (cause: unknown): never => {
    throw explain(cause, path, "write");
  };
  await checkReplaceable(path);
  // Beside it, because only within one file system a name changes hands at once.
  const temporary = temporaryName(path);
  const handle = await open(temporary, "wx").catch(failed);
  try {
    try {
      await write((bytes) => writeWhole(handle, bytes).catch(failed));
      await handle.sync().catch(failed);
    } finally {
      await handle.close();
    }
    await rename(temporary, path).catch(failed);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
  await syncFolder(dirname(path));
}

function temporaryName(path: string): string {
  return `${path}.${process.pid}-${replaced++}.tmp`;
}

/**
 * Looks whether a file could be put at a path, without doing it.
 *
 * @throws {Error} If not; the message says why.
 */
export async function checkReplaceable(path: string): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there !== null && !there.isFile()) {
    const kind = there.isDirectory() ? "a folder" : "neither a file nor a folder";
    throw new Error(`Cannot write "${path}": it is ${kind}`);
  }
  // Tried, because `access` would want Deno's permission to ask who the user is.
  const trial = temporaryName(path);
  try {
    await (await open(trial, "wx")).close();
    await rm(trial);
  } catch (cause) {
    throw explain(cause, path, "write");
  }
}

async function writeWhole(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let start = 0; start < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, start, bytes.length - start, null);
    if (bytesWritten === 0) throw new Error("nothing could be written");
    start += bytesWritten;
  }
}

/** So that the new name, too, outlives a loss of power. Not every system lets folders be opened. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r").catch(() => null);
  await folder?.sync().catch(() => {});
  await folder?.close();
}
