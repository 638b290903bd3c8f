/**
 * The recall trace: what each layer selected in each step, as JSON lines.
 *
 *     {"type":"header","version":1,"model":...,"scope":{...},"stepSize":64,"select":"ask",
 *       "selectLayers":[1,2],"inputs":["book.txt"]}
 *     {"type":"selection","step":9,"phase":"generate","layer":1,"length":812,"spans":[
 *       {"start":300,"end":316,"input":0,"startByte":790,"endByte":841}]}
 *     {"type":"end","length":815,"inputs":[{"name":"book.txt","byteLength":2100,"replacements":0}]}
 *
 * `start` and `end` are tokens of the sequence, `startByte` and `endByte` bytes of the input with
 * that index, as it was before invalid UTF-8 was replaced. A span that ends in another input says
 * so in `endInput`; one in the question, the answer or a loaded session has no bytes, and `input` is
 * null. With a selection per KV head there is a line for each, with its `kvHead`. A run that failed
 * ends in a line with `error`.
 *
 * @module
 */

import type { SelectedSpan, SelectionRecord } from "../llama/selection_record.ts";
import type { TextFile } from "../system/system.ts";
import type { InputStretch } from "./inputs.ts";
import { toJsonLine } from "./json.ts";

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
 */
export function createTrace(
  file: TextFile,
  header: object,
  locate: (startByte: number, endByte: number) => InputStretch | null,
): Trace {
  let waiting = toJsonLine({ type: "header", version: 1, ...header });
  const place = ({ start, end, startByte, endByte }: SelectedSpan) => ({
    start,
    end,
    ...locate(startByte, endByte) ?? { input: null },
  });
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
        waiting += toJsonLine({ ...line, spans: set.map(place) });
      });
    },
    flush,
    async end(line: object): Promise<void> {
      waiting += toJsonLine({ type: "end", ...line });
      await flush();
    },
  };
}
