/**
 * L-Eval: 20 tasks of 3K to 200K tokens (An et al. 2023, arXiv 2307.11088), those with metrics; what
 * its authors leave to people or to a judging model is left out.
 *
 * The data are `LEval-data` of the official repository or `LEval` of the published archive. A row has
 * one document and several instructions, which are a case each. The official prompts are in Python
 * files; where they are not given as JSON, short ones of our own are used.
 *
 * @module
 */

import type { EvalCase, EvalResult } from "./case.ts";
import type { JsonObject } from "./json_lines.ts";
import {
  chosenLetters,
  exactMatch,
  plainOutput,
  rightLetters,
  statedNumber,
  statedOutput,
  statedTruth,
} from "./metrics/exam.ts";
import { wordF1 } from "./metrics/f1.ts";
import { words } from "./metrics/python_text.ts";
import { rouge, type RougeScores } from "./metrics/rouge.ts";
import { fillTemplate, parseTemplate, type PromptTemplate } from "./prompt_template.ts";
import {
  findTasks,
  suiteCase,
  type SuiteFolder,
  type SuiteOptions,
  type TaskFile,
  type TaskRow,
  taskRows,
  textField,
  textsField,
} from "./suite.ts";
import { cutWords } from "./truncation.ts";

/** Tokens of an answer, for all tasks. */
const MAX_TOKENS = 512;

/** How the answers of a task with one right answer are read. */
type ExamKind = "options" | "several options" | "number" | "output" | "truth" | "text";

const CLOSED: Readonly<Record<string, ExamKind>> = {
  coursera: "several options",
  quality: "options",
  topic_retrieval_longchat: "text",
  tpo: "options",
  gsm100: "number",
  codeU: "output",
  sci_fi: "truth",
};

const OPEN = [
  ...["financial_qa", "gov_report_summ", "legal_contract_qa", "meeting_summ", "multidoc_qa"],
  ...["narrative_qa", "natural_question", "news_summ", "paper_assistant", "patent_summ"],
  ...["review_summ", "scientific_qa", "tv_show_summ"],
];

/** The tasks, in the order of the official code. */
export const LEVAL_TASKS: readonly string[] = [...Object.keys(CLOSED), ...OPEN];

// Ours, not the official ones.
const OPTIONS_PROMPT = "{context}\n\n{instruction}\nReply with the letter of the right option.\n" +
  "Letter:";
const PROMPTS: Readonly<Record<string, string>> = {
  coursera: "{context}\n\n{instruction}\nReply with the letters of all right options, such as A " +
    "or AB.\nLetters:",
  quality: OPTIONS_PROMPT,
  tpo: OPTIONS_PROMPT,
  topic_retrieval_longchat: "A conversation about several topics, one after the other.\n\n" +
    "{context}\n\n{instruction}\n",
  gsm100: "{context}\n\n{instruction}\n",
  codeU: "{context}\n\n{instruction}\nThe final output:",
  sci_fi: "{context}\n\nAnswer True or False. {instruction}\nAnswer:",
};
const OPEN_PROMPT = "{context}\n\n{instruction}\nUse about {words} words.\nAnswer:";

/** Other names that prompts may have for the fields. */
const ALIASES = {
  document: "context",
  inst: "instruction",
  question: "instruction",
  length: "words",
  n_words_of_reference: "words",
};

/**
 * The cases of L-Eval, task by task, read from the files as they are asked for. Templates have the
 * fields `{context}`, `{instruction}` and `{words}`, the number of the reference's words; the one
 * of `sci_fi` also serves, without its context, for what is asked about the real world.
 *
 * @throws {Error} If there are no data, or a row is not as it must be; says where.
 */
export async function* levalCases(
  folder: SuiteFolder,
  options: SuiteOptions = {},
): AsyncGenerator<EvalCase> {
  const places = ["", "Closed-ended-tasks/", "Open-ended-tasks/", "Exam/", "Generation/"];
  const files = await findTasks(
    folder,
    LEVAL_TASKS,
    ["", "LEval-data/", "LEval/"].flatMap((root) => places.map((place) => `${root}${place}`)),
    options.tasks,
  );
  if (options.prompts === undefined) {
    options.note?.("L-Eval: prompts of our own, not the official ones; those come with --prompts");
  }
  for (const file of files) {
    const { task } = file;
    if (options.prompts !== undefined && !Object.hasOwn(options.prompts, task)) {
      throw new Error(`Cannot run ${task}: the prompts have none for it`);
    }
    const prompt = options.prompts?.[task] ?? PROMPTS[task] ?? OPEN_PROMPT;
    const template = parseTemplate(task, prompt, ALIASES);
    let asked = 0;
    let judged = 0;
    for await (const row of taskRows(folder, file)) {
      const evaluation = evaluationOf(row, task);
      const instructions = textsField(row.value, "instructions", row.where);
      const outputs = textsField(row.value, "outputs", row.where);
      if (instructions.length !== outputs.length) {
        throw new TypeError(
          `${row.where}: there must be as many "outputs" as "instructions", there are ` +
            `${outputs.length} and ${instructions.length}`,
        );
      }
      textField(row.value, "input", row.where);
      if (evaluation === "judge") {
        judged += instructions.length;
        continue;
      }
      for (const [i, instruction] of instructions.entries()) {
        if (asked >= (options.limit ?? Infinity)) break;
        asked++;
        const question = { row, i, instruction, output: outputs[i]! };
        yield* casesOf(folder, file, template, question, evaluation, options.truncate);
      }
      if (asked >= (options.limit ?? Infinity)) break;
    }
    if (judged > 0) {
      options.note?.(
        `${task}: ${judged} questions left out, which L-Eval leaves to people or a judging model`,
      );
    }
  }
}

type Evaluation = "exam" | "f1" | "rouge" | "judge";

/** How a row is scored, as it says itself. */
function evaluationOf({ value, where }: TaskRow, task: string): Evaluation {
  if (Object.hasOwn(CLOSED, task)) return "exam";
  const evaluation = textField(value, "evaluation", where);
  if (evaluation === "LLM" || evaluation === "human") return "judge";
  if (evaluation === "exam" || evaluation === "f1" || evaluation === "rouge") return evaluation;
  throw new TypeError(
    `${where}: "evaluation" must be exam, f1, rouge, LLM or human, got "${evaluation}"`,
  );
}

interface Question {
  readonly row: TaskRow;
  /** Index among the row's. */
  readonly i: number;
  readonly instruction: string;
  readonly output: string;
}

/** One case; for science fiction two: by the document, and by what is true outside of it. */
function* casesOf(
  folder: SuiteFolder,
  file: TaskFile,
  template: PromptTemplate,
  { row, i, instruction, output }: Question,
  evaluation: Exclude<Evaluation, "judge">,
  truncate: SuiteOptions["truncate"],
): Generator<EvalCase> {
  const { task } = file;
  const { where } = row;
  const count = String(words(output).length);
  const common = {
    folder,
    file,
    row: { line: row.line, startByte: row.startByte, endByte: row.endByte },
    maxTokens: MAX_TOKENS,
  };
  const metric = evaluation === "exam" ? "exact match" : evaluation === "f1" ? "f1" : "rouge-l";
  const parts = fillTemplate(template, { instruction, words: count });
  const cut = truncate &&
    ((text: string) =>
      parts.before + cutWords(text, truncate, task === "codeU" ? "last" : "first"));
  const document = {
    ...common,
    parts,
    contextOf: (again: JsonObject) => textField(again, "input", where),
    ...(cut ? { cut } : {}),
  };
  const id = `${task}/${row.index}/${i}`;
  const at = { row: row.index, question: i, metric };
  if (task !== "sci_fi") {
    const exam = evaluation === "exam" ? CLOSED[task] ?? "text" : null;
    yield suiteCase({
      ...document,
      id,
      at,
      expected: [output],
      score: (prediction) =>
        exam !== null
          ? examScore(exam, prediction, output)
          : evaluation === "f1"
          ? wordF1(prediction, output)
          : rouge(prediction, output).rougeL,
    });
    return;
  }
  const [byDocument = "", outside = ""] = output.toLowerCase().split("[fact:");
  const truths = [byDocument, outside.replace(/\]\s*$/, "")].map((part) => part.trim());
  if (truths.includes("")) {
    throw new TypeError(`${where}: "outputs" must be like "True [fact: False]", got "${output}"`);
  }
  const truthScore = (truth: string) => (prediction: string) =>
    examScore("truth", prediction, truth);
  yield suiteCase({
    ...document,
    id: `${id}/loyalty`,
    at: { ...at, part: "loyalty" },
    expected: [truths[0]!],
    score: truthScore(truths[0]!),
  });
  const real = instruction.replace(
    /based on the world described in the document/i,
    "going by the real world, not by any story",
  );
  yield suiteCase({
    ...common,
    id: `${id}/fact`,
    at: { ...at, part: "fact" },
    parts: { before: "", after: `${real}\nAnswer:` },
    contextOf: null,
    expected: [truths[1]!],
    score: truthScore(truths[1]!),
  });
}

function examScore(kind: ExamKind, prediction: string, output: string): number {
  switch (kind) {
    case "options":
    case "several options":
      return exactMatch(
        chosenLetters(prediction, kind === "several options"),
        rightLetters(output),
      );
    case "number":
      return exactMatch(statedNumber(prediction), statedNumber(output));
    case "output":
      return exactMatch(statedOutput(prediction, output), plainOutput(output));
    case "truth":
      return exactMatch(statedTruth(prediction), output);
    case "text":
      return exactMatch(prediction, output);
  }
}

/** ROUGE of a task's answers, in percent, as L-Eval reports it. */
export interface LevalRouge extends RougeScores {
  /** The geometric mean of the three means: the headline. */
  readonly geometricMean: number;
}

/**
 * ROUGE of answers to a task of long texts. It is no mean of the cases' scores, so it comes from
 * what was predicted.
 */
export function levalRouge(
  results: readonly Pick<EvalResult, "prediction" | "expected">[],
): LevalRouge {
  const sums = { rouge1: 0, rouge2: 0, rougeL: 0 };
  for (const { prediction, expected } of results) {
    const all = expected.map((reference) => rouge(prediction, reference));
    for (const key of ["rouge1", "rouge2", "rougeL"] as const) {
      sums[key] += Math.max(0, ...all.map((scores) => 100 * scores[key]));
    }
  }
  const mean = (sum: number) => sum / Math.max(results.length, 1);
  const [rouge1, rouge2, rougeL] = [mean(sums.rouge1), mean(sums.rouge2), mean(sums.rougeL)];
  return { rouge1, rouge2, rougeL, geometricMean: (rouge1 * rouge2 * rougeL) ** (1 / 3) };
}
