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
  createSharing,
  findTasks,
  type Sharing,
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
    const { units } = options;
    const sharing = units ? createSharing(units) : null;
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
      if (evaluation === "judge") {
        judged += instructions.length;
        continue;
      }
      const chosen = instructions.slice(0, (options.limit ?? Infinity) - asked);
      asked += chosen.length;
      const place = { folder, file, template, sharing, truncate: options.truncate };
      // One after the other, so that all that is asked about a document shares its reading.
      for (const part of task === "sci_fi" ? ["loyalty", "fact"] as const : [null]) {
        for (const [i, instruction] of chosen.entries()) {
          yield caseOf({ row, i, instruction, output: outputs[i]!, evaluation, part }, place);
        }
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
  readonly evaluation: Exclude<Evaluation, "judge">;
  /** Science fiction is asked twice: by the document, and by what is true outside of it. */
  readonly part: "loyalty" | "fact" | null;
}

/** What the questions of a task have in common. */
interface Place extends Pick<SuiteOptions, "truncate"> {
  readonly folder: SuiteFolder;
  readonly file: TaskFile;
  readonly template: PromptTemplate;
  readonly sharing: Sharing | null;
}

function caseOf(
  { row, i, instruction, output, evaluation, part }: Question,
  { folder, file, template, sharing, truncate }: Place,
): EvalCase {
  const { task } = file;
  const { where } = row;
  const metric = evaluation === "exam" ? "exact match" : evaluation;
  const common = {
    ...{ folder, file, row, maxTokens: MAX_TOKENS },
    id: `${task}/${row.index}/${i}${part === null ? "" : `/${part}`}`,
    at: { row: row.index, question: i, metric, ...(part === null ? {} : { part }) },
    ...answerOf(task, part, evaluation, output, where),
  };
  if (part === "fact") {
    const real = instruction.replace(
      /based on the world described in the document/i,
      "going by the real world, not by any story",
    );
    return suiteCase({
      ...common,
      parts: { before: "", after: `${real}\nAnswer:` },
      contextOf: null,
    });
  }
  const parts = fillTemplate(template, { instruction, words: String(words(output).length) });
  const cut = truncate &&
    ((text: string) =>
      parts.before + cutWords(text, truncate, task === "codeU" ? "last" : "first"));
  return suiteCase({
    ...common,
    parts,
    contextOf: (again: JsonObject) => textField(again, "input", where),
    ...(cut ? { cut } : {}),
    ...(sharing ? { sharing } : {}),
  });
}

/** What is right, and how an answer is compared with it. */
function answerOf(
  task: string,
  part: Question["part"],
  evaluation: Question["evaluation"],
  output: string,
  where: string,
): Pick<EvalCase, "expected" | "score"> {
  if (part !== null) {
    const [loyalty = "", fact = ""] = output.toLowerCase().split("[fact:");
    const truth = (part === "loyalty" ? loyalty : fact.replace(/\]\s*$/, "")).trim();
    if (truth === "") {
      throw new TypeError(`${where}: "outputs" must be like "True [fact: False]", got "${output}"`);
    }
    return { expected: [truth], score: (prediction) => examScore("truth", prediction, truth) };
  }
  const exam = CLOSED[task] ?? "text";
  const score = {
    exam: (prediction: string) => examScore(exam, prediction, output),
    f1: (prediction: string) => wordF1(prediction, output),
    rouge: (prediction: string) => rouge(prediction, output).rougeL,
  }[evaluation];
  return { expected: [output], score };
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
