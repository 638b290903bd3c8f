/**
 * The suites of `eval`: each has a file with its options and its cases.
 *
 * @module
 */

import type { Command } from "commander";
import { addBenchmarkCommands, type BenchmarkSettings } from "./eval_benchmarks.ts";
import { addNeedleCommand, type NeedleSettings } from "./eval_needle.ts";
import { addPerplexityCommand, type PerplexitySettings } from "./eval_perplexity.ts";
import { addRulerCommand, type RulerSettings } from "./eval_ruler.ts";

/** What `eval` is to measure. */
export type EvalSettings =
  | NeedleSettings
  | RulerSettings
  | PerplexitySettings
  | BenchmarkSettings;

/** Adds `eval` and its suites to the command line. */
export function addEvalCommands(
  program: Command,
  run: (settings: EvalSettings) => Promise<void>,
): void {
  const evaluate = program.command("eval")
    .summary("measure what a model finds in long texts, several methods side by side")
    .description(
      "Measures what a model finds in long texts, several methods side by side, or what a server " +
        "does. Progress goes to standard error, results to standard output; with --out they are " +
        "kept, and a run that was ended goes on where it was.",
    )
    .helpCommand(false);
  addNeedleCommand(evaluate, run);
  addRulerCommand(evaluate, run);
  addPerplexityCommand(evaluate, run);
  addBenchmarkCommands(evaluate, run);
}
