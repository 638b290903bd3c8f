/**
 * What `reattention calibrate` measured, as a model's profile keeps it: the evidence for the layers
 * that select.
 *
 * @module
 */

import { asObject } from "../files/json.ts";

/** The evidence for a profile's `selectLayers`. */
export interface Calibration {
  /** Facts hidden in long texts; null where none were asked for. */
  readonly needles: {
    /** Questions that each set of layers was asked. */
    readonly questions: number;
    /** Tokens of the texts. */
    readonly lengths: readonly number[];
  } | null;
  /** A text read with selection in every step; null where there was none. */
  readonly prose: {
    /** Stretches of the text that were read. */
    readonly windows: number;
    /** Tokens of each. */
    readonly length: number;
    /** Tokens of all of them whose likelihood counts. */
    readonly scored: number;
  } | null;
  /** How much more loss than with all layers was accepted, as a share of it. */
  readonly tolerance: number;
  /** In the order of measuring: all layers first. */
  readonly sets: readonly CalibratedSet[];
}

/** What one set of selecting layers came to. */
export interface CalibratedSet {
  /** Ascending; empty where nothing selected. */
  readonly layers: readonly number[];
  /** Right answers where only the question and its answer select. */
  readonly right?: number;
  /** Right answers where every step of the reading selects as well. */
  readonly rightAlways?: number;
  /** Mean negative log-likelihood of a token of the prose, in nats. */
  readonly nll?: number;
}

/** The most sets that are kept, and layers of one. */
const MAX_SETS = 4096;

/**
 * Checks the evidence of a parsed `reattention.json`.
 *
 * @param numLayers Layers of the model.
 * @param fail Refuses the file, with a reason.
 */
export function parseCalibration(
  value: unknown,
  numLayers: number,
  fail: (message: string) => never,
): Calibration {
  const count = (value: unknown, what: string): number =>
    Number.isSafeInteger(value) && Number(value) >= 0
      ? Number(value)
      : fail(`${what} must be a count, got ${JSON.stringify(value)}`);
  const list = (value: unknown, what: string): readonly unknown[] =>
    Array.isArray(value) && value.length <= MAX_SETS
      ? value
      : fail(`${what} must be a list of at most ${MAX_SETS}`);
  const amount = (value: unknown, what: string): number =>
    typeof value === "number" && Number.isFinite(value) && value >= 0
      ? value
      : fail(`${what} must be a number of at least 0, got ${JSON.stringify(value)}`);
  const object = (value: unknown, what: string, known: readonly string[]) => {
    const fields = asObject(value) ?? fail(`${what} must be an object`);
    const unknown = Object.keys(fields).find((key) => !known.includes(key));
    if (unknown !== undefined) {
      fail(`${what} must have no other fields than ${known.join(", ")}, got "${unknown}"`);
    }
    return fields;
  };

  const what = '"calibration"';
  const fields = object(value, what, ["needles", "prose", "tolerance", "sets"]);
  const needles = fields["needles"] === null
    ? null
    : object(fields["needles"], `${what}.needles`, ["questions", "lengths"]);
  const prose = fields["prose"] === null
    ? null
    : object(fields["prose"], `${what}.prose`, ["windows", "length", "scored"]);
  return {
    needles: needles && {
      questions: count(needles["questions"], `${what}.needles.questions`),
      lengths: list(needles["lengths"], `${what}.needles.lengths`)
        .map((length) => count(length, `a length of ${what}.needles`)),
    },
    prose: prose && {
      windows: count(prose["windows"], `${what}.prose.windows`),
      length: count(prose["length"], `${what}.prose.length`),
      scored: count(prose["scored"], `${what}.prose.scored`),
    },
    tolerance: amount(fields["tolerance"], `${what}.tolerance`),
    sets: list(fields["sets"], `${what}.sets`).map((value, i) => {
      const name = `${what}.sets[${i}]`;
      const set = object(value, name, ["layers", "right", "rightAlways", "nll"]);
      const layers = list(set["layers"], `${name}.layers`)
        .map((layer) => count(layer, `a layer of ${name}`));
      if (layers.some((layer) => layer >= numLayers)) {
        fail(`a layer of ${name} must be below the model's ${numLayers} layers, got [${layers}]`);
      }
      const given = (key: string, read: (value: unknown, what: string) => number) =>
        set[key] === undefined ? {} : { [key]: read(set[key], `${name}.${key}`) };
      return {
        layers,
        ...given("right", count),
        ...given("rightAlways", count),
        ...given("nll", amount),
      };
    }),
  };
}
