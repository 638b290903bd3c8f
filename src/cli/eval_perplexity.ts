/**
 * `eval perplexity`: how well a text is expected, by position.
 *
 * @module
 */

import { type Command, Option } from "commander";
import type { HaystackSource } from "../eval/haystack_source.ts";
import {
  createPerplexityCases,
  perplexityAnswerer,
  type PerplexityPlan,
  stretchLength,
} from "../eval/perplexity.ts";
import type { EvalSuite } from "./eval.ts";
import { type EvalRunSettings, lengths, repeats, toRunSettings, withRun } from "./eval_args.ts";
import { openHaystack } from "./eval_texts.ts";
import { collect, count, UsageError } from "./options.ts";

/** `eval perplexity` */
export interface PerplexitySettings extends EvalRunSettings {
  readonly suite: "perplexity";
  /** Positions from which tokens count. */
  readonly lengths: readonly number[];
  /** Tokens that count at each. */
  readonly scored: number;
  /** Stretches of the text. */
  readonly repeats: number;
  /** Empty: generated prose. */
  readonly files: readonly string[];
}

/** Adds the suite to `eval`. */
export function addPerplexityCommand(
  evaluate: Command,
  run: (settings: PerplexitySettings) => Promise<void>,
): void {
  withRun(
    evaluate.command("perplexity")
      .summary("how well a text is expected, by position")
      .description(
        "Perplexity of the tokens at several positions of a text, after reading all before them. " +
          "With --select ask (the default) only they are read with selection; with always, all.",
      )
      .addOption(lengths("positions from which tokens count, such as 1K,64K,1M", [1024, 4096]))
      .addOption(
        new Option("--scored <count>", "tokens that count at each").default(1024)
          .argParser(count(2)),
      )
      .addOption(repeats("stretches of the text", 1))
      .option(
        "--file <path>",
        "the text; may be repeated; - is standard input; default: generated prose",
        collect,
      ),
  ).action((options: Record<string, unknown>) => {
    const settings = toRunSettings(options);
    if (settings.server !== undefined) {
      throw new UsageError("eval perplexity needs a model's logits, which a server does not give");
    }
    return run({
      ...settings,
      suite: "perplexity",
      lengths: options.lengths as number[],
      scored: options.scored as number,
      repeats: options.repeats as number,
      files: (options.file ?? []) as string[],
    });
  });
}

/** What the settings measure. */
export function perplexitySuite(settings: PerplexitySettings): EvalSuite {
  const { lengths, scored, repeats, files, seed } = settings;
  const plan: PerplexityPlan = { positions: lengths, scored, repeats, seed };
  let source: HaystackSource | null = null;
  return {
    name: "perplexity",
    header: { files, scored, stretch: stretchLength(plan) },
    async cases({ units }) {
      source = await openHaystack(files, units, stretchLength(plan));
      return createPerplexityCases(plan);
    },
    answerer(model, method, { raw: _, ...options }) {
      // Opened with the cases, before any of them is answered.
      const text = { name: "text", tokens: (n: number, seed: number) => source!.tokens(n, seed) };
      return perplexityAnswerer(model, method, text, plan, options);
    },
  };
}
