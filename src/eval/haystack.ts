/**
 * A seeded haystack: prose without end in the register of the last century but one, with needles
 * of the embedded model's kinds at given depths. Own word lists, own grammar, bounded memory; the
 * same seed gives the same text on every runtime.
 *
 * @module
 */

import { mulberry32 } from "../llama/random.ts";
import { SCENES, TALK, WORDS } from "./haystack_words.ts";

/** Integers from 0 to `below` - 1. */
export type Random = (below: number) => number;

/** A source of integers. Two seeds that differ give unrelated ones. */
export function seededRandom(seed: number): Random {
  const random = mulberry32(Math.imul(seed ^ 0x9E3779B9, 0x85EBCA6B));
  return (below) => Math.floor(random() * below);
}

/** The facts that the embedded model was trained to look up. */
export const NEEDLE_KINDS = ["magic", "passkey", "city", "date", "word"] as const;

/** One of {@linkcode NEEDLE_KINDS}. */
export type NeedleKind = typeof NEEDLE_KINDS[number];

/** A fact to hide in a text. */
export interface Needle {
  readonly kind: NeedleKind;
  /** What it is about, e.g. `quiet-falcon`; empty for the pass key. */
  readonly key: string;
  /** As it stands in the text, with the space before it. */
  readonly sentence: string;
  readonly question: string;
  /** The right answer, without its full stop. */
  readonly answer: string;
  /** Where to put it: 0 is the start of the text, 1 its end. */
  readonly depth: number;
}

/**
 * Facts about different things, at even depths from 0.05 to 0.95, in random order.
 *
 * Keys of magic numbers are pairs of words that the embedded model never saw as a key in training.
 *
 * @param kinds One needle for each.
 * @throws {RangeError} If more than one of them is a pass key, which has no name to tell it by.
 */
export function createNeedles(kinds: readonly NeedleKind[], seed: number): Needle[] {
  if (kinds.filter((kind) => kind === "passkey").length > 1) {
    throw new RangeError("Cannot create needles: there must be at most one pass key");
  }
  const random = seededRandom(seed);
  const depths = kinds.map((_, i) =>
    kinds.length === 1 ? 0.5 : 0.05 + 0.9 * i / (kinds.length - 1)
  );
  shuffle(depths, random);
  const used = new Set<string>();
  return kinds.map((kind, i) => {
    while (true) {
      const needle = createNeedle(kind, depths[i]!, random);
      const name = `${kind} ${needle.key}`;
      if (used.has(name)) continue;
      used.add(name);
      return needle;
    }
  });
}

function createNeedle(kind: NeedleKind, depth: number, random: Random): Needle {
  const word = (list: keyof typeof WORDS) => pick(WORDS[list], random);
  const digits = (count: number) => Array.from({ length: count }, () => random(10)).join("");
  const needle = (key: string, sentence: string, question: string, answer: string): Needle => ({
    kind,
    key,
    sentence,
    question,
    answer,
    depth,
  });
  switch (kind) {
    case "magic": {
      let key: string;
      do key = `${word("keyAdjective")}-${word("keyNoun")}`; while (!isUntrainedKey(key));
      const value = digits(7);
      return needle(
        key,
        ` One of the special magic numbers for ${key} is: ${value}.`,
        `What is the special magic number for ${key}?`,
        value,
      );
    }
    case "passkey": {
      const value = digits(5);
      return needle(
        "",
        ` The pass key is ${value}. Remember it. ${value} is the pass key.`,
        "What is the pass key?",
        value,
      );
    }
    case "city": {
      const key = word("city");
      const value = `${word("advice")} the ${word("keyAdjective")} ${word("keyNoun")}`;
      return needle(
        key,
        ` The best thing to do in ${key} is ${value}.`,
        `What is the best thing to do in ${key}?`,
        value,
      );
    }
    case "date": {
      const key = `${word("keyAdjective")} ${word("keyNoun")}`;
      const value = `${word("month")} ${1 + random(28)}, ${1500 + random(550)}`;
      return needle(
        key,
        ` The ${key} was found on ${value}.`,
        `When was the ${key} found?`,
        value,
      );
    }
    case "word": {
      const key = word("city");
      const value = `${word("keyAdjective")} ${word("keyNoun")}`;
      return needle(
        key,
        ` The secret word of ${key} is: ${value}.`,
        `What is the secret word of ${key}?`,
        value,
      );
    }
  }
}

/** One pair in eight was kept out of the embedded model's training, by this rule. */
function isUntrainedKey(key: string): boolean {
  let hash = 0;
  for (let i = 0; i < key.length; i++) hash = (hash * 131 + key.charCodeAt(i)) % 1000003;
  return hash % 8 === 0;
}

/** What to write. */
export interface HaystackOptions {
  readonly seed: number;
  /** Characters, at least; the last paragraph is finished. All are ASCII, so bytes as well. */
  readonly length: number;
  /** Facts to hide. Default: none. */
  readonly needles?: readonly Needle[];
}

/** A stretch of the text. */
export interface HaystackPiece {
  readonly text: string;
  /** The needle that `text` is, or null for prose. */
  readonly needle: Needle | null;
}

/**
 * Writes the text, sentence by sentence. A needle follows the first sentence that ends at or
 * beyond its depth.
 *
 * @throws {RangeError} If a depth is not within the text, or the length is not a count.
 *
 * @example Usage
 * ```ts
 * import { createNeedles, writeHaystack } from "./haystack.ts";
 * import { equal } from "node:assert/strict";
 *
 * const needles = createNeedles(["magic"], 1);
 * let text = "";
 * for (const piece of writeHaystack({ seed: 1, length: 10_000, needles })) text += piece.text;
 * equal(text.split(needles[0]!.sentence).length, 2);
 * ```
 */
export function* writeHaystack(options: HaystackOptions): Generator<HaystackPiece> {
  const { seed, length, needles = [] } = options;
  if (!Number.isSafeInteger(length) || length < 1) {
    throw new RangeError(
      `Cannot write a haystack: length must be 1 character or more, got ${length}`,
    );
  }
  for (const { depth } of needles) {
    if (!(depth >= 0 && depth <= 1)) {
      throw new RangeError(`Cannot write a haystack: depth must be from 0 to 1, got ${depth}`);
    }
  }
  const waiting = [...needles].sort((a, b) => a.depth - b.depth);
  let written = 0;
  for (const text of writeProse(seededRandom(seed))) {
    const isEnd = text === "\n";
    if (isEnd && written >= length) break;
    yield { text, needle: null };
    written += text.length;
    while (!isEnd && waiting.length > 0 && written >= waiting[0]!.depth * length) {
      const needle = waiting.shift()!;
      yield { text: needle.sentence, needle };
      written += needle.sentence.length;
    }
  }
  yield { text: "\n", needle: null };
}

/** Sentences (with the space between them) and, between paragraphs, "\n"; without end. */
function* writeProse(random: Random): Generator<string> {
  while (true) {
    // A chapter has its people and its place, so that names come back as they do in a novel.
    const people = Array.from({ length: 4 }, () => createPerson(random));
    const place = pick(WORDS.place, random);
    for (let paragraphs = 12 + random(24); paragraphs > 0; paragraphs--) {
      shuffle(people, random);
      const speech = random(3) === 0;
      const sentences = speech ? 1 + random(2) : 3 + random(5);
      for (let i = 0; i < sentences; i++) {
        const [a, b] = random(3) === 0 ? [people[1]!, people[0]!] : [people[0]!, people[1]!];
        const opening = !speech && random(4) === 0 ? "{opening} " : "";
        const form = opening + pick(speech ? TALK : SCENES, random);
        yield (i > 0 ? " " : "") + writeSentence(form, { a, b, place }, random);
      }
      yield "\n";
    }
  }
}

interface Person {
  readonly name: string;
  readonly he: string;
  readonly his: string;
  readonly him: string;
  readonly himself: string;
}

function createPerson(random: Random): Person {
  const surname = pick(WORDS.surname, random);
  return random(2) === 0
    ? {
      name: `${pick(WORDS.titleOfMen, random)} ${surname}`,
      he: "he",
      his: "his",
      him: "him",
      himself: "himself",
    }
    : {
      name: `${pick(WORDS.titleOfWomen, random)} ${surname}`,
      he: "she",
      his: "her",
      him: "her",
      himself: "herself",
    };
}

/**
 * Fills a form: `{noun}` is a word of that list, which may hold forms itself; `{A}`, `{a.his}`,
 * `{B}`, `{b.him}`, `{place}` are the people and the place.
 */
function writeSentence(
  form: string,
  scene: { readonly a: Person; readonly b: Person; readonly place: string },
  random: Random,
): string {
  const fill = (text: string): string =>
    text.replace(/\{([^}]+)\}/g, (_, name: string) => {
      if (name === "A") return scene.a.name;
      if (name === "B") return scene.b.name;
      if (name === "here") return scene.place;
      const [who, which] = name.split(".");
      if (which) return (who === "a" ? scene.a : scene.b)[which as keyof Person];
      return fill(pick(WORDS[name as keyof typeof WORDS], random));
    });
  const text = fill(form).replace(/\b([Aa]) (?=[aeiou])/g, "$1n ");
  return text.replace(
    /(^"?|[.!?] ")([a-z])/g,
    (_, before: string, first: string) => before + first.toUpperCase(),
  );
}

function pick<T>(list: readonly T[], random: Random): T {
  return list[random(list.length)]!;
}

function shuffle<T>(list: T[], random: Random): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
}
