/**
 * What the suites of `eval` have in common on the command line.
 *
 * @module
 */

import { type Command, Option } from "commander";
import { METHODS_HELP } from "../eval/methods.ts";
import { type MemorySettings, toMemorySettings, withMemory } from "./memory.ts";
import {
  type AttentionSettings,
  collect,
  count,
  COUNTS_HELP,
  integer,
  type ModelSettings,
  numberFrom,
  parseCount,
  toAttentionSettings,
  toModelSettings,
  withAttention,
  withModel,
} from "./options.ts";

/** What every suite has: who answers, how results are kept and said. */
export interface EvalRunSettings extends ModelSettings, AttentionSettings, MemorySettings {
  /** Names, the first is what the summary is of. */
  readonly methods: readonly string[];
  /** Prompts word for word: no question form, no chat template. */
  readonly raw: boolean;
  /** Tokens beyond which full attention is not tried. */
  readonly fullLimit: number;
  /** Ids of the cases to run; empty: all. */
  readonly only: readonly string[];
  /** Where rows are kept, and from where a run goes on; undefined: nowhere. */
  readonly out?: string;
  readonly fresh: boolean;
  /** An endpoint instead of a model; `model` is the name it has there then. */
  readonly server?: string;
  /** Whose tokens the texts for a server are measured in; undefined: an estimate by words. */
  readonly tokenizer?: string;
  /** Seconds that a server may take for an answer. */
  readonly timeout: number;
  readonly seed: number;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Adds the options of {@linkcode EvalRunSettings} to a suite's command. */
export function withRun(command: Command): Command {
  command
    .optionsGroup("Methods and results:")
    .addOption(
      new Option("--methods <list>", `side by side: ${METHODS_HELP}`)
        .default(["reattention"], "reattention").argParser(listOf((text) => text)),
    )
    .addOption(
      new Option("--full-limit <count>", "tokens beyond which full attention is not tried")
        .default(8192, "8K").argParser(count(1, true)),
    )
    .option("--raw", "prompts word for word: no question form, no chat template")
    .option("--only <id>", "only the case with this id; may be repeated", collect)
    .option("--out <path>", "keep rows there as JSON lines, and go on with those that are there")
    .option("--fresh", "forget the rows that are there")
    .addOption(
      new Option("--seed <integer>", "which texts and facts").default(1).argParser(integer),
    )
    .option("--json", "JSON lines: a row each, the summary last")
    .option("--quiet", "nothing on standard error but errors")
    .optionsGroup("Servers:")
    .option(
      "--server <url>",
      "ask an OpenAI-compatible endpoint instead, such as http://localhost:8080/v1/chat/completions; " +
        "--model is its name for the model; the key is in REATTENTION_API_KEY",
    )
    .option(
      "--tokenizer <dir>",
      "the model whose tokens measure the texts for a server; default: 4/3 tokens a word",
    )
    .addOption(
      new Option("--timeout <seconds>", "the longest wait for a server's answer").default(600)
        .argParser(numberFrom("above 0", (value) => value > 0)),
    )
    .optionsGroup("Model:");
  return withMemory(withAttention(withModel(command))).addHelpText("after", `\n${COUNTS_HELP}`);
}

/** The options that were given. */
export function toRunSettings(options: Record<string, unknown>): EvalRunSettings {
  return {
    ...toModelSettings(options),
    ...toAttentionSettings(options),
    ...toMemorySettings(options),
    methods: options.methods as string[],
    raw: options.raw === true,
    fullLimit: options.fullLimit as number,
    only: (options.only ?? []) as string[],
    out: options.out as string | undefined,
    fresh: options.fresh === true,
    server: options.server as string | undefined,
    tokenizer: options.tokenizer as string | undefined,
    timeout: options.timeout as number,
    seed: options.seed as number,
    json: options.json === true,
    quiet: options.quiet === true,
  };
}

/** An option with a list of lengths. */
export function lengths(description: string, byDefault: readonly number[]): Option {
  return new Option("--lengths <list>", description)
    .default(byDefault, byDefault.map((length) => `${length / 1024}K`).join(","))
    .argParser(listOf((text) => parseCount(text, 1)));
}

/** An option with a number of repeats. */
export function repeats(description: string, byDefault: number): Option {
  return new Option("--repeats <count>", description).default(byDefault).argParser(count(1));
}

/** Parses what is between commas. */
export function listOf<T>(parse: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(",").map((part) => parse(part.trim()));
}
