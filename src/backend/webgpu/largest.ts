/**
 * A row's greatest numbers, found on the device, so that only they are read back.
 *
 * @module
 */

import type { Largest } from "../backend.ts";
import type { DeviceBuffer } from "./device.ts";
import { lanes } from "./select.ts";
import { FILL } from "./shaders/fill.ts";
import { RANK } from "./shaders/rank.ts";
import { MERGE_PICKS, PART, TOP_K } from "./shaders/top_k.ts";
import type { WebGpuTensor } from "./tensor.ts";

/** The verb `largest`: see Backend. */
export async function largest(x: WebGpuTensor, count: number): Promise<Largest> {
  const { device } = x.owner;
  const { cols } = x;
  const most = Math.min(count, cols);
  const parts = Math.ceil(cols / PART);
  const perPart = Math.min(most, PART);
  const borrowed: DeviceBuffer[] = [];
  const borrow = (words: number) => {
    const buffer = device.allocate(words * 4, "the largest numbers of a row");
    borrowed.push(buffer);
    return buffer;
  };
  let words: Uint32Array;
  try {
    const ranks = borrow(cols);
    const lists = borrow(parts * perPart * 2);
    const before = borrow(most * 2);
    const picks = borrow(most * 2);
    const ends = borrow(2);
    device.run(RANK, { ranks, x: x.buffer }, { count: cols, xAt: x.offset }, lanes(cols));
    device.run(
      TOP_K,
      { lists, scores: ranks },
      { queries: 1, count: cols, stride: cols, most: perPart, parts, origin: 0 },
      [parts],
    );
    device.run(FILL, { out: before }, { count: most * 2 }, lanes(most * 2));
    device.run(
      MERGE_PICKS,
      { picks, ends, before, lists },
      { queries: 1, most, length: parts * perPart },
      [1],
    );
    words = new Uint32Array(await device.read(picks, 0, most * 8));
  } finally {
    for (const buffer of borrowed) device.release(buffer);
  }
  // They come in the row's order.
  const order = Array.from({ length: most }, (_, i) => i)
    .sort((a, b) => words[2 * b]! - words[2 * a]! || a - b);
  return {
    values: Float32Array.from(order, (i) => numberOf(words[2 * i]!)),
    indices: Uint32Array.from(order, (i) => words[2 * i + 1]!),
  };
}

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** The number of a rank: shaders/order.ts. */
function numberOf(rank: number): number {
  bits[0] = rank >= 2 ** 31 ? rank - 2 ** 31 : ~rank;
  return float[0]!;
}
