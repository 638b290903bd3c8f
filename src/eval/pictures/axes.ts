/**
 * Numbers on axes, and what they mean.
 *
 * @module
 */

/** Lengths in words, and what the words mean. */
export interface LengthLabels {
  /** `1K = 1024 tokens`; null where all digits are there. */
  readonly unit: string | null;
  label(length: number): string;
}

/**
 * `16K` and `1M` where that is exact, of 1024 or of 1000; else all digits.
 *
 * @param lengths In tokens; all that the axis names.
 */
export function lengthLabels(lengths: readonly number[]): LengthLabels {
  for (const thousand of [1024, 1000]) {
    if (!lengths.every((length) => length % thousand === 0)) continue;
    return {
      unit: `1K = ${thousand} tokens`,
      label: (length) => {
        const million = thousand ** 2;
        return length >= million && length % (million / 4) === 0
          ? `${length / million}M`
          : `${length / thousand}K`;
      },
    };
  }
  return { unit: null, label: grouped };
}

/** `0 %`, `12.5 %`. */
export function depthLabel(depth: number): string {
  return `${Number((depth * 100).toFixed(1))} %`;
}

/** A score in percent, as it stands in a cell; 100 is only what was always right. */
export function scoreLabel(score: number): string {
  const percent = Math.round(score * 100);
  if (percent === 100 && score < 1) return "99";
  return percent === 0 && score > 0 ? "1" : String(percent);
}

/** `1`, `1 to 3`: from the least to the greatest. */
export function rangeLabel(values: readonly number[]): string {
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  return least === greatest ? `${least}` : `${least} to ${greatest}`;
}

/** Three digits that count and a unit of thousands: `950`, `16.4k`, `1.05M`, `0.0123`. */
export function shortNumber(value: number): string {
  const size = Math.abs(value);
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (size >= unit * 0.9995) return `${Number((value / unit).toPrecision(3))}${name}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
