/**
 * Files that are there whole or not at all.
 *
 * @module
 */

import { type FileHandle, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { hasEnded, processSpace } from "./process_life.ts";
import { explain } from "./system.ts";

/** Takes bytes, in order; they may change once it has resolved. */
export type FileSink = (bytes: Uint8Array<ArrayBuffer>) => Promise<void>;

/** Milliseconds without a write after which a temporary file counts as left, whoever writes it. */
const LEFT = 24 * 60 * 60 * 1000;

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
 * ends in `.tmp`; the next one that replaces the same file removes it, if it can tell that the process has ended,
 * else after a day.
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
  await removeLeft(path);
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

/** Says whose it is, and is nobody else's: in a container every process may have the same id. */
function temporaryName(path: string): string {
  const [unique] = crypto.randomUUID().split("-");
  return `${path}.${process.pid}-${processSpace() ?? "unknown"}-${unique}.tmp`;
}

/** Removes temporary files of processes that were killed while they replaced this one. */
async function removeLeft(path: string): Promise<void> {
  const folder = dirname(path);
  const prefix = `${basename(path)}.`;
  const here = processSpace();
  for (const name of await readdir(folder).catch(() => [])) {
    const owner = name.startsWith(prefix) &&
      /^(\d+)-([0-9a-f]{8}|unknown)-[0-9a-f]{8}\.tmp$/.exec(name.slice(prefix.length));
    if (!owner) continue;
    const [, pid, space] = owner;
    const place = join(folder, name);
    const isLeft = space === here && hasEnded(Number(pid)) || await isOld(place);
    if (isLeft) await rm(place, { force: true }).catch(() => {});
  }
}

async function isOld(path: string): Promise<boolean> {
  const info = await stat(path).catch(() => null);
  return info !== null && Date.now() - info.mtimeMs > LEFT;
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
