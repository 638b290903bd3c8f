/**
 * RULER's 13 tasks (Hsieh et al. 2024, arXiv 2404.06654), generated for any length: cases from drafts,
 * each with the largest haystack that fits.
 *
 * @module
 */

import type { EvalCase } from "./case.ts";
import { seededRandom } from "./haystack.ts";
import { WORDS } from "./haystack_words.ts";
import { foundShare, hashOf } from "./needle.ts";
import type { RulerPrompt } from "./ruler_prompts.ts";
import { type Draft, RULER_TASKS, type RulerMaterial, type RulerTask } from "./ruler_tasks.ts";
import type { TextTokens } from "./text_tokens.ts";

/** The tasks that need nobody's data. */
export const OWN_RULER_TASKS: readonly string[] = Object.keys(RULER_TASKS)
  .filter((name) => RULER_TASKS[name]!.needs === undefined);

/** Own words: RULER's lists are others' (wonderwords), but may be given. */
export function ownWords(): Pick<RulerMaterial, "adjectives" | "nouns" | "words"> {
  const { keyAdjective, keyNoun } = WORDS;
  const words = [...new Set([...keyAdjective, ...keyNoun])].sort();
  return { adjectives: keyAdjective, nouns: keyNoun, words };
}

/** Which samples. */
export interface RulerPlan {
  readonly tasks: readonly string[];
  /** Tokens of prompt and answer. */
  readonly lengths: readonly number[];
  /** Of each task and length. */
  readonly repeats: number;
  readonly seed: number;
}

/**
 * The samples of a plan, by length and task. As in RULER, the largest haystack that fits is looked
 * for once for a task and length, and a sample for which it is too large has a smaller one.
 *
 * @throws {RangeError} If a task is unknown or its data are missing.
 */
export function createRulerCases(
  units: TextTokens,
  material: RulerMaterial,
  { tasks, lengths, repeats, seed }: RulerPlan,
): EvalCase[] {
  if (material.essays.every((text) => text.trim() === "")) {
    throw new RangeError("Cannot make samples: there must be essays to hide needles in, got none");
  }
  return lengths.flatMap((length) =>
    tasks.flatMap((name) => {
      const task = RULER_TASKS[name];
      if (task === undefined || (task.needs !== undefined && material[task.needs] === undefined)) {
        throw new RangeError(
          task === undefined
            ? `Cannot make samples of "${name}": it must be one of ${Object.keys(RULER_TASKS)}`
            : `Cannot make samples of ${name}: its data must be given (${task.needs}), got none`,
        );
      }
      const draft = (sample: number) => {
        const random = seededRandom(hashOf(`${seed} ${name}/${length}/${sample}`));
        return task.draft(material, random, length, sample);
      };
      let fitted: number | null = null;
      const render = (sample: Draft): RulerPrompt => {
        fitted ??= fitHaystack(units, draft(0), task, length);
        return shrinkToFit(units, sample, task, length, fitted);
      };
      return Array.from(
        { length: repeats },
        (_, sample) => rulerCase(name, length, sample, task, draft(sample), render),
      );
    })
  );
}

function rulerCase(
  name: string,
  length: number,
  sample: number,
  { maxTokens, isAny = false }: RulerTask,
  draft: Draft,
  render: (draft: Draft) => RulerPrompt,
): EvalCase {
  const { expected } = draft;
  // The question does not depend on the haystack's size.
  const { question, answerPrefix } = draft.render(0);
  const score = (prediction: string) =>
    isAny
      ? Math.max(...expected.map((each) => foundShare(prediction, [each])))
      : foundShare(prediction, expected);
  return {
    id: `${name}/${length}/${sample}`,
    task: name,
    at: { length, repeat: sample },
    *context() {
      yield render(draft).context;
    },
    question,
    answerPrefix,
    maxTokens,
    expected,
    score,
    settled: (prediction) => score(prediction) === 1,
  };
}

/** Tokens of a whole prompt and of the longest answer: what a length limits. */
export function rulerLength(units: TextTokens, prompt: RulerPrompt, maxTokens: number): number {
  const { context, question, answerPrefix } = prompt;
  return units.encode(context + question + answerPrefix).length / units.perToken + maxTokens;
}

/** The most units of haystack with which a sample is no longer than `length`. */
function fitHaystack(
  units: TextTokens,
  draft: Draft,
  { maxTokens, increment }: RulerTask,
  length: number,
): number {
  const fits = (size: number) => rulerLength(units, draft.render(size), maxTokens) <= length;
  let low = increment;
  let high = 2 * increment;
  while (fits(high)) [low, high] = [high, 2 * high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

function shrinkToFit(
  units: TextTokens,
  draft: Draft,
  { maxTokens, increment }: RulerTask,
  length: number,
  size: number,
): RulerPrompt {
  for (let used = size;; used -= increment) {
    const prompt = draft.render(used);
    if (used <= increment || rulerLength(units, prompt, maxTokens) <= length) return prompt;
  }
}
