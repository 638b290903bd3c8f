/**
 * The vocabulary of a SentencePiece model file, as GGUF's metadata has it.
 *
 * @module
 */

import { readFileSync } from "node:fs";

/** Reads the pieces of a `tokenizer.model`: protocol buffers, field 1 is a piece. */
export function readSentencePiece(file: URL): Map<string, unknown> {
  const bytes = readFileSync(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tokens: string[] = [];
  const scores: number[] = [];
  const types: number[] = [];
  const varint = (at: number): [value: number, end: number] => {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return [value, at];
    }
  };
  /** Calls `use` for each field of [start, end). */
  const fields = (
    start: number,
    end: number,
    use: (field: number, at: number, end: number) => void,
  ) => {
    for (let at = start; at < end;) {
      const [tag, afterTag] = varint(at);
      const wire = tag & 7;
      let from = afterTag;
      let to: number;
      if (wire === 2) {
        const [length, afterLength] = varint(afterTag);
        from = afterLength;
        to = from + length;
      } else to = wire === 5 ? from + 4 : wire === 1 ? from + 8 : varint(from)[1];
      use(tag >> 3, from, to);
      at = to;
    }
  };
  fields(0, bytes.length, (field, start, end) => {
    if (field !== 1) return;
    let type = 1;
    fields(start, end, (part, from, to) => {
      if (part === 1) tokens.push(bytes.toString("utf8", from, to));
      else if (part === 2) scores.push(view.getFloat32(from, true));
      else if (part === 3) type = varint(from)[0];
    });
    types.push(type);
  });
  return new Map<string, unknown>([
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.scores", Float32Array.from(scores)],
    ["tokenizer.ggml.token_type", Int32Array.from(types)],
  ]);
}
