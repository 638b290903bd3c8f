/**
 * How Python cuts and cleans text: the official scorers are written in it, and a score is the same
 * to the last digit only if white space, digits and words mean the same.
 *
 * @module
 */

// Unlike JavaScript's \s, Python's white space has U+001C to U+001F and U+0085, but not U+FEFF.
const SPACE =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const AROUND = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");
const SPACES = new RegExp(`[${SPACE}]+`);

/** A text without the white space around it: Python's `strip()`. */
export function strip(text: string): string {
  return text.replace(AROUND, "");
}

/** The words between white space, none of them empty: Python's `split()`. */
export function words(text: string): string[] {
  return text.split(SPACES).filter((word) => word !== "");
}

/** The runs of decimal digits of any script: Python's `re.findall(r"\d+", text)`. */
export function digitRuns(text: string): string[] {
  return text.match(/\p{Nd}+/gu) ?? [];
}

/** A text in which each of some strings became a space, one string after the other. */
export function blank(text: string, strings: readonly string[]): string {
  return strings.reduce((rest, string) => rest.replaceAll(string, " "), text);
}

/** Whether a character is one of ASCII's punctuation marks: Python's `string.punctuation`. */
export function isAsciiPunctuation(character: string): boolean {
  return /^[!-/:-@[-`{-~]$/.test(character);
}
