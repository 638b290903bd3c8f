/**
 * What is said on standard error while somebody may be typing there.
 *
 * @module
 */

import type { TextOutput } from "../system/system.ts";
import { createProgress, type Progress } from "./progress.ts";

const PROMPT = "> ";

/** From the start of the line, nothing on it. */
const CLEAR_LINE = "\r\x1b[K";

/** Standard error of `ask --follow`. */
export interface Desk {
  /** Says a line; the prompt, if there is one, goes below it. */
  say(line: string): Promise<void>;
  /** Says what went wrong, also where it is to be quiet. */
  complain(line: string): Promise<void>;
  /** From now on questions can come. */
  open(): Promise<void>;
  /** A question is being answered: there is neither prompt nor progress until `release`. */
  attend(): Promise<void>;
  /** It has been answered. */
  release(): Promise<void>;
  /** No question can come any more. */
  close(): Promise<void>;
  /** Shows how far the reading is, where nobody types. */
  show(line: () => string): Promise<void>;
}

/**
 * A prompt where questions are typed, else a line of progress: that is rewritten, which would garble
 * what is being typed.
 */
export function createDesk(
  output: TextOutput,
  { isTyped, quiet }: { readonly isTyped: boolean; readonly quiet: boolean },
  progress: Progress = createProgress(output, !quiet && !isTyped),
): Desk {
  const prompts = isTyped && !quiet && output.isTerminal;
  let isOpen = false;
  let isAttending = false;
  let isPrompting = false;
  const prompt = async () => {
    if (!prompts || !isOpen || isPrompting || isAttending) return;
    isPrompting = true;
    await output.write(PROMPT);
  };
  const clear = async () => {
    await progress.clear();
    if (!isPrompting) return;
    isPrompting = false;
    // After a typed line this is the next one, and empty.
    await output.write(CLEAR_LINE);
  };
  const complain = async (line: string) => {
    await clear();
    await output.write(`${line}\n`);
    await prompt();
  };
  return {
    async say(line: string): Promise<void> {
      if (!quiet) await complain(line);
    },
    complain,
    async open(): Promise<void> {
      isOpen = true;
      await prompt();
    },
    async attend(): Promise<void> {
      isAttending = true;
      await clear();
    },
    async release(): Promise<void> {
      isAttending = false;
      await prompt();
    },
    async close(): Promise<void> {
      isOpen = false;
      if (isPrompting) await output.write("\n");
      isPrompting = false;
    },
    async show(line: () => string): Promise<void> {
      if (!isAttending) await progress.show(line);
    },
  };
}
