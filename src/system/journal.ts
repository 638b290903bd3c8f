/**
 * A file of lines that outlives the process that writes it: what was appended is there after a
 * kill, and a line cut short by one is as if it had never been.
 *
 * @module
 */

import { open } from "node:fs/promises";
import { explain } from "./system.ts";

/** A file of lines, open for appending. */
export interface Journal extends AsyncDisposable {
  /** The whole lines that were there when it was opened. */
  readonly lines: readonly string[];
  /** Adds a line and waits until it is on the disk. */
  append(line: string): Promise<void>;
}

/** The longest journal that is read, in bytes: it is held whole. */
const MAX_BYTES = 64 * 2 ** 20;

/**
 * Opens a journal, or begins one.
 *
 * @param options `fresh: true` forgets what was in it.
 * @throws {Error} If it cannot be read or written, or is longer than 64 MiB; says why.
 */
export async function openJournal(
  path: string,
  options: { readonly fresh?: boolean } = {},
): Promise<Journal> {
  const failed = (cause: unknown): never => {
    throw explain(cause, path, "write");
  };
  const handle = await open(path, "a+").catch(failed);
  try {
    const { size } = await handle.stat();
    if (size > MAX_BYTES && !options.fresh) {
      throw new Error(
        `Cannot go on with the journal "${path}": it must have at most ${MAX_BYTES} bytes, got ${size}`,
      );
    }
    const bytes = new Uint8Array(options.fresh ? 0 : size);
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    const whole = bytes.subarray(0, filled).lastIndexOf(0x0a) + 1;
    if (whole < size) await handle.truncate(whole);
    const text = new TextDecoder().decode(bytes.subarray(0, whole));
    return {
      lines: text.split("\n").slice(0, -1),
      async append(line: string): Promise<void> {
        try {
          const { bytesWritten } = await handle.write(new TextEncoder().encode(`${line}\n`));
          if (bytesWritten === 0) throw new Error("nothing could be written");
          await handle.datasync();
        } catch (cause) {
          failed(cause);
        }
      },
      [Symbol.asyncDispose]: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
