/**
 * What LongBench, L-Eval and InfiniteBench have in common: a folder of JSON-lines files, a file a
 * task, a prompt around each row's text.
 *
 * @module
 */

import type { ByteSource } from "../files/byte_source.ts";
import { fingerprint } from "../files/xx_hash.ts";
import type { BaseText, EvalCase } from "./case.ts";
import { at, type JsonObject, type JsonRow, readJsonLine, readJsonLines } from "./json_lines.ts";
import type { PromptParts } from "./prompt_template.ts";
import type { TextTokens } from "./text_tokens.ts";
import type { Truncation } from "./truncation.ts";

/** The user's copy of a benchmark. */
export interface SuiteFolder {
  /** For messages: its path. */
  readonly name: string;
  /** Opens a file by its path in the folder, `../` for beside it; null where there is none. */
  open(path: string): Promise<ByteSource | null>;
}

/** What is run of a benchmark, and how. */
export interface SuiteOptions {
  /** Default: those whose files are there. */
  readonly tasks?: readonly string[];
  /** Questions of each task, at most; the first ones. */
  readonly limit?: number;
  /** Templates by task, instead of what a benchmark has by default. */
  readonly prompts?: Readonly<Record<string, string>>;
  /** Cuts what is too long, by the benchmark's own rule. Default: everything is read. */
  readonly truncate?: Truncation;
  /** Where given, questions about one text that follow one another share its reading. */
  readonly units?: Pick<TextTokens, "encode">;
  /** Told what a reader of the results must know. */
  readonly note?: (text: string) => void;
}

/** Where a file of a task was found. */
export interface TaskFile {
  readonly task: string;
  /** In the folder. */
  readonly path: string;
}

/**
 * The most characters of a question. What stands before, such as the file that LongBench's code
 * tasks end in, is read with the context: a question is one step, and must fit into the scope.
 */
export const MAX_QUESTION_CHARACTERS: number = 2000;

/** Text is handed on in pieces of this many UTF-16 units. */
const PIECE_LENGTH = 2 ** 16;

/**
 * Finds the files of tasks: `<task>.jsonl` in one of some places of the folder.
 *
 * @param known All tasks that there are.
 * @param places Paths in the folder, each empty or ending in a slash.
 * @throws {RangeError} If a task of `tasks` is not known.
 * @throws {Error} If a file of `tasks` is missing, or there is none of any task.
 */
export async function findTasks(
  folder: SuiteFolder,
  known: readonly string[],
  places: readonly string[],
  tasks?: readonly string[],
): Promise<TaskFile[]> {
  const unknown = tasks?.find((task) => !known.includes(task));
  if (unknown !== undefined) {
    throw new RangeError(`There is no task "${unknown}"; there are ${known.join(", ")}`);
  }
  const found: TaskFile[] = [];
  for (const task of tasks ?? known) {
    const path = await firstThere(folder, places.map((place) => `${place}${task}.jsonl`));
    if (path !== null) found.push({ task, path });
    else if (tasks !== undefined) {
      throw new Error(
        `Cannot run ${task}: there must be a file ${task}.jsonl in "${folder.name}"` +
          places.filter((place) => place !== "").map((place) => ` or its ${place}`).join(""),
      );
    }
  }
  if (found.length === 0) {
    throw new Error(
      `Cannot find a task in "${folder.name}": there must be at least one of ` +
        `${known.map((task) => `${task}.jsonl`).join(", ")}`,
    );
  }
  return found;
}

/** The first of some paths that there is a file at; null where there is none. */
export async function firstThere(
  folder: SuiteFolder,
  paths: readonly string[],
): Promise<string | null> {
  for (const path of paths) {
    const source = await folder.open(path);
    if (source === null) continue;
    await source.close?.();
    return path;
  }
  return null;
}

/** A row of a task. */
export interface TaskRow extends JsonRow {
  /** Counted from 0, without empty lines. */
  readonly index: number;
  /** For messages: the file and the line. */
  readonly where: string;
}

/** The rows of a task's file. It is open until the iteration ends. */
export async function* taskRows(folder: SuiteFolder, file: TaskFile): AsyncGenerator<TaskRow> {
  const source = await openAgain(folder, file.path);
  try {
    let index = 0;
    for await (const row of readJsonLines(source)) {
      yield { ...row, index: index++, where: at(source, row.line) };
    }
  } finally {
    await source.close?.();
  }
}

/** What makes a case of a row. */
export interface SuiteCase
  extends Pick<EvalCase, "id" | "at" | "maxTokens" | "expected" | "score"> {
  readonly folder: SuiteFolder;
  readonly file: TaskFile;
  /** What it holds is not kept. */
  readonly row: TaskRow;
  /** What stands before and behind the text. */
  readonly parts: PromptParts;
  /** The text within a row; null where the question is asked without any. */
  readonly contextOf: ((row: JsonObject) => string) | null;
  /** The text with what is before it, cut. */
  readonly cut?: (context: string) => string;
  /** Whether the official code leaves the chat template out. */
  readonly raw?: boolean;
  /** With the reading of the case before, where the text is the same. */
  readonly sharing?: Sharing;
}

/** Knows the text of the case before. */
export interface Sharing {
  /** What cases with one text have in common; a new one where the text is another than before. */
  baseOf(text: string, read: () => Promise<string>): BaseText;
}

/** Sharing among the questions of a task. */
export function createSharing(units: Pick<TextTokens, "encode">): Sharing {
  let before: { readonly print: string; readonly base: BaseText } | null = null;
  return {
    baseOf(text, read) {
      const print = fingerprint(new TextEncoder().encode(text));
      if (before?.print !== print) {
        before = { print, base: { tokens: async () => units.encode(await read()) } };
      }
      return before.base;
    },
  };
}

/**
 * A case that keeps a row's place, not its text: that is read again from the file for each method.
 */
export function suiteCase(suite: SuiteCase): EvalCase {
  const { folder, file, row, parts, contextOf, cut, sharing } = suite;
  const { line, startByte, endByte } = row;
  const split = splitQuestion(parts.after);
  const textOf = (value: JsonObject): string => {
    const context = contextOf === null ? "" : contextOf(value);
    return (cut === undefined ? parts.before + context : cut(context)) + split.read;
  };
  const read = async (): Promise<string> => {
    const source = await openAgain(folder, file.path);
    try {
      return textOf(await readJsonLine(source, { line, startByte, endByte }));
    } finally {
      await source.close?.();
    }
  };
  const characters = contextOf === null ? 0 : contextOf(row.value).length;
  const base = contextOf === null ? undefined : sharing?.baseOf(textOf(row.value), read);
  return {
    id: suite.id,
    task: file.task,
    at: { ...suite.at, characters },
    async *context(): AsyncGenerator<string> {
      yield* pieces(await read());
    },
    question: split.question,
    answerPrefix: "",
    maxTokens: suite.maxTokens,
    expected: suite.expected,
    score: suite.score,
    ...(suite.raw ? { raw: true } : {}),
    ...(base === undefined ? {} : { shared: { base, patches: () => [] } }),
  };
}

/**
 * What stands behind a context: first what is read with it, then the question. White space between
 * belongs to the former, as the model reads it.
 */
function splitQuestion(after: string): { readonly read: string; readonly question: string } {
  let start = after.length - after.trimStart().length;
  if (after.length - start > MAX_QUESTION_CHARACTERS) {
    const least = after.length - MAX_QUESTION_CHARACTERS;
    const newline = after.indexOf("\n", least - 1);
    const isWorthIt = newline >= 0 && after.slice(newline).trim() !== "";
    start = isWorthIt ? newline + 1 : least + Number(isLowSurrogate(after, least));
  }
  return { read: after.slice(0, start), question: after.slice(start) };
}

function* pieces(text: string): Generator<string> {
  for (let start = 0; start < text.length;) {
    const end = Math.min(start + PIECE_LENGTH, text.length);
    const cut = end + Number(isLowSurrogate(text, end));
    yield text.slice(start, cut);
    start = cut;
  }
}

function isLowSurrogate(text: string, index: number): boolean {
  return /^[\udc00-\udfff]$/.test(text.charAt(index));
}

async function openAgain(folder: SuiteFolder, path: string): Promise<ByteSource> {
  const source = await folder.open(path);
  if (source === null) throw new Error(`Cannot open "${folder.name}/${path}": it has gone`);
  return source;
}

/**
 * A field that must be a text.
 *
 * @throws {TypeError} If it is not; says where.
 */
export function textField(row: JsonObject, field: string, where: string): string {
  const value = Object.hasOwn(row, field) ? row[field] : undefined;
  if (typeof value !== "string") throw new TypeError(`${where}: "${field}" must be a string`);
  return value;
}

/**
 * A field that must be a list of texts, one at least.
 *
 * @throws {TypeError} If it is not; says where.
 */
export function textsField(row: JsonObject, field: string, where: string): readonly string[] {
  const value = Object.hasOwn(row, field) ? row[field] : undefined;
  const isTexts = Array.isArray(value) && value.length > 0 &&
    value.every((item) => typeof item === "string");
  if (!isTexts) throw new TypeError(`${where}: "${field}" must be a list of strings, not empty`);
  return value as string[];
}
