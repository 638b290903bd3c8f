/**
 * `eval ruler`: RULER's tasks, generated for any length.
 *
 * @module
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import { asObject } from "../files/json.ts";
import { writeHaystack } from "../eval/haystack.ts";
import { createRulerCases, OWN_RULER_TASKS, ownWords } from "../eval/ruler.ts";
import { type DocumentSet, RULER_TASKS, type RulerMaterial } from "../eval/ruler_tasks.ts";
import type { EvalSuite } from "./eval.ts";
import {
  type EvalRunSettings,
  lengths,
  listOf,
  repeats,
  toRunSettings,
  withRun,
} from "./eval_args.ts";
import { readJsonFile, readTexts } from "./eval_texts.ts";
import { collect, UsageError } from "./options.ts";

/** `eval ruler` */
export interface RulerSettings extends EvalRunSettings {
  readonly suite: "ruler";
  /** Tokens of prompt and answer. */
  readonly lengths: readonly number[];
  /** RULER's names; empty: those that need nobody's data. */
  readonly tasks: readonly string[];
  readonly repeats: number;
  /** Essays to hide in; empty: generated prose. */
  readonly files: readonly string[];
  /** A folder with lists of words; undefined: own lists. */
  readonly words?: string;
  /** The files of qa_1 and qa_2. */
  readonly squad?: string;
  readonly hotpotqa?: string;
}

/** Adds the suite to `eval`. */
export function addRulerCommand(
  evaluate: Command,
  run: (settings: RulerSettings) => Promise<void>,
): void {
  withRun(
    evaluate.command("ruler")
      .summary("RULER's 13 tasks")
      .description(
        "RULER's tasks (Hsieh et al. 2024, arXiv 2404.06654) in its words, generated for any length. " +
          "With its word lists and essays they are RULER's, but for what chance draws.",
      )
      .addOption(lengths("tokens of prompt and answer, such as 4K,16K", [4096]))
      .addOption(
        new Option(
          "--tasks <list>",
          `some of ${Object.keys(RULER_TASKS).join(", ")}; default: those that need no data`,
        ).argParser(listOf(taskName)),
      )
      .addOption(repeats("samples of each task and length", 10))
      .option(
        "--file <path>",
        "essays to hide needles in; may be repeated; default: prose",
        collect,
      )
      .option("--words <dir>", "a folder with nounlist.txt, adjectivelist.txt and verblist.txt")
      .option("--squad <path>", "SQuAD's dev-v2.0.json, for qa_1")
      .option("--hotpotqa <path>", "HotpotQA's hotpot_dev_distractor_v1.json, for qa_2"),
  ).action((options: Record<string, unknown>) =>
    run({
      ...toRunSettings(options),
      suite: "ruler",
      lengths: options.lengths as number[],
      tasks: (options.tasks ?? []) as string[],
      repeats: options.repeats as number,
      files: (options.file ?? []) as string[],
      words: options.words as string | undefined,
      squad: options.squad as string | undefined,
      hotpotqa: options.hotpotqa as string | undefined,
    })
  );
}

function taskName(text: string): string {
  if (text in RULER_TASKS) return text;
  throw new InvalidArgumentError(`It must be among ${Object.keys(RULER_TASKS).join(", ")}.`);
}

/** What the settings measure. */
export function rulerSuite(settings: RulerSettings): EvalSuite {
  const { lengths, repeats, files, words, squad, hotpotqa, seed } = settings;
  const data = { squad, hotpotqa };
  const tasks = settings.tasks.length > 0
    ? settings.tasks
    : [...OWN_RULER_TASKS, ...squad ? ["qa_1"] : [], ...hotpotqa ? ["qa_2"] : []];
  for (const name of tasks) {
    const { needs } = RULER_TASKS[name]!;
    if (needs !== undefined && data[needs] === undefined) {
      throw new UsageError(`${name} needs others' data: name their file with --${needs}`);
    }
  }
  return {
    name: "ruler",
    header: { files, words: words ?? null },
    async cases({ units }) {
      const material: RulerMaterial = {
        ...words === undefined ? ownWords() : await readWords(words),
        essays: await readEssays(files, seed, Math.max(...lengths)),
        ...squad === undefined ? {} : { squad: readSquad(await readJsonFile(squad), squad) },
        ...hotpotqa === undefined
          ? {}
          : { hotpotqa: readHotpotQa(await readJsonFile(hotpotqa), hotpotqa) },
      };
      return createRulerCases(units, material, { tasks, lengths, repeats, seed });
    },
  };
}

/** Characters of essays for a token, at most. */
const CHARACTERS_PER_TOKEN = 8;

/** Sentences of files, or of prose that a seed generates. */
async function readEssays(
  files: readonly string[],
  seed: number,
  tokens: number,
): Promise<readonly string[]> {
  const most = tokens * CHARACTERS_PER_TOKEN;
  if (files.length === 0) {
    return [...writeHaystack({ seed, length: most })].map(({ text }) => text.trim())
      .filter((text) => text !== "");
  }
  const text = (await readTexts(files, most)).replace(/\s+/g, " ").trim();
  return text.match(/.+?[.!?]["')\]]*(?= |$)|.+$/g)?.map((sentence) => sentence.trim()) ?? [];
}

async function readWords(
  folder: string,
): Promise<Pick<RulerMaterial, "adjectives" | "nouns" | "words">> {
  const read = async (name: string) => {
    const text = await readTexts([`${folder.replace(/[/\\]+$/, "")}/${name}`], Infinity);
    return text.split(/\r?\n/).map((word) => word.trim()).filter((word) => word !== "");
  };
  const adjectives = await read("adjectivelist.txt");
  const nouns = await read("nounlist.txt");
  const words = [...new Set([...nouns, ...adjectives, ...await read("verblist.txt")])].sort();
  if (adjectives.length === 0 || nouns.length === 0) {
    throw new Error(`Cannot use the words of "${folder}": its lists must not be empty`);
  }
  return { adjectives, nouns, words };
}

/** SQuAD 2.0's answerable questions; its paragraphs are the documents. */
function readSquad(json: unknown, path: string): DocumentSet {
  interface Article {
    readonly paragraphs: readonly {
      readonly context: string;
      readonly qas: readonly {
        readonly question: string;
        readonly is_impossible?: boolean;
        readonly answers: readonly { readonly text: string }[];
      }[];
    }[];
  }
  const articles = asObject(json)?.["data"] as readonly Article[] | undefined;
  if (!Array.isArray(articles)) {
    throw new Error(`Cannot use "${path}": it must be SQuAD's, with data`);
  }
  const documents = [
    ...new Set(articles.flatMap(({ paragraphs }: Article) => paragraphs.map((p) => p.context))),
  ].sort();
  const indexOf = new Map(documents.map((text, i) => [text, i]));
  const questions = articles.flatMap(({ paragraphs }: Article) =>
    paragraphs.flatMap(({ context, qas }) =>
      qas.filter(({ is_impossible: no }) => !no).map(({ question, answers }) => ({
        query: question,
        answers: answers.map(({ text }) => text),
        documents: [indexOf.get(context)!],
        related: paragraphs.filter((other) => other.context !== context)
          .map((other) => indexOf.get(other.context)!),
      }))
    )
  );
  return { documents, questions };
}

/** HotpotQA's questions; the paragraphs that come with each are the documents. */
function readHotpotQa(json: unknown, path: string): DocumentSet {
  interface Entry {
    readonly question: string;
    readonly answer: string;
    readonly context: readonly (readonly [title: string, sentences: readonly string[]])[];
  }
  if (!Array.isArray(json)) throw new Error(`Cannot use "${path}": it must be HotpotQA's list`);
  const entries = json as readonly Entry[];
  const textOf = ([title, sentences]: Entry["context"][number]) =>
    `${title}\n${sentences.join("")}`;
  const documents = [...new Set(entries.flatMap(({ context }) => context.map(textOf)))].sort();
  const indexOf = new Map(documents.map((text, i) => [text, i]));
  const questions = entries.map(({ question, answer, context }) => ({
    query: question,
    answers: [answer],
    documents: context.map((document) => indexOf.get(textOf(document))!),
    related: [],
  }));
  return { documents, questions };
}
