/**
 * The bytes that a vocabulary's tokens stand for.
 *
 * @module
 */

import type { AddedToken } from "./added_tokens.ts";
import { fromByteAlphabet } from "./byte_alphabet.ts";
import { METASPACE } from "./normalization.ts";

/** The bytes of all tokens in one array, and where each starts: u32[vocabSize + 1]. */
export function tokenBytesOf(
  entries: readonly [string, number][],
  added: readonly AddedToken[],
  vocabSize: number,
  kind: { readonly byteLevel: boolean; readonly metaspace: boolean },
): { readonly data: Uint8Array; readonly offsets: Uint32Array } {
  const encoder = new TextEncoder();
  // In the order in which they come: an array of its own for each token would take ten times as much.
  let spelled = new Uint8Array(8 * vocabSize);
  let end = 0;
  const starts = new Uint32Array(vocabSize);
  const lengths = new Uint32Array(vocabSize);
  const put = (id: number, bytes: Uint8Array) => {
    if (end + bytes.length > spelled.length) {
      const longer = new Uint8Array(2 * (end + bytes.length));
      longer.set(spelled.subarray(0, end));
      spelled = longer;
    }
    spelled.set(bytes, end);
    starts[id] = end;
    lengths[id] = bytes.length;
    end += bytes.length;
  };
  const asText = (content: string) =>
    encoder.encode(kind.metaspace ? content.replaceAll(METASPACE, " ") : content);
  for (const [content, id] of entries) {
    const byte = /^<0x([0-9A-F]{2})>$/.exec(content);
    if (kind.byteLevel) put(id, fromByteAlphabet(content) ?? encoder.encode(content));
    else if (byte !== null) put(id, Uint8Array.of(parseInt(byte[1]!, 16)));
    else put(id, asText(content));
  }
  for (const { content, id } of added) put(id, asText(content));

  const offsets = new Uint32Array(vocabSize + 1);
  for (let id = 0; id < vocabSize; id++) offsets[id + 1] = offsets[id]! + lengths[id]!;
  const data = new Uint8Array(offsets[vocabSize]!);
  for (let id = 0; id < vocabSize; id++) {
    data.set(spelled.subarray(starts[id], starts[id]! + lengths[id]!), offsets[id]);
  }
  return { data, offsets };
}
