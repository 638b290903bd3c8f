/**
 * Fields of a model's configuration, checked one by one as they are read.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import { show } from "../files/json.ts";

/** Throws a {@linkcode ModelFormatError} that ends in the message. */
export type Fail = (message: string) => never;

/** The {@linkcode Fail} of a file. */
export function failIn(name: string): Fail {
  return (message) => {
    throw new ModelFormatError(`Cannot use the model's configuration: ${message}`, name, 0);
  };
}

/** Fields by their names. Null counts as missing. */
export class Fields {
  readonly #get: (key: string) => unknown;
  readonly #fail: Fail;

  constructor(get: (key: string) => unknown, fail: Fail) {
    this.#get = get;
    this.#fail = fail;
  }

  /** Whether there is one. */
  has(key: string): boolean {
    return this.#get(key) != null;
  }

  /** An integer from 1 to `most`. */
  count(key: string, most: number, fallback?: number): number {
    return this.#number(
      key,
      fallback,
      `an integer from 1 to ${most}`,
      (n) => Number.isInteger(n) && n >= 1 && n <= most,
    );
  }

  /** Above 0 and below 1. */
  epsilon(key: string, fallback?: number): number {
    return this.#number(key, fallback, "above 0 and below 1", (n) => n > 0 && n < 1);
  }

  /** From `least` to `most`. */
  between(key: string, least: number, most: number, fallback?: number): number {
    return this.#number(key, fallback, `from ${least} to ${most}`, (n) => n >= least && n <= most);
  }

  /** True or false. */
  boolean(key: string, fallback: boolean): boolean {
    const value = this.#get(key) ?? fallback;
    return typeof value === "boolean"
      ? value
      : this.#fail(`"${key}" must be true or false, got ${show(value)}`);
  }

  #number(
    key: string,
    fallback: number | undefined,
    what: string,
    holds: (n: number) => boolean,
  ): number {
    const value = this.#get(key) ?? fallback;
    return typeof value === "number" && holds(value)
      ? value
      : this.#fail(`"${key}" must be ${what}, got ${show(value)}`);
  }
}
