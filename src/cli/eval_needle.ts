/**
 * `eval needle`: facts hidden in a text, by length and depth.
 *
 * @module
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import { createNeedleCases, NEEDLE_KINDS_HELP, parseNeedleTask } from "../eval/needle.ts";
import { createNeedleBenchCases, NEEDLEBENCH, parseNeedleRecords } from "../eval/needlebench.ts";
import type { EvalSuite } from "./eval.ts";
import {
  type EvalRunSettings,
  lengths,
  listOf,
  repeats,
  toRunSettings,
  withRun,
} from "./eval_args.ts";
import { openHaystack, readTexts } from "./eval_texts.ts";
import { collect, numberFrom, UsageError } from "./options.ts";

/** `eval needle` */
export interface NeedleSettings extends EvalRunSettings {
  readonly suite: "needle";
  /** Tokens of a whole prompt. */
  readonly lengths: readonly number[];
  /** From 0, the start of the text, to 1, its end. */
  readonly depths: readonly number[];
  /** Names, such as `multikey:16`. */
  readonly kinds: readonly string[];
  readonly repeats: number;
  /** Texts to hide in; empty: a generated one. `-` is standard input. */
  readonly files: readonly string[];
  /** NeedleBench's wording and score. */
  readonly preset?: "needlebench";
  /** NeedleBench's file of needles; undefined: facts of our own. */
  readonly needles?: string;
}

/** Adds the suite to `eval`. */
export function addNeedleCommand(
  evaluate: Command,
  run: (settings: NeedleSettings) => Promise<void>,
): void {
  withRun(
    evaluate.command("needle")
      .summary("facts hidden in a text, by length and depth")
      .description(
        "Hides facts in texts of several lengths, at several depths, and asks for them. One reading " +
          "of a text serves all its cases where the method reads locally.",
      )
      .addOption(lengths("tokens of a prompt, such as 4K,64K,1M", [4096, 16384]))
      .addOption(
        new Option("--depths <list>", "from 0, the start, to 1, the end")
          .default([0.1, 0.3, 0.5, 0.7, 0.9], "0.1,0.3,0.5,0.7,0.9")
          .argParser(listOf(numberFrom("from 0 to 1", (value) => value >= 0 && value <= 1))),
      )
      .addOption(
        new Option("--kinds <list>", NEEDLE_KINDS_HELP).default(["single"], "single")
          .argParser(listOf(needleKind)),
      )
      .addOption(repeats("facts of each length, depth and kind", 4))
      .option(
        "--file <path>",
        "a text to hide facts in; may be repeated; - is standard input; default: generated prose",
        collect,
      )
      .addOption(
        new Option(
          "--preset <name>",
          "needlebench: its lengths, depths, repeats, wording and score",
        )
          .choices(["needlebench"]),
      )
      .option("--needles <path>", "NeedleBench's needles, JSON lines; default: facts of our own"),
  ).action((options: Record<string, unknown>, command: Command) => {
    const preset = options.preset as NeedleSettings["preset"];
    if (preset === undefined && options.needles !== undefined) {
      throw new UsageError("--needles goes with --preset needlebench");
    }
    // What is given goes before the preset.
    const pick = <T>(name: keyof typeof NEEDLEBENCH) => {
      const isGiven = command.getOptionValueSource(name) === "cli";
      return (preset === undefined || isGiven ? options[name] : NEEDLEBENCH[name]) as T;
    };
    return run({
      ...toRunSettings(options),
      suite: "needle",
      lengths: pick<number[]>("lengths"),
      depths: pick<number[]>("depths"),
      kinds: options.kinds as string[],
      repeats: pick<number>("repeats"),
      files: (options.file ?? []) as string[],
      preset,
      needles: options.needles as string | undefined,
    });
  });
}

function needleKind(text: string): string {
  try {
    parseNeedleTask(text);
    return text;
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** What the settings measure. */
export function needleSuite(settings: NeedleSettings): EvalSuite {
  const { lengths, depths, kinds, repeats, files, preset, needles, seed } = settings;
  return {
    name: preset ?? "needle",
    header: { files, needles: needles ?? null },
    async cases({ units }) {
      const source = await openHaystack(files, units, Math.max(...lengths));
      if (preset === "needlebench") {
        const records = needles === undefined
          ? null
          : parseNeedleRecords(await readTexts([needles], Infinity), needles);
        return createNeedleBenchCases(units, source, { lengths, depths, repeats, seed, records });
      }
      return createNeedleCases(units, source, { lengths, depths, kinds, repeats, seed });
    },
  };
}
