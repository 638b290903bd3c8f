/**
 * RULER's prompts, word for word (Hsieh et al. 2024, arXiv 2404.06654; NVIDIA/RULER at c3f5e3b): what
 * a sample says once it is decided what is in it.
 *
 * @module
 */

import { joinNames } from "./needle.ts";

/** A sample's text: the prompt is all three, one after the other. */
export interface RulerPrompt {
  readonly context: string;
  readonly question: string;
  readonly answerPrefix: string;
}

/** The only sentence of the noise, as often as there is room. */
export const NOISE =
  "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/** What needles are about. */
export type ValueType = "numbers" | "words" | "uuids";

/** The sentence that is hidden. */
export function needleSentence(type: ValueType, key: string, value: string): string {
  return `One of the special magic ${type} for ${key} is: ${value}.`;
}

/**
 * A needle in a haystack.
 *
 * @param body The haystack with the needles in it.
 * @param queries The keys that are asked for.
 * @param isSingular Whether one value in all is asked for.
 */
export function niahPrompt(
  type: ValueType,
  body: string,
  queries: readonly string[],
  isSingular: boolean,
): RulerPrompt {
  const what = isSingular ? type.slice(0, -1) : type;
  const about = `for ${joinNames(queries)} mentioned in the provided text`;
  return {
    context:
      `${isSingular ? "A" : "Some"} special magic ${what} ${
        isSingular ? "is" : "are"
      } hidden within the following text. Make sure to memorize it. I will quiz you about the ${what} ` +
      `afterwards.\n${body}`,
    question: `\nWhat ${isSingular ? "is" : "are all"} the special magic ${what} ${about}?`,
    answerPrefix: ` The special magic ${what} ${about} ${isSingular ? "is" : "are"}`,
  };
}

/** Lines, and where others are put between them. */
export interface Layout {
  readonly lines: number;
  /** `before[i]` lines come before the i-th insertion; ascending. */
  readonly before: readonly number[];
}

/** Lines with others among them. */
export function amongLines(
  lines: readonly string[],
  { before }: Layout,
  inserted: readonly string[],
): string {
  const all = [...lines];
  for (let i = inserted.length - 1; i >= 0; i--) all.splice(before[i]!, 0, inserted[i]!);
  return all.join("\n");
}

/** Lines of noise. */
export function noiseLines(count: number): string[] {
  return Array<string>(count).fill(NOISE);
}

/** A chain of variables that all have the first one's value. */
export interface VariableChain {
  readonly names: readonly string[];
  readonly value: string;
  /** Of the noise around it. */
  readonly layout: Layout;
}

/** Variable tracking: a solved example, then the task. */
export function trackingPrompt(example: VariableChain, chain: VariableChain): RulerPrompt {
  const solved = trackingTask(example);
  const { context, question, answerPrefix } = trackingTask(chain);
  const answer = example.names.join(" ");
  return {
    context: `${solved.context}${solved.question}${solved.answerPrefix} ${answer}\n\n${context}`,
    question,
    answerPrefix,
  };
}

function trackingTask({ names, value, layout }: VariableChain): RulerPrompt {
  const lines = names.map((name, i) =>
    i === 0 ? `VAR ${name} = ${value}` : `VAR ${name} = VAR ${names[i - 1]} `
  );
  return {
    context: "Memorize and track the chain(s) of variable assignment hidden in the following " +
      `text.\n\n${amongLines(noiseLines(layout.lines), layout, lines)}`,
    question:
      `\nQuestion: Find all variables that are assigned the value ${value} in the text above.`,
    answerPrefix: ` Answer: According to the chain(s) of variable assignment in the text above, ` +
      `${names.length} variables are assigned the value ${value}, they are: `,
  };
}

/** A list in which some words are more frequent than others. */
export interface WordList {
  /** In order, repeats included. */
  readonly words: readonly string[];
  /** The most frequent ones. */
  readonly common: readonly string[];
}

/** Common words: a solved example, then the task. */
export function commonWordsPrompt(example: WordList, list: WordList): RulerPrompt {
  const solved = commonWordsTask(example);
  const { context, question, answerPrefix } = commonWordsTask(list);
  return {
    context: `${solved.context}${solved.question}${solved.answerPrefix} ${
      numbered(example.common)
    }\n${context}`,
    question,
    answerPrefix,
  };
}

function commonWordsTask({ words, common }: WordList): RulerPrompt {
  return {
    context: "Below is a numbered list of words. In these words, some appear more often than " +
      `others. Memorize the ones that appear most often.\n${numbered(words)}`,
    question: `\nQuestion: What are the ${common.length} most common words in the above list?`,
    answerPrefix: ` Answer: The top ${common.length} words that appear most often in the list are:`,
  };
}

/** `1. apple 2. pear` */
function numbered(words: readonly string[]): string {
  return words.map((word, i) => `${i + 1}. ${word}`).join(" ");
}

/** Frequent words of a coded text, in order. */
export function frequentWordsPrompt(words: readonly string[]): RulerPrompt {
  return {
    context: "Read the following coded text and track the frequency of each coded word. Find the " +
      `three most frequently appeared coded words. ${words.join(" ")}`,
    question:
      "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are " +
      "the three most frequently appeared words in the above coded text?",
    answerPrefix:
      " Answer: According to the coded text above, the three most frequently appeared words are:",
  };
}

/** A question about one of some documents. */
export function documentsPrompt(documents: readonly string[], query: string): RulerPrompt {
  const task = "Answer the question based on the given documents. Only give me the answer and do " +
    "not output any other words.";
  const body = documents.map((text, i) => `Document ${i + 1}:\n${text}`).join("\n\n");
  return {
    context: `${task}\n\nThe following are given documents.\n\n${body}`,
    question: `\n\n${task}\n\nQuestion: ${query}`,
    answerPrefix: " Answer:",
  };
}
