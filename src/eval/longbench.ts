/**
 * LongBench: 21 tasks in English and Chinese (Bai et al. 2023, arXiv 2308.14508), and the 13 of
 * LongBench-E, whose files end in `_e`.
 *
 * The data are `data/*.jsonl` of the published archive, the prompts `config/dataset2prompt.json` of
 * the official repository.
 *
 * @module
 */

import { readBytes } from "../files/byte_source.ts";
import { parseJson } from "../files/json.ts";
import type { EvalCase } from "./case.ts";
import { codeSimilarity } from "./metrics/edit_similarity.ts";
import { characterF1, chineseWordF1, wordF1 } from "./metrics/f1.ts";
import type { WordCutter } from "./metrics/jieba.ts";
import { classification, numberShare, paragraphNumber } from "./metrics/mentions.ts";
import { rougeLOfCutSets, rougeLOfSets } from "./metrics/rouge_sets.ts";
import { fillTemplate, parseTemplate, toPrompts } from "./prompt_template.ts";
import {
  findTasks,
  suiteCase,
  type SuiteFolder,
  type SuiteOptions,
  taskRows,
  textField,
  textsField,
} from "./suite.ts";
import { cutMiddle } from "./truncation.ts";

/** How LongBench's tasks are scored; the names are printed with the results. */
export type LongbenchMetric =
  | "f1"
  | "f1 by jieba's words"
  | "f1 by characters"
  | "rouge-l"
  | "rouge-l by jieba's words"
  | "rouge-l by characters"
  | "classification"
  | "retrieval"
  | "count"
  | "code similarity";

interface LongbenchTask {
  readonly metric: LongbenchMetric;
  /** Tokens of an answer, where no `dataset2maxlen.json` says otherwise. */
  readonly maxTokens: number;
  /** Only the first line of an answer counts. */
  readonly firstLine?: true;
  /** Asked without a chat template, the text goes on. */
  readonly raw?: true;
}

/** The tasks, in the order of the official code. */
export const LONGBENCH_TASKS: Readonly<Record<string, LongbenchTask>> = {
  "narrativeqa": { metric: "f1", maxTokens: 128 },
  "qasper": { metric: "f1", maxTokens: 128 },
  "multifieldqa_en": { metric: "f1", maxTokens: 64 },
  "multifieldqa_zh": { metric: "f1 by jieba's words", maxTokens: 64 },
  "hotpotqa": { metric: "f1", maxTokens: 32 },
  "2wikimqa": { metric: "f1", maxTokens: 32 },
  "musique": { metric: "f1", maxTokens: 32 },
  "dureader": { metric: "rouge-l by jieba's words", maxTokens: 128 },
  "gov_report": { metric: "rouge-l", maxTokens: 512 },
  "qmsum": { metric: "rouge-l", maxTokens: 512 },
  "multi_news": { metric: "rouge-l", maxTokens: 512 },
  "vcsum": { metric: "rouge-l by jieba's words", maxTokens: 512 },
  "trec": { metric: "classification", maxTokens: 64, firstLine: true, raw: true },
  "triviaqa": { metric: "f1", maxTokens: 32, firstLine: true, raw: true },
  "samsum": { metric: "rouge-l", maxTokens: 128, firstLine: true, raw: true },
  "lsht": { metric: "classification", maxTokens: 64, firstLine: true, raw: true },
  "passage_count": { metric: "count", maxTokens: 32 },
  "passage_retrieval_en": { metric: "retrieval", maxTokens: 32 },
  "passage_retrieval_zh": { metric: "retrieval", maxTokens: 32 },
  "lcc": { metric: "code similarity", maxTokens: 64, raw: true },
  "repobench-p": { metric: "code similarity", maxTokens: 64, raw: true },
};

/** The tasks of LongBench-E. */
const EVEN_TASKS = [
  ...["qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec"],
  ...["triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"],
];

/** Where the official repository's settings may be, seen from the data. */
const CONFIG_PLACES = ["", "config/", "../config/", "../LongBench/config/", "LongBench/config/"];

/** What is asked how: from the official repository's `config` folder. */
export interface LongbenchConfig {
  readonly prompts: Readonly<Record<string, string>>;
  /** Tokens of an answer, by task. */
  readonly maxTokens: Readonly<Record<string, number>>;
}

/**
 * The settings beside the data: `dataset2prompt.json`, and `dataset2maxlen.json` if it is there.
 *
 * @returns Null where there are no prompts.
 * @throws {Error} If a file is not what it must be.
 */
export async function findLongbenchConfig(folder: SuiteFolder): Promise<LongbenchConfig | null> {
  for (const place of CONFIG_PLACES) {
    const prompts = await readJsonFile(folder, `${place}dataset2prompt.json`);
    if (prompts === undefined) continue;
    const maxTokens = await readJsonFile(folder, `${place}dataset2maxlen.json`);
    return {
      prompts: toPrompts(prompts, `${folder.name}/${place}dataset2prompt.json`),
      maxTokens: maxTokens === undefined ? {} : toCounts(maxTokens, `${place}dataset2maxlen.json`),
    };
  }
  return null;
}

/**
 * The cases of LongBench, task by task, read from the files as they are asked for.
 *
 * Prompts are those of `options.prompts`, else those beside the data. The official code cuts Chinese
 * words with the package jieba. Where `cutChinese` is not given, F1 and ROUGE-L of Chinese answers
 * are by characters, their metrics are named so, and `note` is told.
 *
 * @param options `cutChinese`: jieba, see {@linkcode createJieba}.
 * @throws {Error} If there are no prompts or no data, or a row is not as it must be; says where.
 */
export async function* longbenchCases(
  folder: SuiteFolder,
  options: SuiteOptions & { readonly cutChinese?: WordCutter } = {},
): AsyncGenerator<EvalCase> {
  const known = [...Object.keys(LONGBENCH_TASKS), ...EVEN_TASKS.map((task) => `${task}_e`)];
  const files = await findTasks(folder, known, ["", "data/"], options.tasks);
  const config = await findLongbenchConfig(folder);
  const prompts = options.prompts ?? config?.prompts;
  if (prompts === undefined) {
    throw new Error(
      `Cannot find LongBench's prompts: there must be a dataset2prompt.json, as in the folder ` +
        `config of the official repository, in or beside "${folder.name}", or named with --prompts`,
    );
  }
  for (const file of files) {
    const name = file.task.replace(/_e$/, "");
    const { maxTokens, firstLine, raw, metric: official } = LONGBENCH_TASKS[name]!;
    const { cutChinese } = options;
    const metric = cutChinese === undefined ? withoutJieba(official) : official;
    if (!Object.hasOwn(prompts, name)) {
      throw new Error(`Cannot run ${file.task}: the prompts have none for "${name}"`);
    }
    const template = parseTemplate(name, prompts[name]!);
    if (metric !== official) {
      options.note?.(
        `${file.task}: ${metric}, where the official score is by jieba's words (--jieba); not ` +
          `comparable with published numbers`,
      );
    }
    for await (const row of taskRows(folder, file)) {
      if (row.index >= (options.limit ?? Infinity)) break;
      const { value, where } = row;
      const answers = textsField(value, "answers", where);
      const scoreOne = scorer(metric, name, answers, value, where, cutChinese);
      const parts = fillTemplate(template, {
        input: value.input === undefined ? "" : textField(value, "input", where),
      });
      const { truncate } = options;
      const length = typeof value.length === "number" ? value.length : null;
      yield suiteCase({
        folder,
        file,
        row,
        id: `${file.task}/${row.index}`,
        at: {
          row: row.index,
          metric,
          ...(length === null || name === file.task ? {} : { bin: lengthBin(length) }),
        },
        parts,
        contextOf: (again) => textField(again, "context", where),
        ...(truncate ? { cut: (text) => cutMiddle(text, parts, truncate, "dropped") } : {}),
        maxTokens: config?.maxTokens[name] ?? maxTokens,
        expected: answers,
        ...(raw ? { raw } : {}),
        score(prediction) {
          const counted = firstLine ? prediction.replace(/^\n+/, "").split("\n")[0]! : prediction;
          return Math.max(...answers.map((answer) => scoreOne(counted, answer)));
        },
      });
    }
  }
}

/** What is measured where no words can be cut. */
function withoutJieba(metric: LongbenchMetric): LongbenchMetric {
  return metric === "f1 by jieba's words"
    ? "f1 by characters"
    : metric === "rouge-l by jieba's words"
    ? "rouge-l by characters"
    : metric;
}

/** Checks what a metric needs of a row; what comes back scores one answer against one reference. */
function scorer(
  metric: LongbenchMetric,
  task: string,
  answers: readonly string[],
  row: Readonly<Record<string, unknown>>,
  where: string,
  cutChinese: WordCutter = (text) => [...text],
): (prediction: string, reference: string) => number {
  switch (metric) {
    case "f1":
      return wordF1;
    case "f1 by characters":
      return characterF1;
    case "f1 by jieba's words":
      return (prediction, reference) => chineseWordF1(prediction, reference, cutChinese);
    case "rouge-l":
      return rougeLOfSets;
    case "rouge-l by characters":
    case "rouge-l by jieba's words":
      return (prediction, reference) => rougeLOfCutSets(prediction, reference, cutChinese);
    case "code similarity":
      return codeSimilarity;
    case "count":
      return numberShare;
    case "classification": {
      const classes = textsField(row, "all_classes", where);
      return (prediction, reference) => classification(prediction, reference, classes);
    }
    case "retrieval": {
      const language = task.endsWith("_zh") ? "zh" : "en";
      for (const answer of answers) {
        if (paragraphNumber(answer, language) === null) {
          throw new TypeError(`${where}: "answers" must name paragraphs, got "${answer}"`);
        }
      }
      return (prediction, reference) =>
        numberShare(prediction, paragraphNumber(reference, language)!);
    }
  }
}

/** LongBench-E's table is by length, in words. */
function lengthBin(words: number): "0-4k" | "4-8k" | "8k+" {
  return words < 4000 ? "0-4k" : words < 8000 ? "4-8k" : "8k+";
}

/** Settings are small; undefined where there is no such file. */
async function readJsonFile(folder: SuiteFolder, path: string): Promise<unknown> {
  const source = await folder.open(path);
  if (source === null) return undefined;
  try {
    return parseJson(await readBytes(source, 0, source.byteLength), { name: source.name }).value;
  } finally {
    await source.close?.();
  }
}

function toCounts(value: unknown, source: string): Readonly<Record<string, number>> {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (
    !isObject || !Object.values(value).every((count) => Number.isSafeInteger(count) && count > 0)
  ) {
    throw new TypeError(
      `Cannot take the answers' lengths of "${source}": it must be one JSON object with a count of ` +
        `tokens, 1 or more, for each task`,
    );
  }
  return value as Record<string, number>;
}
