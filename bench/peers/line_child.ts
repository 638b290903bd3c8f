/**
 * Another program that answers a line of JSON with a line of JSON: native peers run in one of their
 * own, with the clock on their side.
 *
 * @module
 */

import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";

/** The program. One question at a time. */
export interface LineChild {
  /** The line with which it said that it was ready. */
  readonly ready: Readonly<Record<string, unknown>>;
  /** @throws {Error} If the program answers with an `error`, or has ended. */
  ask<T>(question: Readonly<Record<string, unknown>>): Promise<T>;
  close(): Promise<void>;
}

/**
 * Starts a program.
 *
 * @throws {Error} If there is no such program, or it ends before it says that it is ready.
 */
export async function startChild(
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<LineChild> {
  const child = spawn(command, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  });
  let trouble = "";
  child.stderr.on("data", (bytes: Uint8Array) => {
    trouble = (trouble + new TextDecoder().decode(bytes)).slice(-1000);
  });
  let answer: ((line: string | Error) => void) | null = null;
  const next = () =>
    new Promise<string>((resolve, reject) => {
      answer = (line) => {
        answer = null;
        if (line instanceof Error) reject(line);
        else resolve(line);
      };
    });
  let ended = false;
  const over = (why: string) => {
    ended = true;
    answer?.(new Error(`${command} ${why}${trouble && `: ${trouble.trim()}`}`));
  };
  const exit = new Promise<void>((resolve) => {
    child.on("error", (error) => {
      over(`does not start: ${error.message}`);
      resolve();
    });
    child.on("close", (code) => {
      over(`ended with status ${code}`);
      resolve();
    });
  });
  // Libraries write lines of their own; ours begin with a brace.
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("{")) answer?.(line);
  });
  const ready = JSON.parse(await next()) as LineChild["ready"];
  return {
    ready,
    async ask<T>(question: Readonly<Record<string, unknown>>): Promise<T> {
      if (ended) throw new Error(`${command} has ended`);
      const line = next();
      child.stdin.write(JSON.stringify(question) + "\n");
      const parsed = JSON.parse(await line) as T & { error?: string };
      if (parsed.error !== undefined) throw new Error(parsed.error);
      return parsed;
    },
    async close() {
      child.stdin.end();
      await exit;
    },
  };
}
