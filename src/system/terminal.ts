/**
 * The terminal that the process was started from, whatever standard input is.
 *
 * @module
 */

import { closeSync, openSync } from "node:fs";
import process from "node:process";
import { ReadStream } from "node:tty";
import { readFile } from "./system.ts";

/** What the terminal's keyboard is called. */
const PATH = process.platform === "win32" ? "\\\\.\\CONIN$" : "/dev/tty";

/**
 * What is typed on the terminal, in lines as it hands them on, up to its end of file (Ctrl-D). The
 * terminal stays as it is: it echoes and edits, and Ctrl-C is a signal.
 *
 * @returns Null if there is no terminal.
 */
export function openTerminal(): AsyncIterable<Uint8Array> | null {
  let file: number;
  try {
    file = openSync(PATH, "r");
  } catch {
    return null;
  }
  // Node would wait for a thread that reads before it ends; Deno wants a permission to write for this.
  if (!process.versions.deno) return new ReadStream(file);
  closeSync(file);
  return readFile(PATH);
}
