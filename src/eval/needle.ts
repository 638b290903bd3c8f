/**
 * Needles: facts hidden in long texts at given depths, and questions about them.
 *
 * | kind | hidden | asked |
 * |---|---|---|
 * | `single` | one number | it |
 * | `multikey:K` | it and K numbers of other keys | it |
 * | `multivalue:K` | K numbers of one key | all of them |
 * | `multiquery:K` | K numbers of K keys | all of them |
 * | `uuid:K` | a UUID's UUID and those of K others, which all look alike | it |
 *
 * @module
 */

import type { EvalCase } from "./case.ts";
import { createNeedles, type Random, seededRandom } from "./haystack.ts";
import type { HaystackSource } from "./haystack_source.ts";
import { baseText, type HiddenFact, placeFacts, textOf } from "./hidden_facts.ts";
import type { TextTokens } from "./text_tokens.ts";

const KINDS = ["single", "multikey", "multivalue", "multiquery", "uuid"] as const;

/** What is hidden and asked. */
export interface NeedleTask {
  readonly kind: typeof KINDS[number];
  /** Distractors, values or queries; 0 of `single`. */
  readonly count: number;
}

/** For help. */
export const NEEDLE_KINDS_HELP =
  "single, multikey:K (K distractors), multivalue:K, multiquery:K, uuid:K (K look-alikes)";

/** Distractors, values or queries where nobody says. */
const DEFAULT_COUNT = 4;
const MAX_COUNT = 1000;

/**
 * `single`, `multikey:16`.
 *
 * @throws {RangeError} If it is none.
 */
export function parseNeedleTask(name: string): NeedleTask {
  const [, kind, digits] = /^([a-z]+)(?::(\d{1,4}))?$/.exec(name) ?? [];
  const known = KINDS.find((each) => each === kind);
  const count = known === "single" ? 0 : Number(digits ?? DEFAULT_COUNT);
  const least = known === "multivalue" || known === "multiquery" ? 2 : known === "single" ? 0 : 1;
  const isCount = known === "single" ? digits === undefined : count >= least && count <= MAX_COUNT;
  if (known === undefined || !isCount) {
    throw new RangeError(
      `Cannot hide needles of the kind "${name}": it must be ${NEEDLE_KINDS_HELP}, K at most ${MAX_COUNT}`,
    );
  }
  return { kind: known, count };
}

/** Which needles, and where. */
export interface NeedleGrid {
  /** Tokens of a prompt: the text has {@linkcode textLength} of them. */
  readonly lengths: readonly number[];
  /** From 0 to 1; of the fact that is asked for, of the first where there are several. */
  readonly depths: readonly number[];
  /** Names: see {@linkcode parseNeedleTask}. */
  readonly kinds: readonly string[];
  /** Of each length, depth and kind; the text is the same, facts and places are others. */
  readonly repeats: number;
  readonly seed: number;
}

/** Tokens of a text, so that question and answer find room in the prompt's length. */
export function textLength(length: number): number {
  return length - Math.min(256, length >> 3);
}

/**
 * The cases of a grid: by length, then kind, repeat and depth. What a case holds depends on the seed
 * and its id alone; the prose of a length is one for all its cases, the facts of a repeat are the same
 * at all depths, and the one that is asked for stands at its depth.
 *
 * @throws {RangeError} If a length is too short for a text, or a kind is unknown.
 */
export function createNeedleCases(
  units: TextTokens,
  source: HaystackSource,
  { lengths, depths, kinds, repeats, seed }: NeedleGrid,
): EvalCase[] {
  const tasks = kinds.map((name) => ({ name, ...parseNeedleTask(name) }));
  const cases: EvalCase[] = [];
  for (const length of lengths) {
    const count = Math.floor(textLength(length) * units.perToken);
    if (count < 128) {
      throw new RangeError(
        `Cannot hide needles: lengths must be at least 256 tokens, got ${length}`,
      );
    }
    const base = baseText(units, source, count, seededRandom(seed)(2 ** 31) + length);
    for (const { name, kind, count } of tasks) {
      for (let repeat = 0; repeat < repeats; repeat++) {
        for (const depth of depths) {
          const id = `${name}/${length}/${depth}/${repeat}`;
          // The facts of a repeat are the same at all depths: only the one that is asked for moves.
          const random = seededRandom(hashOf(`${seed} ${name}/${length}/${repeat}`));
          const { facts, question, answerPrefix, expected } = createFacts(
            { kind, count },
            depth,
            random,
          );
          const patches = (base: Uint32Array) => placeFacts(units, base, facts);
          cases.push({
            id,
            task: name,
            at: { length, depth, ...(count > 0 ? { [COUNTED[kind]]: count } : {}), repeat },
            async *context() {
              const tokens = await base.tokens();
              yield* textOf(units, tokens, patches(tokens));
            },
            question,
            answerPrefix,
            maxTokens: answerLength(units, expected),
            expected,
            score: (prediction) => foundShare(prediction, expected),
            settled: (prediction) => foundShare(prediction, expected) === 1,
            shared: { base, patches },
          });
        }
      }
    }
  }
  return cases;
}

const COUNTED: Readonly<Record<NeedleTask["kind"], string>> = {
  single: "count",
  multikey: "distractors",
  multivalue: "values",
  multiquery: "queries",
  uuid: "distractors",
};

/** Tokens that an answer may have beyond what is expected: a sentence around it. */
const SPARE_TOKENS = 32;

function answerLength(units: TextTokens, expected: readonly string[]): number {
  // A word of digits is several of a model's tokens.
  const perUnit = units.perToken === 1 ? 1 : 12;
  return units.encode(` ${expected.join(", ")}.`).length * perUnit + SPARE_TOKENS;
}

/** The share of the expected strings that occur in a prediction, whatever their case: RULER's score. */
export function foundShare(prediction: string, expected: readonly string[]): number {
  const text = prediction.toLowerCase();
  const found = expected.filter((each) => text.includes(each.toLowerCase()));
  return found.length / expected.length;
}

/** What a case hides and asks. */
interface Facts {
  /** That at the case's depth first. */
  readonly facts: readonly HiddenFact[];
  readonly question: string;
  readonly answerPrefix: string;
  readonly expected: readonly string[];
}

function createFacts({ kind, count }: NeedleTask, depth: number, random: Random): Facts {
  const numKeys = kind === "multivalue" ? 1 : kind === "multiquery" ? count : count + 1;
  const numValues = kind === "multivalue" ? count : 1;
  const isUuid = kind === "uuid";
  const keys = isUuid
    ? Array.from({ length: numKeys }, () => createUuid(random))
    : createNeedles(Array(numKeys).fill("magic"), random(2 ** 31)).map(({ key }) => key);
  const createValue = () => isUuid ? createUuid(random) : String(1_000_000 + random(9_000_000));
  const entries = keys.flatMap((key) =>
    Array.from({ length: numValues }, () => ({ key, value: createValue() }))
  );
  const what = isUuid ? "uuid" : "number";
  const facts = entries.map(({ key, value }, i) => ({
    sentence: ` One of the special magic ${what}s for ${key} is: ${value}.`,
    depth: i === 0 ? depth : random(1_000_001) / 1_000_000,
  }));
  const asked = kind === "multiquery" ? keys : keys.slice(0, 1);
  const expected = entries.filter(({ key }) => asked.includes(key)).map(({ value }) => value);
  const about = `for ${joinNames(asked)} mentioned in the text`;
  return expected.length === 1
    ? {
      facts,
      question: `\nWhat is the special magic ${what} ${about}?`,
      answerPrefix: ` The special magic ${what} ${about} is`,
      expected,
    }
    : {
      facts,
      question: `\nWhat are all the special magic ${what}s ${about}?`,
      answerPrefix: ` The special magic ${what}s ${about} are`,
      expected,
    };
}

/** `a`, `a, and b`, `a, b, and c`: as RULER lists what it asks for. */
export function joinNames(names: readonly string[]): string {
  return names.length === 1 ? names[0]! : `${names.slice(0, -1).join(", ")}, and ${names.at(-1)!}`;
}

/** A random UUID of version 4. */
export function createUuid(random: Random): string {
  const hex = Array.from({ length: 32 }, (_, i) => {
    const digit = random(16);
    return (i === 12 ? 4 : i === 16 ? 8 + (digit & 3) : digit).toString(16);
  }).join("");
  return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]]
    .map(([from, to]) => hex.slice(from, to)).join("-");
}

/** FNV-1a of a text's UTF-16 units, u32. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash;
}
