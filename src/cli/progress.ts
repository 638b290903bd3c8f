/**
 * One line about work in progress, rewritten in place.
 *
 * @module
 */

import type { TextOutput } from "../system/system.ts";
import { clip } from "./format.ts";

/** At most so many milliseconds between two looks of the line. */
const INTERVAL = 150;

/** A line that is rewritten now and then. */
export interface Progress {
  /** Shows a newer line if the last is old enough; `line` is asked only then. */
  show(line: () => string): Promise<void>;
  /** Takes the line away. */
  clear(): Promise<void>;
}

/**
 * A progress line on a terminal, nothing elsewhere.
 *
 * The line always ends in a line feed, and rewriting goes up to it: so the system may end the
 * process at any time (Ctrl-C) and the terminal is as it should be. The cursor is never hidden.
 *
 * @param wanted False shows nothing.
 * @param now Milliseconds; for tests.
 */
export function createProgress(
  output: TextOutput,
  wanted = true,
  now: () => number = () => performance.now(),
): Progress {
  let shown = false;
  let last = -Infinity;
  const back = () => shown ? "\x1b[1A\r\x1b[2K" : "";
  return {
    async show(line: () => string): Promise<void> {
      const time = now();
      if (!wanted || !output.isTerminal || time - last < INTERVAL) return;
      last = time;
      const text = `${back()}${clip(line(), output.columns - 1)}\n`;
      shown = true;
      await output.write(text);
    },
    async clear(): Promise<void> {
      const text = back();
      shown = false;
      last = -Infinity;
      if (text !== "") await output.write(text);
    },
  };
}
