/**
 * `reattention.json`, beside a model's weights: the scope that fits it, the layers that select, and
 * the question forms that a model which only completes text was trained on.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import { asObject, shorten } from "../files/json.ts";
import { FULL_ATTENTION, resolveScope, type ScopeConfig } from "../reattention/scope.ts";
import { type Calibration, parseCalibration } from "./calibration.ts";
import { resolveSelectLayers } from "./select_layers.ts";
import type { StopRules } from "./stop_strings.ts";

/** What comes with a model beside its weights. */
export interface Profile {
  /** The scope that suits the model. */
  readonly scope?: ScopeConfig;
  /** Tokens per step while reading, under that scope. */
  readonly stepSize?: number;
  /** The layers that select, where not all do; ascending. Found by `reattention calibrate`. */
  readonly selectLayers?: readonly number[];
  /** What speaks for them. */
  readonly calibration?: Calibration;
  /** Tried in order. */
  readonly forms: readonly QuestionForm[];
}

/** How one kind of question is put to the model. */
export interface QuestionForm {
  /**
   * Ways to ask it, tried in order: text with `{holes}`, each name at most once. Letter case, the
   * amount of white space and punctuation at the end do not matter. A hole takes some text of one
   * line without a question mark, as little as will do.
   */
  readonly questions: readonly string[];
  /** What the model is given to complete; every hole in it is in every one of `questions`. */
  readonly completion: string;
  /** The answer ends before the first of these. */
  readonly stopBefore: readonly string[];
  /** The answer ends with the first of these. */
  readonly stopAfter: readonly string[];
}

/** A question in the form that the model was trained on, and where its answer ends. */
export interface Completion extends StopRules {
  readonly text: string;
}

/** The most forms of a profile, and the most ways to ask one. */
export const MAX_FORMS: number = 64;
/** The longest template, completion or stop string, in UTF-16 units. */
export const MAX_TEMPLATE_LENGTH: number = 1000;
/**
 * The longest question that is tried against the forms, in UTF-16 units: their questions are one
 * line.
 */
export const MAX_QUESTION_LENGTH: number = 1000;

const SCOPE_SIZES = ["globalSize", "localSize", "topK", "maxSpans", "spanSize"] as const;
const SCOPE_RULES = ["positions", "sharing", "scores", "selector", "votes", "voteEvery"] as const;

/**
 * Checks a parsed `reattention.json`.
 *
 * @param json The parsed file.
 * @param name The file's name, for messages.
 * @param numLayers Layers of the model; not given, any index of a layer will do.
 * @throws {ModelFormatError} If a field is unknown or not as it must be.
 */
export function parseProfile(
  json: unknown,
  name: string,
  numLayers: number = Infinity,
): Profile {
  const fail = (message: string): never => {
    throw new ModelFormatError(`Cannot use the model's profile: ${message}`, name, 0);
  };
  const known = ["scope", "stepSize", "selectLayers", "calibration", "forms"];
  const fields = readFields(json, "it", known, fail);
  const scope = fields["scope"] === undefined ? null : parseScope(fields["scope"], fail);
  const stepSize = fields["stepSize"];
  if (stepSize !== undefined && !(Number.isSafeInteger(stepSize) && Number(stepSize) >= 1)) {
    fail(`"stepSize" must be a count of tokens, at least 1, got ${show(stepSize)}`);
  }
  const { selectLayers, calibration } = fields;
  const forms = readList(fields["forms"] ?? [], '"forms"', fail);
  return {
    ...(scope === null ? {} : { scope }),
    ...(stepSize === undefined ? {} : { stepSize: Number(stepSize) }),
    ...(selectLayers === undefined
      ? {}
      : { selectLayers: parseSelectLayers(selectLayers, numLayers, fail) }),
    ...(calibration === undefined
      ? {}
      : { calibration: parseCalibration(calibration, numLayers, fail) }),
    forms: forms.map((form, i) => parseForm(form, `forms[${i}]`, fail)),
  };
}

type Fail = (message: string) => never;

function parseScope(value: unknown, fail: Fail): ScopeConfig {
  const fields = readFields(value, '"scope"', [...SCOPE_SIZES, ...SCOPE_RULES], fail);
  for (const size of SCOPE_SIZES) {
    if (typeof fields[size] !== "number") {
      fail(`"scope" must have the number "${size}", in tokens, got ${show(fields[size])}`);
    }
  }
  try {
    return resolveScope(fields as Partial<ScopeConfig>, FULL_ATTENTION);
  } catch (error) {
    return fail((error as Error).message);
  }
}

function parseSelectLayers(value: unknown, numLayers: number, fail: Fail): number[] {
  if (!Array.isArray(value)) {
    fail(`"selectLayers" must be a list of layers, the first is 0, got ${show(value)}`);
  }
  try {
    return resolveSelectLayers(value as number[], numLayers);
  } catch (error) {
    return fail((error as Error).message);
  }
}

function parseForm(value: unknown, what: string, fail: Fail): QuestionForm {
  const keys = ["questions", "completion", "stopBefore", "stopAfter"];
  const fields = readFields(value, what, keys, fail);
  const readStrings = (key: string) =>
    readList(fields[key] ?? [], `${what}.${key}`, fail)
      .map((text, i) => readString(text, `${what}.${key}[${i}]`, fail));
  const completion = readString(fields["completion"], `${what}.completion`, fail);
  const needed = parseTemplate(completion, `${what}.completion`, fail).holes;
  const questions = readStrings("questions");
  if (questions.length === 0) fail(`${what}.questions must have at least one question`);
  for (const question of questions) {
    const { literals, holes } = parseTemplate(question, `a question of ${what}`, fail);
    if (new Set(holes).size < holes.length) {
      fail(`a question of ${what} must have each hole once, got ${show(question)}`);
    }
    if (literals.slice(1, -1).some((literal) => normalize(literal) === "")) {
      fail(`holes in a question of ${what} must have text between them, got ${show(question)}`);
    }
    const missing = needed.find((hole) => !holes.includes(hole));
    if (missing !== undefined) {
      fail(
        `a question of ${what} must have the completion's hole {${missing}}, got ${show(question)}`,
      );
    }
  }
  return {
    questions,
    completion,
    stopBefore: readStrings("stopBefore"),
    stopAfter: readStrings("stopAfter"),
  };
}

function readFields(value: unknown, what: string, known: readonly string[], fail: Fail) {
  const fields = asObject(value) ?? fail(`${what} must be an object, got ${show(value)}`);
  const unknown = Object.keys(fields).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    fail(`${what} must have no other fields than ${known.join(", ")}, got ${show(unknown)}`);
  }
  return fields;
}

function readList(value: unknown, what: string, fail: Fail): readonly unknown[] {
  return Array.isArray(value) && value.length <= MAX_FORMS
    ? value
    : fail(`${what} must be a list of at most ${MAX_FORMS}, got ${show(value)}`);
}

function readString(value: unknown, what: string, fail: Fail): string {
  return typeof value === "string" && value !== "" && value.length <= MAX_TEMPLATE_LENGTH
    ? value
    : fail(`${what} must be a text of 1 to ${MAX_TEMPLATE_LENGTH} characters, got ${show(value)}`);
}

/**
 * Puts a question into the form that the model was trained on.
 *
 * Templates instead of regular expressions: they come from a file, and matching one takes time
 * linear in the question.
 *
 * @returns The text for the model to complete, or null where no form fits: then the question may go
 * as it is.
 *
 * @example Usage
 * ```ts
 * import { completeQuestion } from "./profile.ts";
 * import { equal } from "node:assert/strict";
 *
 * const profile = {
 *   forms: [{
 *     questions: ["Who wrote {book}"],
 *     completion: "\nWho wrote {book}? {book} was written by",
 *     stopBefore: ["\n"],
 *     stopAfter: ["."],
 *   }],
 * };
 * equal(
 *   completeQuestion(profile, "who wrote Emma?")?.text,
 *   "\nWho wrote Emma? Emma was written by",
 * );
 * equal(completeQuestion(profile, "Who are you?"), null);
 * ```
 */
export function completeQuestion(profile: Profile, question: string): Completion | null {
  if (question.length > MAX_QUESTION_LENGTH) return null;
  for (const form of profile.forms) {
    for (const template of form.questions) {
      const values = matchTemplate(template, question);
      if (values) {
        const { literals, holes } = splitTemplate(form.completion);
        const text = literals.map((literal, i) => literal + (values.get(holes[i] ?? "") ?? ""));
        return { text: text.join(""), before: form.stopBefore, after: form.stopAfter };
      }
    }
  }
  return null;
}

/** What the holes stand for, or null where the question has another form. */
function matchTemplate(template: string, question: string): ReadonlyMap<string, string> | null {
  const { literals, holes } = splitTemplate(normalize(template));
  const asked = normalize(question);
  const folded = foldCase(asked);
  const first = foldCase(literals[0]!);
  if (holes.length === 0) return folded === first ? new Map() : null;
  if (!folded.startsWith(first)) return null;

  // The leftmost place of each literal leaves the most text to those after it: no need to go back.
  const values = new Map<string, string>();
  let at = first.length;
  for (const [i, hole] of holes.entries()) {
    const literal = foldCase(literals[i + 1]!);
    const isLast = i === holes.length - 1;
    // A hole has at least one character, hence + 1.
    const end = isLast
      ? (folded.endsWith(literal) ? folded.length - literal.length : -1)
      : folded.indexOf(literal, at + 1);
    const value = asked.slice(at, Math.max(at, end)).trim();
    if (value === "" || value.includes("?")) return null;
    values.set(hole, value);
    at = end + literal.length;
  }
  return values;
}

/** One line, single spaces, nothing at the end but the last word. */
function normalize(text: string): string {
  return text.replace(/\s+/g, " ").trim().replace(/[\s?!.:]+$/, "");
}

/** Lower case, unit by unit, so that indices stay the same. */
function foldCase(text: string): string {
  let folded = "";
  for (let i = 0; i < text.length; i++) {
    const lower = text[i]!.toLowerCase();
    folded += lower.length === 1 ? lower : text[i]!;
  }
  return folded;
}

/** `literals[0] {holes[0]} literals[1] {holes[1]} ...`: one literal more than holes. */
function splitTemplate(template: string): { literals: string[]; holes: string[] } {
  const parts = template.split(/\{([^{}]*)\}/);
  return {
    literals: parts.filter((_, i) => i % 2 === 0),
    holes: parts.filter((_, i) => i % 2 === 1),
  };
}

function parseTemplate(template: string, what: string, fail: Fail) {
  const { literals, holes } = splitTemplate(template);
  const bad = holes.find((hole) => !/^[a-z]\w{0,30}$/i.test(hole)) ??
    literals.find((literal) => /[{}]/.test(literal));
  if (bad !== undefined) {
    fail(`${what} must have holes like {name} and no other braces, got ${show(template)}`);
  }
  return { literals, holes };
}

function show(value: unknown): string {
  return shorten(JSON.stringify(value) ?? "nothing");
}
