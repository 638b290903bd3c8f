/**
 * `eval longbench`, `eval leval`, `eval infinitebench`: published benchmarks, from the user's copy of
 * their data.
 *
 * @module
 */

import { type Command, Option } from "commander";
import type { EvalCase, EvalResult } from "../eval/case.ts";
import {
  INFINITEBENCH_TASKS,
  infinitebenchCases,
  scoreInfinitebench,
} from "../eval/infinitebench.ts";
import { LEVAL_TASKS, levalCases } from "../eval/leval.ts";
import { findLongbenchConfig, LONGBENCH_TASKS, longbenchCases } from "../eval/longbench.ts";
import { createJieba, type WordCutter } from "../eval/metrics/jieba.ts";
import { toPrompts } from "../eval/prompt_template.ts";
import type { SuiteFolder, SuiteOptions } from "../eval/suite.ts";
import { round, suiteScores } from "../eval/suite_scores.ts";
import { fingerprint } from "../files/xx_hash.ts";
import { kindOf, openFile } from "../system/file_source.ts";
import { standardError, standardOutput } from "../system/system.ts";
import type { EvalSuite } from "./eval.ts";
import { type EvalRunSettings, listOf, toRunSettings, withRun } from "./eval_args.ts";
import { alignColumns } from "./eval_report.ts";
import { readJsonFile, readTexts } from "./eval_texts.ts";
import { toJsonLine } from "./json.ts";
import { count, UsageError } from "./options.ts";

/** `eval longbench`, `leval`, `infinitebench` */
export interface BenchmarkSettings extends EvalRunSettings {
  readonly suite: "longbench" | "leval" | "infinitebench";
  /** The folder with the data; empty where predictions are scored. */
  readonly data: string;
  /** Undefined: those whose files are there. */
  readonly tasks?: readonly string[];
  /** Questions of each task, at most. */
  readonly limit?: number;
  /** A JSON file of templates by task. */
  readonly prompts?: string;
  /** Tokens that prompts are cut to. */
  readonly truncate?: number;
  /** A folder of predictions, to be scored instead. */
  readonly score?: string;
  /** The folder of the Python package jieba. */
  readonly jieba?: string;
}

interface Benchmark {
  readonly summary: string;
  readonly description: string;
  readonly tasks: readonly string[];
  readonly prompts: string;
  readonly truncate: string;
  cases(
    folder: SuiteFolder,
    options: SuiteOptions & { readonly cutChinese?: WordCutter },
  ): AsyncIterable<EvalCase>;
}

const OWN_PROMPTS =
  "The official prompts are in Python files of the benchmark's repository; short " +
  "ones of our own are used, unless --prompts gives others, so mind them when comparing with " +
  "published numbers.";

const BENCHMARKS: Readonly<Record<BenchmarkSettings["suite"], Benchmark>> = {
  longbench: {
    summary: "LongBench's 21 tasks, and LongBench-E's 13",
    description: "LongBench (Bai et al. 2023, arXiv 2308.14508): the <task>.jsonl of its data, " +
      "LongBench-E's end in _e. The prompts are dataset2prompt.json of the official repository, " +
      "looked for in the folder, its config, and a config or LongBench/config beside it. Published " +
      "scores of Chinese answers are by words that the Python package jieba cuts: --jieba gives " +
      "its files; without them F1 and ROUGE-L are by characters, and the table says so.",
    tasks: Object.keys(LONGBENCH_TASKS),
    prompts: "another dataset2prompt.json",
    truncate: "tokens of a prompt: the first and the last half of them stay",
    cases: longbenchCases,
  },
  leval: {
    summary: "L-Eval's tasks with metrics",
    description:
      "L-Eval (An et al. 2023, arXiv 2307.11088): LEval-data of its repository, or the " +
      "<task>.jsonl of its published data. What its authors leave to people or a judging model is " +
      `left out. ${OWN_PROMPTS}`,
    tasks: LEVAL_TASKS,
    prompts: "a JSON object of prompts by task, with {context}, {instruction} and {words}",
    truncate: "tokens of a document: as many words stay, then 250 fewer until they fit",
    cases: levalCases,
  },
  infinitebench: {
    summary: "InfiniteBench's 12 tasks; or scores predictions",
    description: "InfiniteBench (Zhang et al. 2024, arXiv 2402.13718): the <task>.jsonl of its " +
      `data. ${OWN_PROMPTS} With --score nothing is asked: predictions in the official format, ` +
      "preds_<task>.jsonl, are scored as the official code does.",
    tasks: Object.keys(INFINITEBENCH_TASKS),
    prompts: "a JSON object of prompts by task, with {context} and {input}, as the official " +
      "templates of one model",
    truncate: "tokens of a prompt: the first and the last half of them stay",
    cases: infinitebenchCases,
  },
};

/** Adds the benchmarks to `eval`. */
export function addBenchmarkCommands(
  evaluate: Command,
  run: (settings: BenchmarkSettings) => Promise<void>,
): void {
  for (const suite of ["longbench", "leval", "infinitebench"] as const) {
    const { summary, description, tasks, prompts, truncate } = BENCHMARKS[suite];
    const command = evaluate.command(suite).summary(summary).description(description)
      .option("--data <dir>", "the folder with the data")
      .addOption(
        new Option("--tasks <list>", "some of the tasks; default: those whose files are there")
          .argParser(listOf((text) => text)),
      )
      .addOption(
        new Option("--limit <count>", "questions of each task, at most; the first ones")
          .argParser(count(1)),
      )
      .option("--prompts <path>", prompts)
      .addOption(
        new Option("--truncate <count>", `${truncate}; default: everything is read`)
          .argParser(count(2)),
      );
    if (suite === "infinitebench") {
      command.option("--score <dir>", "score the predictions in this folder, and ask nothing");
    }
    if (suite === "longbench") {
      command.option(
        "--jieba <dir>",
        "the folder of the Python package jieba, with dict.txt and finalseg",
      );
    }
    withRun(command).addHelpText("after", `\nTasks: ${tasks.join(", ")}`)
      .action((options: Record<string, unknown>) => {
        if (options.data === undefined && options.score === undefined) {
          const instead = suite === "infinitebench" ? " or predictions with --score" : "";
          throw new UsageError(`eval ${suite} needs the folder with the data: --data${instead}`);
        }
        return run({
          ...toRunSettings(options),
          suite,
          data: options.data as string ?? "",
          tasks: options.tasks as string[] | undefined,
          limit: options.limit as number | undefined,
          prompts: options.prompts as string | undefined,
          truncate: options.truncate as number | undefined,
          score: options.score as string | undefined,
          jieba: options.jieba as string | undefined,
        });
      });
  }
}

/** What the settings measure. */
export async function benchmarkSuite(settings: BenchmarkSettings): Promise<EvalSuite> {
  const { suite, data, tasks, limit, truncate, quiet, jieba } = settings;
  const folder = openFolder(data);
  const given = settings.prompts === undefined
    ? undefined
    : toPrompts(await readJsonFile(settings.prompts), settings.prompts);
  const config = suite === "longbench" ? await findLongbenchConfig(folder) : null;
  return {
    name: suite,
    header: {
      data,
      prompts: fingerprint(new TextEncoder().encode(JSON.stringify([given, config]))),
      truncate: truncate ?? null,
      jieba: jieba ?? null,
    },
    async cases({ units }) {
      const notes: string[] = [];
      const cases: EvalCase[] = [];
      const found = BENCHMARKS[suite].cases(folder, {
        units,
        note: (text) => notes.push(text),
        ...(tasks === undefined ? {} : { tasks }),
        ...(limit === undefined ? {} : { limit }),
        ...(given === undefined ? {} : { prompts: given }),
        ...(truncate === undefined ? {} : { truncate: { tokens: truncate, units } }),
        ...(jieba === undefined ? {} : { cutChinese: await openJieba(jieba) }),
      });
      for await (const each of found) cases.push(each);
      for (const text of quiet ? [] : notes) await standardError.write(`note: ${text}\n`);
      return cases;
    },
    report(rows) {
      return { text: describeScores(rows), summary: { benchmark: suiteScores(rows) } };
    },
  };
}

/**
 * Scores a folder of predictions: a line for each task, once its file is read.
 *
 * @throws {Error} At the end, if a file could not be scored; says all that could not.
 */
export async function scorePredictions(
  { json }: Pick<BenchmarkSettings, "json">,
  path: string,
): Promise<void> {
  const failures: Error[] = [];
  for await (const result of scoreInfinitebench(openFolder(path))) {
    if ("error" in result) failures.push(result.error);
    else {
      const { task, n, score } = result;
      await standardOutput.write(
        json
          ? toJsonLine({ task, n, score: round(score) })
          : `${task.padEnd(20)} ${score.toFixed(2).padStart(6)} of ${n}\n`,
      );
    }
  }
  if (failures.length > 0) throw new Error(failures.map(({ message }) => message).join("\n"));
}

/** A table of the tasks' scores with a column for each method, and their averages. */
function describeScores(rows: readonly EvalResult[]): string {
  const byMethod = suiteScores(rows);
  const methods = Object.keys(byMethod);
  const names = [...new Set(rows.map(({ task }) => task))];
  const percent = (score: number | null) => score === null ? "-" : score.toFixed(2);
  const table = names.map((task) => {
    const own = methods.map((method) => byMethod[method]!.tasks[task]);
    const cells = own.map((score) => {
      if (score === undefined) return "";
      const parts = Object.entries(score.parts ?? {}).map(([name, x]) => `${name} ${x.toFixed(2)}`);
      const failed = score.errors === 0 ? [] : [`${score.errors} failed`];
      const more = [...parts, ...failed].join(", ");
      return `${percent(score.score)} of ${score.n}${more === "" ? "" : ` (${more})`}`;
    });
    return [task, own.find((score) => score !== undefined)?.metric ?? "", ...cells];
  });
  const averages = methods.map((method) => percent(byMethod[method]!.average));
  return `${
    alignColumns([["task", "metric", ...methods], ...table, ["average", "", ...averages]])
  }\n`;
}

/** The words of the package in a folder. */
async function openJieba(folder: string): Promise<WordCutter> {
  const read = (path: string) => readTexts([`${folder.replace(/[/\\]+$/, "")}/${path}`], Infinity);
  return createJieba({
    dictionary: await read("dict.txt"),
    start: await read("finalseg/prob_start.py"),
    transitions: await read("finalseg/prob_trans.py"),
    emissions: await read("finalseg/prob_emit.py"),
  });
}

/** A folder of the machine. */
function openFolder(path: string): SuiteFolder {
  const base = path.replace(/[/\\]+$/, "") || path;
  return {
    name: base,
    async open(inside) {
      const whole = `${base}/${inside}`;
      return await kindOf(whole) === "file" ? await openFile(whole) : null;
    },
  };
}
