/**
 * What selections of several steps have in common.
 *
 * @module
 */

import type { SelectionRecord } from "../llama/selection_record.ts";

/** What is needed of a record to count its tokens. */
export interface TokenSelection {
  readonly layer: number;
  /** For the layer, or for each KV head. */
  readonly spans: readonly (readonly { readonly start: number; readonly end: number }[])[];
}

/** A stretch of tokens that was selected again and again. */
export interface SelectedStretch {
  /** First token. */
  readonly start: number;
  /** Token after the last. */
  readonly end: number;
  /** In how many steps its most frequent token was selected. */
  readonly steps: number;
}

/** How many steps of a layer selected something of a stretch of bytes. */
export function stepsThatSelected(
  records: readonly SelectionRecord[],
  layer: number,
  bytes: { readonly startByte: number; readonly endByte: number },
): number {
  return records.filter((record) =>
    record.layer === layer &&
    record.spans.flat().some((span) =>
      span.startByte < bytes.endByte && span.endByte > bytes.startByte
    )
  ).length;
}

/**
 * The stretches that a layer selected, the most frequent first; of equals the one that comes first
 * in the text.
 *
 * A stretch goes on from its most frequent token as long as its neighbours were selected at least
 * half as often.
 */
export function mostSelected(
  records: readonly TokenSelection[],
  layer: number,
): SelectedStretch[] {
  const steps = countSteps(records.filter((record) => record.layer === layer));
  const stretches: SelectedStretch[] = [];
  const taken = new Set<number>();
  const byFrequency = [...steps.keys()].sort((a, b) => steps.get(b)! - steps.get(a)! || a - b);
  for (const token of byFrequency) {
    if (taken.has(token)) continue;
    const most = steps.get(token)!;
    const belongs = (t: number) => (steps.get(t) ?? 0) * 2 >= most && !taken.has(t);
    let start = token;
    let end = token + 1;
    while (belongs(start - 1)) start--;
    while (belongs(end)) end++;
    for (let t = start; t < end; t++) taken.add(t);
    stretches.push({ start, end, steps: most });
  }
  return stretches;
}

/** In how many records each token was selected, by any KV head. */
function countSteps(records: readonly TokenSelection[]): Map<number, number> {
  const steps = new Map<number, number>();
  for (const { spans } of records) {
    const tokens = new Set<number>();
    for (const { start, end } of spans.flat()) {
      for (let t = start; t < end; t++) tokens.add(t);
    }
    for (const t of tokens) steps.set(t, (steps.get(t) ?? 0) + 1);
  }
  return steps;
}
