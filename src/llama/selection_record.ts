/**
 * What attention chose to read: the recall trace, one record per layer and step.
 *
 * @module
 */

/** A stretch of consecutive selected tokens. */
export interface SelectedSpan {
  /** First token of the sequence. */
  readonly start: number;
  /** Token after the last. */
  readonly end: number;
  /** Where the first token starts, in UTF-8 bytes of the text that was written to the session. */
  readonly startByte: number;
  /** Where the last token ends, in the same bytes. */
  readonly endByte: number;
}

/** Why a step was taken. */
export type StepPhase = "read" | "question" | "generate";

/** The selection of one layer in one step. Layers that do not select have no records. */
export interface SelectionRecord {
  /** Counts the session's steps from 0. */
  readonly step: number;
  readonly phase: StepPhase;
  readonly layer: number;
  /** Tokens in the sequence, those of the step included. */
  readonly length: number;
  /** One list for the layer, or one per KV head; ascending. */
  readonly spans: readonly (readonly SelectedSpan[])[];
}

/**
 * Runs of consecutive tokens, with the bytes they cover.
 *
 * @param tokens Ascending, no duplicates.
 * @param byteOffset Where a token starts; also asked for the token after the last.
 */
export function toSpans(
  tokens: Uint32Array,
  byteOffset: (token: number) => number,
): SelectedSpan[] {
  const spans: SelectedSpan[] = [];
  for (let i = 0; i < tokens.length;) {
    const start = tokens[i]!;
    let end = start;
    while (i < tokens.length && tokens[i] === end) {
      i++;
      end++;
    }
    spans.push({ start, end, startByte: byteOffset(start), endByte: byteOffset(end) });
  }
  return spans;
}
