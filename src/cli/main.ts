#!/usr/bin/env -S deno run -A
/**
 * The command `reattention`: ask, generate, inspect, demo, calibrate, eval, picture.
 *
 * @module
 */

import { CommanderError } from "commander";
import {
  ClosedPipeError,
  environmentVariable,
  programArguments,
  setExitStatus,
  standardError,
  standardOutput,
} from "../system/system.ts";
import { createProgram, UsageError, VERSION } from "./args.ts";
import { ask } from "./ask.ts";
import { calibrate } from "./calibrate.ts";
import { demo } from "./demo.ts";
import { evaluate } from "./eval.ts";
import { follow } from "./follow.ts";
import { generate } from "./generate.ts";
import { inspect } from "./inspect.ts";
import { picture } from "./picture.ts";

/** Runs a command line; gives the exit status: 0 done, 1 failed, 2 wrong usage. */
async function run(args: readonly string[]): Promise<number> {
  // The parser writes without waiting; what it wrote is handed on, waiting, below.
  let out = "";
  let error = "";
  const program = createProgram({
    ask,
    follow,
    generate,
    inspect,
    demo,
    calibrate,
    eval: evaluate,
    picture,
  }, {
    version: VERSION,
    output: { out: (text) => out += text, error: (text) => error += text },
  });
  try {
    try {
      await program.parseAsync([...args], { from: "user" });
      return 0;
    } catch (cause) {
      if (cause instanceof CommanderError) return cause.exitCode === 0 ? 0 : 2;
      if (cause instanceof ClosedPipeError) return 0;
      error += describe(cause);
      return cause instanceof UsageError ? 2 : 1;
    } finally {
      if (out !== "") await standardOutput.write(out);
      if (error !== "") await standardError.write(error);
    }
  } catch (cause) {
    if (cause instanceof ClosedPipeError) return 0;
    throw cause;
  }
}

/** One line, and the stack where it was asked for. */
function describe(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  const stack = wantsStack() && cause instanceof Error ? `${cause.stack}\n` : "";
  return `reattention: ${message}\n${stack}`;
}

function wantsStack(): boolean {
  try {
    return environmentVariable("REATTENTION_DEBUG") !== undefined;
  } catch {
    return false; // Deno was not allowed to look
  }
}

setExitStatus(await run(programArguments()));
