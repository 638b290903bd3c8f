/**
 * Rows of q, k and v as files keep them, in the order that the backends know: heads one after the
 * other, and in each the rotated pairs half a head apart. Rows move whole, so their format does not
 * matter; a bias has rows of one number.
 *
 * @module
 */

import type { WeightSource } from "../backend/backend.ts";

/**
 * Some heads of a fused tensor.
 *
 * @param source The tensor.
 * @param headBytes What a head of it occupies.
 * @param heads Which of its heads, in the order wanted.
 * @param rows Rows of the result: those of its heads; 1 where `source` is a vector.
 * @param cols Its columns.
 */
export function pickHeads(
  source: WeightSource,
  headBytes: number,
  heads: readonly number[],
  { rows, cols }: { readonly rows: number; readonly cols: number },
): WeightSource {
  return {
    ...source,
    rows,
    cols,
    async read(target, byteOffset) {
      for (let filled = 0; filled < target.byteLength;) {
        const offset = byteOffset + filled;
        const inHead = offset % headBytes;
        const length = Math.min(headBytes - inHead, target.byteLength - filled);
        const from = heads[Math.floor(offset / headBytes)]! * headBytes + inHead;
        await source.read(target.subarray(filled, filled + length), from);
        filled += length;
      }
    },
  };
}

/**
 * Rows of q or k as GGUF keeps them, in Hugging Face's order. In each head GGUF has the two rows of
 * a rotated pair next to each other (row 2 i + s), Hugging Face half a head apart (row s * headDim
 * / 2 + i).
 */
export function inHalfSplitOrder(
  source: WeightSource,
  rowBytes: number,
  headDim: number,
): WeightSource {
  const headBytes = headDim * rowBytes;
  // A head at a time: at most a few megabytes, and one read of the file instead of one per row.
  let head = -1;
  let bytes: Promise<Uint8Array> | null = null;
  const readHead = (wanted: number): Promise<Uint8Array> => {
    if (wanted !== head || bytes === null) {
      const next = new Uint8Array(headBytes);
      head = wanted;
      bytes = source.read(next, wanted * headBytes).then(() => next);
    }
    return bytes;
  };
  return {
    ...source,
    async read(target, byteOffset) {
      let filled = 0;
      while (filled < target.byteLength) {
        const offset = byteOffset + filled;
        const from = await readHead(Math.floor(offset / headBytes));
        const row = Math.floor(offset % headBytes / rowBytes);
        const inRow = offset % rowBytes;
        const stored = 2 * (row % (headDim / 2)) + Math.floor(row / (headDim / 2));
        const length = Math.min(rowBytes - inRow, target.byteLength - filled);
        const start = stored * rowBytes + inRow;
        target.set(from.subarray(start, start + length), filled);
        filled += length;
      }
    },
  };
}
