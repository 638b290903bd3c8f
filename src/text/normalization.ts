/**
 * What a tokenizer does to text before it looks at it, done to a text that is still arriving.
 *
 * @module
 */

/** The Unicode normalization forms. */
export type UnicodeForm = "NFC" | "NFD" | "NFKC" | "NFKD";

/** The steps that are supported, in the order in which they happen. */
export interface Normalization {
  /** Put before every section (a stretch of text between added tokens); mostly `"▁"`. */
  readonly prefix: string;
  /** Applied one after the other. */
  readonly forms: readonly UnicodeForm[];
  /** Whether spaces become `"▁"` here. */
  readonly replacesSpaces: boolean;
  /** Whether `"▁"` reads as a space, wherever spaces become it. */
  readonly metaspace: boolean;
}

/** SentencePiece's visible space. */
export const METASPACE = "\u2581";

/** A stretch of text whose length in bytes normalization has changed. */
export interface LengthChange {
  /** Where it ends, in UTF-16 units of the normalized text. */
  readonly end: number;
  /** By how many bytes the input was longer; negative where it was shorter. */
  readonly bytes: number;
}

/** Marks that are looked back over to see whether a character joins what is before it. */
const MAX_LOOK_BACK = 32;

/** The length of a text in UTF-8, in bytes; a lone surrogate counts as U+FFFD. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) bytes += 1;
    else if (unit >= 0xd800 && unit < 0xdc00 && isLowSurrogate(text.charCodeAt(i + 1))) {
      bytes += 2;
      i++;
    } else bytes += 2;
  }
  return bytes;
}

/** Whether a UTF-16 unit is the first half of a pair. */
export function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}

/** Whether a UTF-16 unit is the second half of a pair. */
export function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}

/**
 * Whether a text may be normalized in two parts, [0, at) and the rest: nothing from `at` on
 * composes with, or is reordered before, anything before it.
 *
 * @param at A UTF-16 index within the text.
 */
export function isNormalizationBoundary(
  text: string,
  at: number,
  forms: readonly UnicodeForm[],
): boolean {
  const unit = text.charCodeAt(at);
  if (isLowSurrogate(unit) && isHighSurrogate(text.charCodeAt(at - 1))) return false;
  // Everything below the combining marks is a starter that composes with nothing before it.
  if (forms.length === 0 || unit < 0x300) return true;
  const next = String.fromCodePoint(text.codePointAt(at)!);
  // Marks may be reordered, also those that a compatibility character turns into.
  if (/^\p{M}/u.test(next) || /^\p{M}/u.test(next.normalize("NFKD"))) return false;
  const before = text.slice(Math.max(0, at - MAX_LOOK_BACK), at);
  return forms.every((form) =>
    (before + next).normalize(form) === before.normalize(form) + next.normalize(form)
  );
}

/**
 * The last place at or before `end` where a text that goes on may be normalized in two parts.
 *
 * @returns A UTF-16 index; 0 where there is none after the start.
 */
export function lastNormalizationBoundary(
  text: string,
  end: number,
  forms: readonly UnicodeForm[],
): number {
  // Without the character behind it, a place is no boundary yet: that one could be a mark.
  let at = forms.length > 0 ? Math.min(end, text.length - 1) : end;
  if (at === text.length) return isHighSurrogate(text.charCodeAt(at - 1)) ? at - 1 : at;
  while (at > 0 && !isNormalizationBoundary(text, at, forms)) at--;
  return Math.max(0, at);
}

/**
 * Normalizes a part of a text that ends at a boundary; the prefix is not its business.
 *
 * @param changes Receives where lengths in bytes changed, `offset` added to the places.
 */
export function normalize(
  part: string,
  normalization: Normalization,
  offset: number,
  changes: LengthChange[],
): string {
  let text = part;
  for (const form of normalization.forms) text = text.normalize(form);
  // A visible space of the input's own has 3 bytes there, but counts as the space that it will read as.
  if (text !== part) segmentChanges(part, normalization, offset, changes);
  else if (normalization.metaspace) literalMetaspaces(part, offset, changes);
  return normalization.replacesSpaces ? text.replaceAll(" ", METASPACE) : text;
}

/** Finds which short stretches a Unicode form has changed. */
function segmentChanges(
  part: string,
  { forms, metaspace }: Normalization,
  offset: number,
  changes: LengthChange[],
): void {
  let length = offset;
  for (let start = 0, end = 1; start < part.length; start = end++) {
    while (end < part.length && !isNormalizationBoundary(part, end, forms)) end++;
    const segment = part.slice(start, end);
    let text = segment;
    for (const form of forms) text = text.normalize(form);
    length += text.length;
    const bytes = utf8Length(segment) - readLength(text, metaspace);
    if (bytes !== 0) changes.push({ end: length, bytes });
  }
}

function literalMetaspaces(part: string, offset: number, changes: LengthChange[]): void {
  for (let at = part.indexOf(METASPACE); at >= 0; at = part.indexOf(METASPACE, at + 1)) {
    changes.push({ end: offset + at + 1, bytes: 2 });
  }
}

/** The length in bytes that a normalized text reads as: a visible space is a space. */
export function readLength(text: string, metaspace: boolean): number {
  let bytes = utf8Length(text);
  if (!metaspace) return bytes;
  for (let at = text.indexOf(METASPACE); at >= 0; at = text.indexOf(METASPACE, at + 1)) bytes -= 2;
  return bytes;
}
