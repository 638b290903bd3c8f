/**
 * Files that are there whole or not at all.
 *
 * @module
 */

import { open, rename, rm } from "node:fs/promises";
import process from "node:process";
import { explain } from "./system.ts";

/**
 * Puts a text in a file's place. Whatever happens meanwhile, the path leads to the old file or to
 * the new one.
 *
 * @throws {Error} If it cannot be written; the message says why, and the old file is as it was.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  // Beside it, because only within one file system a name changes hands at once.
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, "w");
    try {
      await handle.writeFile(text, "utf8");
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw explain(cause, path, "write");
  }
}
