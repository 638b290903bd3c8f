/**
 * What the command line needs of its process: arguments, pipes, terminal, memory, files. Only
 * `node:` modules, which Deno, Bun and Node all have and which were seen to behave alike in them.
 *
 * @module
 */

import { fstatSync, readFileSync, writeSync } from "node:fs";
import { type FileHandle, mkdtemp, open, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { WriteStream } from "node:tty";

/** What follows the program's name on the command line. */
export function programArguments(): readonly string[] {
  return process.argv.slice(2);
}

/** An environment variable; undefined where it is not set or set to nothing. */
export function environmentVariable(name: string): string | undefined {
  return process.env[name] || undefined;
}

let inputIsLeft = false;

/**
 * Says that what is being read (a pipe, a terminal) is not wanted any more: the process need not
 * wait for it to end. A read that waits cannot be taken back.
 */
export function leaveInput(): void {
  inputIsLeft = true;
}

/**
 * The status with which the process ends once nothing is left to do. Ending at once would lose
 * what a pipe has not taken yet, so where input was left everything written must have been awaited.
 */
export function setExitStatus(status: number): void {
  process.exitCode = status;
  if (inputIsLeft) process.exit(status);
}

/**
 * The most memory that the process ever held, in bytes, as the system counts it (resident set).
 */
export function peakMemoryBytes(): number {
  return ownPeakBytes() ??
    Math.max(process.resourceUsage().maxRSS * 1024, process.memoryUsage.rss());
}

/** Linux counts a parent's peak into `maxRSS`, but not into this one; null elsewhere. */
function ownPeakBytes(): number | null {
  try {
    const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
    return kibibytes === undefined ? null : Number(kibibytes) * 1024;
  } catch {
    return null;
  }
}

/** Where it runs, for people: `"deno 2.9.6"`. */
export function runtimeName(): string {
  const { deno, bun, node } = process.versions as Record<string, string | undefined>;
  return deno ? `deno ${deno}` : bun ? `bun ${bun}` : `node ${node}`;
}

/** The reader of a pipe has gone: nobody wants the rest. Not a failure. */
export class ClosedPipeError extends Error {
  /** Always `"ClosedPipeError"`. */
  override readonly name = "ClosedPipeError";
}

/** A place for text: standard output or standard error. */
export interface TextOutput {
  /** Whether people watch it. */
  readonly isTerminal: boolean;
  /** Width in characters; 80 where it is not known. */
  readonly columns: number;
  /**
   * Writes text and waits until the system has taken it, so that a slow reader slows the writer.
   *
   * @throws {ClosedPipeError} If there is no reader of standard output any more.
   */
  write(text: string): Promise<void>;
}

/** Standard output. */
export const standardOutput: TextOutput = textOutput(() => process.stdout, true);

/** Standard error. That nobody reads it is no reason to end: it holds no results. */
export const standardError: TextOutput = textOutput(() => process.stderr, false);

function textOutput(stream: () => WriteStream, needsReader: boolean): TextOutput {
  let watched = false;
  return {
    get isTerminal(): boolean {
      return stream().isTTY === true;
    },
    get columns(): number {
      return stream().columns || 80;
    },
    write(text: string): Promise<void> {
      const out = stream();
      if (!watched) {
        watched = true;
        // The callback below tells of a failure; without a listener the stream would throw it, too.
        out.on("error", () => {});
      }
      return new Promise((resolve, reject) => {
        out.write(text, (error?: Error | null) => {
          const isClosed = ["EPIPE", "ERR_STREAM_DESTROYED"].includes(codeOf(error));
          if (!error || (isClosed && !needsReader)) resolve();
          else if (isClosed) {
            reject(new ClosedPipeError("Cannot write: the reader of the pipe has gone"));
          } else reject(error);
        });
      });
    },
  };
}

/** Whether standard input is something to read: a pipe or a file, not a terminal. */
export function hasStandardInput(): boolean {
  if (process.stdin.isTTY) return false;
  try {
    fstatSync(0);
    return true;
  } catch {
    return false; // closed
  }
}

/** Bytes of standard input, as they come; read no faster than they are asked for. */
export async function* readStandardInput(): AsyncGenerator<Uint8Array> {
  for await (const chunk of process.stdin) yield chunk as Uint8Array;
}

/**
 * Bytes of a file, a fifo or a device, as they come.
 *
 * @throws {Error} If it cannot be read; the message says why.
 */
export async function* readFile(path: string): AsyncGenerator<Uint8Array> {
  const handle = await openOrExplain(path, "r", "read");
  try {
    while (true) {
      const buffer = new Uint8Array(1 << 16);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null)
        .catch((cause) => {
          throw explain(cause, path, "read");
        });
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/**
 * Looks whether a file may be read. What is no whole file is not opened: a fifo would wait for its writer.
 *
 * @throws {Error} If not; the message says why.
 */
export async function checkReadable(path: string): Promise<void> {
  let isFolder: boolean;
  try {
    const there = await stat(path);
    isFolder = there.isDirectory();
    // Not `access`, for which Deno wants a permission to ask who the user is.
    if (there.isFile()) await (await open(path, "r")).close();
  } catch (cause) {
    throw explain(cause, path, "read");
  }
  if (isFolder) throw new Error(`Cannot read "${path}": it is a folder`);
}

/** Whether a path leads to a file that is there as a whole, not to a fifo or a device. */
export async function isWholeFile(path: string): Promise<boolean> {
  return (await stat(path)).isFile();
}

/** Whether two paths lead to the same file; false where one leads to none. */
export async function isSameFile(a: string, b: string): Promise<boolean> {
  try {
    const [one, other] = await Promise.all([stat(a), stat(b)]);
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    return false;
  }
}

/** A file being written. */
export interface TextFile extends AsyncDisposable {
  /** Writes text and waits until the system has taken it. */
  write(text: string): Promise<void>;
}

/**
 * Creates a file, or empties the one there is.
 *
 * @throws {Error} If it cannot be written; the message says why.
 */
export async function createTextFile(path: string): Promise<TextFile> {
  const handle = await openOrExplain(path, "w", "write");
  const encoder = new TextEncoder();
  return {
    async write(text: string): Promise<void> {
      const bytes = encoder.encode(text);
      for (let start = 0; start < bytes.length;) {
        const { bytesWritten } = await handle.write(bytes, start, bytes.length - start, null)
          .catch((cause) => {
            throw explain(cause, path, "write");
          });
        start += bytesWritten;
      }
    },
    [Symbol.asyncDispose](): Promise<void> {
      return handle.close();
    },
  };
}

/** The path of a file in a new folder of our own among the system's temporary ones. */
export async function temporaryPath(fileName: string): Promise<string> {
  return join(await mkdtemp(join(tmpdir(), "reattention-")), fileName);
}

/**
 * Ends the line on standard output, then the process with status 130, when it is interrupted
 * (Ctrl-C).
 *
 * Without this the system ends the process at once, even in the middle of a computation; with it
 * only between two. So it is for the time in which a line is being written piece by piece.
 *
 * @returns Ends the watch.
 */
export function endLineOnInterrupt(): Disposable {
  const listener = () => {
    writeSync(1, "\n");
    process.exit(130);
  };
  process.once("SIGINT", listener);
  return {
    [Symbol.dispose](): void {
      process.removeListener("SIGINT", listener);
    },
  };
}

async function openOrExplain(
  path: string,
  flags: "r" | "w",
  verb: "read" | "write",
): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (cause) {
    throw explain(cause, path, verb);
  }
}

/** A failure of the system at a path, in words. */
export function explain(cause: unknown, path: string, verb: "read" | "write"): Error {
  const reason = {
    ENOENT: verb === "read" ? "there is no such file" : "there is no such folder",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EISDIR: "it is a folder",
    ENOTDIR: "a part of the path is not a folder",
    ENOSPC: "no space left on the device",
    EDQUOT: "the disk quota is used up",
    EFBIG: "files may not become that large here",
    EIO: "the device failed",
    EROFS: "the file system is read-only",
  }[codeOf(cause)] ?? (cause instanceof Error ? cause.message : String(cause));
  return new Error(`Cannot ${verb} "${path}": ${reason}`, { cause });
}

/** The system's code of a failure, such as `"ENOENT"`; empty where there is none. */
function codeOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "";
}
