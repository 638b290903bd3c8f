/**
 * Reports for programs.
 *
 * @module
 */

/** Indented JSON; what JSON has no number for (`Infinity` of full attention) becomes its name. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, nameInfinities, 2);
}

/** The same on one line. */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value, nameInfinities)}\n`;
}

function nameInfinities(_: string, value: unknown): unknown {
  return value === Infinity ? "Infinity" : value;
}
