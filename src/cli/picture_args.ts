/**
 * The command line of `picture`.
 *
 * @module
 */

import { Argument, type Command } from "commander";

/** What there are pictures of, and the files they can be. */
const KINDS = {
  needle: [".svg", ".png"],
  perplexity: [".svg", ".png"],
  cost: [".svg", ".png"],
  recall: [".html"],
} as const;

/** A kind of picture. */
export type PictureKind = keyof typeof KINDS;

/** `picture` */
export interface PictureSettings {
  readonly kind: PictureKind;
  /** A file of results or a trace; `-` is standard input. */
  readonly source: string;
  /** The file to draw to; its ending says how. Undefined: to standard output, as text. */
  readonly out?: string;
}

/** Adds the command. */
export function addPicture(
  program: Command,
  picture: (settings: PictureSettings) => Promise<void>,
): void {
  program.command("picture")
    .addArgument(
      new Argument("<kind>", "what to draw").choices(Object.keys(KINDS)),
    )
    .argument("<file>", "results as JSON lines, or a trace; - is standard input")
    .summary("draw results of evaluations, or what a question read")
    .description(
      "Draws results of evaluations, or what each layer read for a question. Without --out the " +
        "picture is text: in colours on a terminal, else a plain table.",
    )
    .option(
      "--out <path>",
      "the file to draw: .svg or .png; of recall .html, a page that needs nothing else",
    )
    .addHelpText(
      "after",
      `
  needle      what is found by length and depth, a map for each method. Lines are results of
              "eval needle": { "task", "method", "at": { "length", "depth" }, "score" }
  perplexity  { "method", "position", "perplexity" }, or results of "eval perplexity"
  cost        { "selector", "length", "secondsPerQuestion", "tokensPerSecond" }, or what
              bench/endless.ts --json prints
  recall      which stretches of the text each layer chose for a question and for each token of
              the answer: a trace, written by "ask" or "generate" with --trace

Lines of other kinds are left out. Files need packages that do not come with this one: vega and
vega-lite; for PNG also @resvg/resvg-wasm and @fontsource/source-sans-3. Recall needs none.

Examples:
  reattention picture needle results.jsonl --out map.svg
  reattention ask "What is the pass key?" --file book.txt --trace trace.jsonl
  reattention picture recall trace.jsonl --out recall.html`,
    )
    .action((
      kind: PictureKind,
      source: string,
      { out }: { readonly out?: string },
      command: Command,
    ) => {
      const endings: readonly string[] = KINDS[kind];
      if (out !== undefined && !endings.some((ending) => out.toLowerCase().endsWith(ending))) {
        command.error(
          `error: a picture of ${kind} is a file that ends in ${
            endings.join(" or ")
          }, got '${out}'`,
        );
      }
      return picture({ kind, source, ...(out === undefined ? {} : { out }) });
    });
}
