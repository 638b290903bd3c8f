/**
 * `eval needle`: facts hidden in a text, by length and depth.
 *
 * @module
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import { createNeedleCases, NEEDLE_KINDS_HELP, parseNeedleTask } from "../eval/needle.ts";
import type { EvalSuite } from "./eval.ts";
import {
  type EvalRunSettings,
  lengths,
  listOf,
  repeats,
  toRunSettings,
  withRun,
} from "./eval_args.ts";
import { openHaystack } from "./eval_texts.ts";
import { collect, numberFrom } from "./options.ts";

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
      ),
  ).action((options: Record<string, unknown>) =>
    run({
      ...toRunSettings(options),
      suite: "needle",
      lengths: options.lengths as number[],
      depths: options.depths as number[],
      kinds: options.kinds as string[],
      repeats: options.repeats as number,
      files: (options.file ?? []) as string[],
    })
  );
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
  const { lengths, depths, kinds, repeats, files, seed } = settings;
  return {
    name: "needle",
    header: { files },
    async cases({ units }) {
      const source = await openHaystack(files, units, Math.max(...lengths));
      return createNeedleCases(units, source, { lengths, depths, kinds, repeats, seed });
    },
  };
}
