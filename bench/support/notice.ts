/**
 * What is left out is said, once, where it cannot be overlooked.
 *
 * @module
 */

const said = new Set<string>();

/** Says that something is not measured, and why. */
export function notice(text: string): void {
  if (said.has(text)) return;
  said.add(text);
  console.error(`!! ${text}`);
}

/** All that was said so far: for the report. */
export function notices(): readonly string[] {
  return [...said];
}

/** The reason of a failure, on one line. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, " ").slice(0, 300);
}
