/**
 * The command line: which commands and options there are, and what their values must be.
 *
 * @module
 */

import { Command, Option } from "commander";
import { addEvalCommands, type EvalSettings } from "./eval_suites.ts";
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
  UsageError,
  withAttention,
  withModel,
} from "./options.ts";
import { addPicture, type PictureSettings } from "./picture_args.ts";

export { type ModelSettings, parseCount, parseLayers, UsageError } from "./options.ts";

/** The package's version. */
export const VERSION = "0.1.0";

/** How it reads and writes, and what is said about it. */
export interface ReadSettings extends ModelSettings, AttentionSettings, MemorySettings {
  /** A session's file to go on with. */
  readonly load?: string;
  /** Where to keep what was read. */
  readonly save?: string;
  /** Paths, in order; `-` is standard input. */
  readonly files: readonly string[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly seed?: number;
  readonly stop: readonly string[];
  readonly trace?: string;
  readonly quiet: boolean;
  readonly json: boolean;
}

/** `ask` */
export interface AskSettings extends ReadSettings {
  readonly question: string;
  readonly raw: boolean;
}

/** `ask --follow` */
export interface FollowSettings extends ReadSettings {
  /** The first question. */
  readonly question?: string;
  readonly raw: boolean;
  /** A file or fifo with a question a line; undefined: the terminal. */
  readonly questions?: string;
}

/** `generate` */
export interface GenerateSettings extends ReadSettings {
  /** Read after all files. */
  readonly text?: string;
}

/** `inspect` */
export interface InspectSettings {
  readonly model?: string;
  readonly json: boolean;
  /** Whether the machines that can compute are asked for, not the model. */
  readonly backends?: boolean;
  readonly allowSoftware?: boolean;
}

/** `demo` */
export interface DemoSettings extends ModelSettings {
  /** Tokens to write, at least. */
  readonly tokens: number;
  readonly seed: number;
}

/** `calibrate` */
export interface CalibrateSettings extends ModelSettings {
  /** The profile to write; undefined: beside the model. */
  readonly out?: string;
  /** Prose; undefined: only facts in generated texts. */
  readonly text?: string;
  /** Tokens of the texts with facts; empty: what suits the model. */
  readonly lengths: readonly number[];
  /** Texts of each length. */
  readonly seeds: number;
  /** Templates of a fact and of its question, both or none. */
  readonly needle?: string;
  readonly question?: string;
  /** Stretches of prose. */
  readonly windows: number;
  /** Tokens of each; undefined: what suits the model. */
  readonly window?: number;
  /** Accepted loss, in percent of that with all layers. */
  readonly tolerance: number;
  readonly fresh: boolean;
  readonly quiet: boolean;
}

/** What each command does with its settings. */
export interface Commands {
  ask(settings: AskSettings): Promise<void>;
  follow(settings: FollowSettings): Promise<void>;
  generate(settings: GenerateSettings): Promise<void>;
  inspect(settings: InspectSettings): Promise<void>;
  demo(settings: DemoSettings): Promise<void>;
  calibrate(settings: CalibrateSettings): Promise<void>;
  picture(settings: PictureSettings): Promise<void>;
  eval(settings: EvalSettings): Promise<void>;
}

/** Where messages of the parser go. */
export interface ParserOutput {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
}

/**
 * The parser. `parseAsync(arguments, { from: "user" })` runs a command; wrong usage throws a
 * `CommanderError` or a {@linkcode UsageError}.
 */
export function createProgram(
  commands: Commands,
  about: { readonly version: string; readonly output: ParserOutput },
): Command {
  const program = new Command("reattention")
    .description(
      "Lets an ordinary language model read without end (ReAttention, arXiv 2407.15176): it keeps " +
        "everything it read, and looks at the few stretches that matter for the next word.",
    )
    .version(about.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeOut: about.output.out, writeErr: about.output.error })
    .showHelpAfterError('Add "--help" to see what is possible.')
    .addHelpText(
      "after",
      `
Examples:
  reattention demo
  cat book.txt | reattention ask "What is the pass key?"
  reattention ask "What is the pass key?" --file part1.txt --file part2.txt --json
  reattention ask "What is the pass key?" --file book.txt --save book.session
  reattention ask "What is the pass key?" --load book.session
  tail -f app.log | reattention ask --follow
  echo "It was a dark and stormy night" | reattention generate --max-tokens 40
  reattention inspect path/to/model
  reattention ask "Who is Ada?" --file book.txt --model hf:user/model:Q4_K_M
  reattention calibrate --model path/to/model --text book.txt
  reattention eval needle --lengths 16K,1M --methods reattention,window

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
REATTENTION_DEBUG=1 adds the stack to an error's message.`,
    );

  withReading(
    withModel(
      program.command("ask")
        .argument("[question]", "one question about the text; put it in quotes")
        .summary("read standard input and files, then answer a question about them")
        .description(
          "Reads a text of any length from standard input and files, then answers one question about " +
            "it. The answer goes to standard output, everything else to standard error.",
        ),
    ),
    { maxTokens: 64 },
  )
    .optionsGroup("Questions:")
    .option(
      "--follow",
      "read on without end, and answer questions as they are typed on the terminal",
    )
    .option(
      "--questions <path>",
      "with --follow: a file or a fifo with a question a line, instead of the terminal",
    )
    .option(
      "--raw",
      "give text and question to the model as they stand: no question form, no chat template",
    )
    .addHelpText(
      "after",
      `
How a model answers: one whose reattention.json has question forms is asked in these; an instruct
model by its chat template (chat_template.jinja, tokenizer_config.json or GGUF), of which the text
and the question are one turn; a base model has neither and goes on with the text. "inspect" says
which it is.

The embedded model is small and no assistant. It answers these:
  What is the special magic number for KEY?     What is the pass key?
  What is the best thing to do in CITY?         When was the THING found?
  What is the secret word of CITY?
of texts that say so in its words ("The pass key is 71432."); see models/pocket/README.md.

With --follow the questions are lines typed on the terminal (an empty one tells how far the reading
is, Ctrl-D ends them) or those of --questions. Each is answered from what has been read when its
turn comes, and the reading goes on meanwhile. A question on the command line, and those of a file
that is no fifo, are asked when the text first pauses for a second, or ends. When there can be no
more questions the command ends; with --json every answer is an object on a line of its own.

${COUNTS_HELP}`,
    )
    .action((
      question: string | undefined,
      options: Record<string, unknown>,
      command: Command,
    ) => {
      const settings = { ...toReadSettings(options), raw: options.raw === true };
      if (options.follow === true) {
        return commands.follow({ ...settings, question, ...toQuestions(options) });
      }
      if (options.questions !== undefined) {
        throw new UsageError("--questions goes with --follow: without it there is one question");
      }
      if (question === undefined) command.error("error: missing required argument 'question'");
      return commands.ask({ ...settings, question });
    });

  withReading(
    withModel(
      program.command("generate")
        .argument("[text]", "text to read after standard input and files")
        .summary("read standard input and files, then go on with the text")
        .description(
          "Reads a text of any length from standard input, files and the argument, then goes on with " +
            "it. Only what is new goes to standard output.",
        ),
    ),
    { maxTokens: 256 },
  )
    .addHelpText("after", `\n${COUNTS_HELP}`)
    .action((text: string | undefined, options: Record<string, unknown>) =>
      commands.generate({ ...toReadSettings(options), text })
    );

  program.command("inspect")
    .argument("[model]", "folder, file, URL or hf: name of a model; default: the embedded one")
    .summary("say what a model's files hold and what reading with it will cost")
    .description(
      "Says what a model's files hold and what reading with it will cost. Reads only the headers.",
    )
    .option("--model <source>", "the same as the argument")
    .option("--json", "print one JSON object")
    .option("--backends", "say instead which backends run here, and why others do not")
    .option("--allow-software", "with --backends: try webgpu on a program that acts as a GPU, too")
    .action((model: string | undefined, options: Record<string, unknown>) => {
      if (model !== undefined && options.model !== undefined) {
        throw new UsageError("inspect takes one model: as its argument or as --model, not both");
      }
      return commands.inspect({
        model: model ?? options.model as string | undefined,
        json: options.json === true,
        ...(options.backends === true ? { backends: true } : {}),
        ...(options.allowSoftware === true ? { allowSoftware: true } : {}),
      });
    });

  withModel(
    program.command("calibrate")
      .summary("find the layers of a model that must select, and write them to its profile")
      .description(
        "Probes a model with facts hidden in texts beyond its trained length, and with prose: with " +
          "selection in all layers, in none, in each alone, in all but each; then grows the best " +
          "until nothing is lost against all. Writes those layers and the evidence to the model's " +
          "reattention.json, which keeps its other fields. A run that was ended goes on where it " +
          "was: finished probes are kept beside the output.",
      ),
  )
    .option(
      "--out <path>",
      "the profile to write; default: reattention.json in the model's folder",
    )
    .optionsGroup("Probes (counts are tokens):")
    .option("--text <path>", "prose whose likelihood is measured, and in which facts are hidden")
    .addOption(
      new Option("--length <count>", "length of the texts with facts; may be repeated")
        .default([], "8 times the scope")
        .argParser((text: string, before: number[]) => [...before, parseCount(text, 1)]),
    )
    .addOption(
      new Option("--seeds <count>", "texts of each length").default(4).argParser(count(1)),
    )
    .option(
      "--needle <template>",
      "a fact, with {key} and {value}; default: the model's question forms",
    )
    .option("--question <template>", "what the model is to complete with the value; with {key}")
    .addOption(
      new Option("--windows <count>", "stretches of prose").default(4).argParser(count(1)),
    )
    .addOption(
      new Option("--window <count>", "length of each; default: 8 times the scope")
        .argParser(count(2)),
    )
    .addOption(
      new Option("--tolerance <percent>", "accepted loss of likelihood against all layers")
        .default(0.2).argParser(numberFrom("0 or more", (value) => value >= 0)),
    )
    .option("--fresh", "forget the finished probes of an earlier run")
    .option("--quiet", "nothing on standard error but errors")
    .addHelpText("after", `\n${COUNTS_HELP}`)
    .action((options: Record<string, unknown>) => commands.calibrate(toCalibrateSettings(options)));

  withModel(
    program.command("demo")
      .summary("hide facts in a long text, read it with the embedded model, and ask for them")
      .description(
        "Writes a long text with facts hidden in it, reads it once with the embedded model, which " +
          "was trained to 512 tokens, and asks for the facts: with ReAttention, with a plain window, " +
          "and with full attention. Exit status 1 if ReAttention gives a wrong answer.",
      ),
    { embeddedOnly: true },
  )
    .addOption(
      new Option("--tokens <count>", "length of the text, at least").default(200_000, "200,000")
        .argParser(count(2000)),
    )
    .addOption(
      new Option("--seed <integer>", "which text and which facts").default(1).argParser(integer),
    )
    .addHelpText("after", `\n${COUNTS_HELP}`)
    .action((options: Record<string, unknown>) =>
      commands.demo({
        ...toModelSettings(options),
        tokens: options.tokens as number,
        seed: options.seed as number,
      })
    );

  addPicture(program, (settings) => commands.picture(settings));
  addEvalCommands(program, (settings) => commands.eval(settings));

  return program;
}

function withReading(command: Command, defaults: { readonly maxTokens: number }): Command {
  command.option(
    "--file <path>",
    "a text to read, before standard input; may be repeated; - is standard input",
    collect,
  );
  withAttention(command)
    .optionsGroup("Sessions:")
    .option("--save <path>", "keep what was read, before anything is written, for --load")
    .option("--load <path>", "go on with what was kept, by its rules but for what is said here");
  return withMemory(command)
    .optionsGroup("Writing:")
    .addOption(
      new Option("--max-tokens <count>", "tokens to write, at most").default(defaults.maxTokens)
        .argParser(count(1)),
    )
    .addOption(
      new Option("--temperature <number>", "0 = the likeliest token; 1 = as the model has it")
        .default(0).argParser(numberFrom("0 or more", (value) => value >= 0)),
    )
    .addOption(
      new Option("--top-p <number>", "draw among the likeliest tokens of this total probability")
        .default(1).argParser(
          numberFrom("above 0 and at most 1", (value) => value > 0 && value <= 1),
        ),
    )
    .addOption(
      new Option("--seed <integer>", "makes drawing repeatable; default: a random one")
        .argParser(integer),
    )
    .option("--stop <text>", "end before this text; may be repeated", collect)
    .optionsGroup("Reports:")
    .option("--trace <path>", "write what each layer selected, as JSON lines")
    .option("--quiet", "nothing on standard error but errors")
    .option("--json", "print one JSON object: the text, the settings, the statistics");
}

/** What only `ask --follow` has. */
function toQuestions(options: Record<string, unknown>): Pick<FollowSettings, "questions"> {
  if (options.trace !== undefined) {
    throw new UsageError("--trace goes with one question, not with --follow");
  }
  if (options.load !== undefined || options.save !== undefined) {
    throw new UsageError("--load and --save go with one question, not with --follow");
  }
  if (options.questions === "-") {
    throw new UsageError("--questions cannot be -: standard input is the text that is read");
  }
  return { questions: options.questions as string | undefined };
}

function toCalibrateSettings(options: Record<string, unknown>): CalibrateSettings {
  return {
    ...toModelSettings(options),
    out: options.out as string | undefined,
    text: options.text as string | undefined,
    lengths: options.length as number[],
    seeds: options.seeds as number,
    needle: options.needle as string | undefined,
    question: options.question as string | undefined,
    windows: options.windows as number,
    window: options.window as number | undefined,
    tolerance: options.tolerance as number,
    fresh: options.fresh === true,
    quiet: options.quiet === true,
  };
}

function toReadSettings(options: Record<string, unknown>): ReadSettings {
  return {
    ...toModelSettings(options),
    ...toAttentionSettings(options),
    load: options.load as string | undefined,
    save: options.save as string | undefined,
    ...toMemorySettings(options),
    files: (options.file ?? []) as string[],
    maxTokens: options.maxTokens as number,
    temperature: options.temperature as number,
    topP: options.topP as number,
    seed: options.seed as number | undefined,
    stop: (options.stop ?? []) as string[],
    trace: options.trace as string | undefined,
    quiet: options.quiet === true,
    json: options.json === true,
  };
}
