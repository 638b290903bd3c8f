/**
 * Colours of a terminal that has all 24 bits of them.
 *
 * @module
 */

/** Colours as `#rrggbb`. */
export interface Colors {
  readonly ink?: string;
  readonly ground?: string;
}

/** Puts a text into colours, or leaves it as it is where there are none. */
export type Paint = (text: string, colors: Colors) => string;

/** No colours. */
export const plain: Paint = (text) => text;

/** The escape sequences of ISO 8613-6 that terminals know. */
export const inColors: Paint = (text, { ink, ground }) => {
  const codes = [
    ...(ink === undefined ? [] : [`38;2;${channels(ink).join(";")}`]),
    ...(ground === undefined ? [] : [`48;2;${channels(ground).join(";")}`]),
  ];
  return codes.length === 0 ? text : `\u001b[${codes.join(";")}m${text}\u001b[0m`;
};

/** The color at `part`, from 0 to 1, of the way through some colours. */
export function mix(colors: readonly string[], part: number): string {
  const at = Math.max(0, Math.min(1, part)) * (colors.length - 1);
  const before = Math.min(Math.floor(at), colors.length - 2);
  const [a, b] = [channels(colors[before]!), channels(colors[before + 1]!)];
  return "#" + a.map((value, i) => {
    const mixed = Math.round(value + (b[i]! - value) * (at - before));
    return mixed.toString(16).padStart(2, "0");
  }).join("");
}

function channels(color: string): number[] {
  return [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
}
