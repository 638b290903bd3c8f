/**
 * The recall trace: what each layer selected in each step, as JSON lines.
 *
 *     {"type":"header","version":1,"model":...,"scope":{...},"stepSize":64,"select":"ask",
 *       "selectLayers":[1,2],"inputs":["book.txt"]}
 *     {"type":"selection","step":9,"phase":"generate","layer":1,"length":812,"spans":[
 *       {"start":300,"end":316,"input":0,"startByte":790,"endByte":841}],
 *       "texts":[{"start":288,"pieces":["The"," pass"," key"," is",...]},...]}
 *     {"type":"end","length":815,"inputs":[{"name":"book.txt","byteLength":2100,"replacements":0}],
 *       "writing":{"start":790,"question":"What is ...","pieces":["\nWhat"," is",...]}}
 *
 * `start` and `end` are tokens of the sequence, `startByte` and `endByte` bytes of the input with
 * that index, as it was before invalid UTF-8 was replaced. A span that ends in another input says
 * so in `endInput`; one in the question, the answer or a loaded session has no bytes, and `input` is
 * null. With a selection per KV head there is a line for each, with its `kvHead`. A run that failed
 * ends in a line with `error`.
 *
 * `texts` quotes what was selected for the question and the answer, and a little around it: one piece
 * a token, the first of them that of token `start`. A stretch is quoted once, in the line that
 * selected it first, so a trace grows with what was selected, not with what was read. The piece of a
 * token that ends within a character is empty; the character is in the next. `writing` is the question
 * as the model read it, from token `start` on, and what it wrote, which the step whose `length` is the
 * index of a token chose.
 *
 * @module
 */

import type { SelectedSpan, SelectionRecord } from "../llama/selection_record.ts";
import type { TextFile } from "../system/system.ts";
import type { InputStretch } from "./inputs.ts";
import { toJsonLine } from "./json.ts";

/** Texts of consecutive tokens. */
export interface QuotedTokens {
  /** The first of them. */
  readonly start: number;
  /** One for each token. */
  readonly pieces: readonly string[];
}

/** Tokens that are quoted together: places are remembered by the block. */
const BLOCK = 32;

/** Tokens before and after a selected stretch that are quoted with it, at least. */
const AROUND = 16;

/** Writes a trace. Selections come faster than a file may take them: flush between steps. */
export interface Trace {
  /** To be handed to the session as `onSelect`. */
  readonly record: (record: SelectionRecord) => void;
  /** Waits until the file has taken everything so far. */
  flush(): Promise<void>;
  /** Adds a last line, and everything before it. */
  end(line: object): Promise<void>;
}

/**
 * @param locate Where a stretch of the session's text, in its UTF-8 bytes, was in the inputs; null
 * behind the last of them.
 * @param piecesOf The texts of tokens [start, end), one each; without it nothing is quoted.
 */
export function createTrace(
  file: TextFile,
  header: object,
  locate: (startByte: number, endByte: number) => InputStretch | null,
  piecesOf?: (start: number, end: number) => string[],
): Trace {
  let waiting = toJsonLine({ type: "header", version: 1, ...header });
  const place = ({ start, end, startByte, endByte }: SelectedSpan) => ({
    start,
    end,
    ...locate(startByte, endByte) ?? { input: null },
  });
  const quoted = new Set<number>(); // blocks
  const quote = (spans: readonly SelectedSpan[], length: number): QuotedTokens[] => {
    if (!piecesOf) return [];
    const texts: QuotedTokens[] = [];
    for (const { start, end } of spans) {
      const last = Math.floor((Math.min(end + AROUND, length) - 1) / BLOCK);
      for (let block = Math.floor(Math.max(start - AROUND, 0) / BLOCK); block <= last; block++) {
        if (quoted.has(block)) continue;
        quoted.add(block);
        const first = block * BLOCK;
        texts.push({ start: first, pieces: piecesOf(first, Math.min(first + BLOCK, length)) });
      }
    }
    return texts;
  };
  const flush = async () => {
    const text = waiting;
    waiting = "";
    if (text !== "") await file.write(text);
  };
  return {
    record({ step, phase, layer, length, spans }: SelectionRecord): void {
      spans.forEach((set, i) => {
        const kvHead = spans.length > 1 ? { kvHead: i } : {};
        const line = { type: "selection", step, phase, layer, ...kvHead, length };
        const texts = phase === "read" ? [] : quote(set, length);
        const quotes = texts.length > 0 ? { texts } : {};
        waiting += toJsonLine({ ...line, spans: set.map(place), ...quotes });
      });
    },
    flush,
    async end(line: object): Promise<void> {
      waiting += toJsonLine({ type: "end", ...line });
      await flush();
    },
  };
}
