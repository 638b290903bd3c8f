/**
 * What the KV cache costs.
 *
 * @module
 */

import type { AttentionShape, KvFormat } from "./backend.ts";

/**
 * Keys and values of a token in all layers, in bytes, as the machines that are fast keep them
 * (asm/kv_layout.ts): heads are padded to multiples of four.
 *
 * @example Usage
 * ```ts
 * import { kvBytesPerToken } from "./kv_bytes.ts";
 * import { equal } from "node:assert/strict";
 *
 * // Llama-3.2-1B: 2 + 2 bytes a number, and 4 a key for its scale.
 * equal(kvBytesPerToken({ numLayers: 16, numKvHeads: 8, headDim: 64 }, "i16"), 33_280);
 * ```
 */
export function kvBytesPerToken(
  { numLayers, numKvHeads, headDim }: Pick<AttentionShape, "numLayers" | "numKvHeads" | "headDim">,
  format: KvFormat,
): number {
  const numbers = 4 * Math.ceil(headDim / 4);
  const exactKey = format === "i16" ? 1 : 4;
  const value = format === "i16" ? 2 : 4;
  const scale = 4;
  return numLayers * numKvHeads * (numbers * (1 + exactKey + value) + scale);
}
