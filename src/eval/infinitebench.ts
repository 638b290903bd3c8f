/**
 * InfiniteBench: 12 tasks of 100K tokens and more (Zhang et al. 2024, arXiv 2402.13718).
 *
 * The data are the published `<task>.jsonl`. The official prompts, which differ from model to
 * model, are in a Python file; where they are not given as JSON, short ones of our own are used.
 *
 * @module
 */

import type { EvalCase } from "./case.ts";
import { at, type JsonObject, readJsonLines } from "./json_lines.ts";
import { calculatedShare, INFINITEBENCH_SCORES, type Label } from "./metrics/infinitebench.ts";
import { fillTemplate, parseTemplate } from "./prompt_template.ts";
import {
  createSharing,
  findTasks,
  suiteCase,
  type SuiteFolder,
  type SuiteOptions,
  taskRows,
  textField,
  textsField,
} from "./suite.ts";
import { cutMiddle } from "./truncation.ts";

interface InfinitebenchTask {
  readonly metric: string;
  /** Tokens of an answer. */
  readonly maxTokens: number;
  /** Ours, not the official one. */
  readonly prompt: string;
}

/** The tasks, in the order of the official code. */
export const INFINITEBENCH_TASKS: Readonly<Record<string, InfinitebenchTask>> = {
  passkey: {
    metric: "first number",
    maxTokens: 6,
    prompt: "{context}\n\n{input}",
  },
  number_string: {
    metric: "first number",
    maxTokens: 12,
    prompt: "{context}\n\n{input}",
  },
  kv_retrieval: {
    metric: "named",
    maxTokens: 50,
    prompt: "Here is a JSON object; look a key up in it.\n\n{context}\n\n{input}",
  },
  longdialogue_qa_eng: {
    metric: "named",
    maxTokens: 40,
    prompt:
      "The script of a film, in which $$MASK$$ stands for one speaker's name.\n\n{context}\n\n" +
      "Whose name does $$MASK$$ stand for? Reply with the name as the script writes it.\nName:",
  },
  longbook_sum_eng: {
    metric: "rouge-lsum",
    maxTokens: 1200,
    prompt: "{context}\n\nTell in one page what happens in this book.\nSummary:",
  },
  longbook_choice_eng: {
    metric: "choice",
    maxTokens: 40,
    prompt: "{context}\n\nA question about this book: {question}\nA. {OPTION_A}\nB. {OPTION_B}\n" +
      "C. {OPTION_C}\nD. {OPTION_D}\nReply with the letter of the right option.\nLetter:",
  },
  longbook_qa_eng: {
    metric: "f1",
    maxTokens: 40,
    prompt: "{context}\n\nA question about this book, to be answered in a few words: {question}\n" +
      "Answer:",
  },
  longbook_qa_chn: {
    metric: "f1 by characters", // the official score is, too
    maxTokens: 40,
    prompt: "{context}\n\n关于这本书，用几个字回答：{question}\n回答：",
  },
  math_find: {
    metric: "first number",
    maxTokens: 3,
    prompt: "{prefix}\n\n{context}\n\n{input}",
  },
  math_calc: {
    metric: "share before the first error",
    maxTokens: 30000,
    prompt:
      "From left to right, the value after each operation; for 1 + 3 + 4 that is [4, 8].\n\n" +
      "{context}\n\nValues:",
  },
  code_run: {
    metric: "last number",
    maxTokens: 5,
    prompt: "{context}\n\nThese functions call one another. The value that {func_call} returns is",
  },
  code_debug: {
    metric: "choice",
    maxTokens: 5,
    prompt: "{context}\n\nOne of four functions of this code was broken on purpose:\n" +
      "A. {OPTION_A}\nB. {OPTION_B}\nC. {OPTION_C}\nD. {OPTION_D}\nThe broken one is:",
  },
};

const LETTERS = "ABCD";

/**
 * The cases of InfiniteBench, task by task, read from the files as they are asked for.
 *
 * @throws {Error} If there are no data, or a row is not as it must be; says where.
 */
export async function* infinitebenchCases(
  folder: SuiteFolder,
  options: SuiteOptions = {},
): AsyncGenerator<EvalCase> {
  const known = Object.keys(INFINITEBENCH_TASKS);
  const files = await findTasks(folder, known, ["", "data/", "InfiniteBench/"], options.tasks);
  if (options.prompts === undefined) {
    options.note?.(
      "InfiniteBench: prompts of our own, not the official ones; those come with --prompts",
    );
  }
  for (const file of files) {
    const { task } = file;
    const { metric, maxTokens, prompt } = INFINITEBENCH_TASKS[task]!;
    if (options.prompts !== undefined && !Object.hasOwn(options.prompts, task)) {
      throw new Error(`Cannot run ${task}: the prompts have none for it`);
    }
    const template = parseTemplate(task, options.prompts?.[task] ?? prompt);
    const { truncate, units } = options;
    // What a cut leaves of a text depends on the question.
    const sharing = units && !truncate ? createSharing(units) : null;
    for await (const row of taskRows(folder, file)) {
      if (row.index >= (options.limit ?? Infinity)) break;
      const { value, where } = row;
      const parts = fillTemplate(template, fieldsOf(task, value, where));
      const label = labelOf(task, value, where);
      yield suiteCase({
        folder,
        file,
        row,
        id: `${task}/${row.index}`,
        at: { row: row.index, metric },
        parts,
        contextOf: (again) => contextOf(again, where),
        ...(truncate ? { cut: (text) => cutMiddle(text, parts, truncate, "last") } : {}),
        ...(sharing ? { sharing } : {}),
        maxTokens,
        expected: texts(label),
        score: (prediction) => INFINITEBENCH_SCORES[task]!(prediction, label),
      });
    }
  }
}

/** Some files have the text under another name. */
function contextOf(row: JsonObject, where: string): string {
  return textField(row, Object.hasOwn(row, "content") ? "content" : "context", where);
}

/** What a task's prompts may ask for. */
function fieldsOf(
  task: string,
  row: JsonObject,
  where: string,
): Readonly<Record<string, string>> {
  const input = Object.hasOwn(row, "input") ? textField(row, "input", where) : "";
  const question = Object.hasOwn(row, "question") ? textField(row, "question", where) : input;
  const fields = { input, question };
  switch (task) {
    case "longbook_choice_eng":
    case "code_debug": {
      const [a, b, c, d] = optionsOf(row, where);
      return {
        ...fields,
        ...{ OPTION_A: a, OPTION_B: b, OPTION_C: c, OPTION_D: d },
        ...{ option_A: a, option_B: b, option_C: c, option_D: d },
      };
    }
    case "code_run": {
      const call = Object.hasOwn(row, "func_call")
        ? textField(row, "func_call", where)
        : /func_[0-9]+\(-?[0-9]+\)/.exec(input)?.[0];
      if (call === undefined) {
        throw new TypeError(`${where}: "input" must have a call such as func_12(-3)`);
      }
      return { ...fields, func_call: call, func: call.split("(")[0]! };
    }
    case "math_find": {
      const wanted = /The \w+ number/.exec(input)?.[0].toLowerCase();
      if (wanted === undefined) {
        throw new TypeError(`${where}: "input" must have "The ... number", such as "The largest"`);
      }
      return { ...fields, prefix: `What is ${wanted} in the following list?` };
    }
    default:
      return fields;
  }
}

function optionsOf(row: JsonObject, where: string): readonly [string, string, string, string] {
  const options = textsField(row, "options", where);
  if (options.length !== LETTERS.length) {
    throw new TypeError(`${where}: "options" must be 4 texts, there are ${options.length}`);
  }
  return options as [string, string, string, string];
}

/** A row's right answer; for options the text and its letter. */
function labelOf(task: string, row: JsonObject, where: string): Label {
  const answer = Object.hasOwn(row, "answer") ? row.answer : undefined;
  checkLabel(task, answer, "answer", where);
  if (task !== "longbook_choice_eng" && task !== "code_debug") return answer;
  const given = texts(answer);
  if (given.length === 2 && LETTERS.includes(given[1]!)) return given;
  const index = optionsOf(row, where).indexOf(given[0]!);
  if (given.length !== 1 || index < 0) {
    throw new TypeError(`${where}: "answer" must be one of the options`);
  }
  return [given[0]!, LETTERS[index]!];
}

/** What the scores rely on. */
function checkLabel(
  task: string,
  label: unknown,
  field: string,
  where: string,
): asserts label is Label {
  const items = Array.isArray(label) ? label.flat() : [label];
  const kind = task.startsWith("math_") || task === "code_run" ? "number" : "string";
  if (items.length === 0 || !items.every((item) => typeof item === kind)) {
    throw new TypeError(`${where}: "${field}" must be a ${kind}, or a list of them, not empty`);
  }
}

function texts(label: Label): readonly string[] {
  return typeof label === "object" ? label.flatMap(texts) : [String(label)];
}

/** What the predictions of a task came to. */
export interface TaskScore {
  readonly task: string;
  /** Predictions. */
  readonly n: number;
  /** Their mean score, in percent. */
  readonly score: number;
}

/** Predictions that cannot be scored. */
export interface TaskFailure {
  readonly task: string;
  readonly error: Error;
}

/**
 * Scores predictions in the official format: `preds_<task>.jsonl` with `prediction` or `pred`, and
 * `ground_truth` or `label`, a row each. As the official code does, a file that has a damaged row
 * gets no score.
 *
 * @throws {Error} If there is no file of any task.
 */
export async function* scoreInfinitebench(
  folder: SuiteFolder,
): AsyncGenerator<TaskScore | TaskFailure> {
  let found = 0;
  for (const task of Object.keys(INFINITEBENCH_TASKS)) {
    const source = await folder.open(`preds_${task}.jsonl`);
    if (source === null) continue;
    found++;
    // Its authors' prompt made GPT-4 repeat the first number; they score its files accordingly.
    const skip = /(^|\/)(preds_)?gpt4\/*$/.test(folder.name) ? 1 : 0;
    try {
      let sum = 0;
      let n = 0;
      for await (const { value, line } of readJsonLines(source)) {
        sum += scoreRow(task, value, at(source, line), skip);
        n++;
      }
      if (n === 0) throw new Error(`Cannot score "${source.name}": it has no predictions`);
      yield { task, n, score: 100 * (sum / n) };
    } catch (cause) {
      yield { task, error: cause instanceof Error ? cause : new Error(String(cause)) };
    } finally {
      await source.close?.();
    }
  }
  if (found === 0) {
    throw new Error(
      `Cannot find predictions in "${folder.name}": there must be a preds_<task>.jsonl of a task: ` +
        Object.keys(INFINITEBENCH_TASKS).join(", "),
    );
  }
}

function scoreRow(task: string, row: JsonObject, where: string, skip: number): number {
  const prediction = textField(
    row,
    Object.hasOwn(row, "prediction") ? "prediction" : "pred",
    where,
  );
  const field = Object.hasOwn(row, "ground_truth") ? "ground_truth" : "label";
  const label = Object.hasOwn(row, field) ? row[field] : undefined;
  checkLabel(task, label, field, where);
  if (/^(longbook_choice_eng|code_debug)$/.test(task) && texts(label).length < 2) {
    throw new TypeError(`${where}: "${field}" must be the right option and its letter`);
  }
  return task === "math_calc"
    ? calculatedShare(prediction, label, skip)
    : INFINITEBENCH_SCORES[task]!(prediction, label);
}
