/**
 * GGUF's blocks, as ggml-common.h has them, in parts that share a scale and a minimum.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";
import { fromHalf } from "./halves.ts";

/** number = scale * numbers[i] + minimum, of its part. */
export interface BlockNumbers {
  readonly numbers: Int8Array; // i8[256], or what the format's block has
  readonly scales: Float64Array; // f64[16]; f32 holds them exactly
  readonly minima: Float64Array;
  /** Numbers of a part. */
  share: number;
}

/** An empty block, to be read into. */
export function newBlock(): BlockNumbers {
  return {
    numbers: new Int8Array(256),
    scales: new Float64Array(16),
    minima: new Float64Array(16),
    share: 32,
  };
}

/** Reads the block that begins at a byte. */
export function readBlock(
  out: BlockNumbers,
  format: WeightFormat,
  file: Uint8Array,
  at: number,
): void {
  const { numbers, scales, minima } = out;
  const half = (offset: number) => fromHalf(file[at + offset]! | file[at + offset + 1]! << 8);
  /** Half a byte of 16 from an offset on: first the lower ones, then the upper. */
  const nibble = (offset: number, i: number) =>
    file[at + offset + (i & 15)]! >> (i < 16 ? 0 : 4) & 15;
  const bit = (offset: number, i: number) => file[at + offset + (i >> 3)]! >> (i & 7) & 1;
  const fill = (count: number, number: (i: number) => number) => {
    for (let i = 0; i < count; i++) numbers[i] = number(i);
  };
  out.share = 32;
  scales[0] = half(0);
  minima[0] = 0;
  switch (format) {
    case "q8_0":
      return fill(32, (i) => file[at + 2 + i]!);
    case "q4_0":
      return fill(32, (i) => nibble(2, i) - 8);
    case "q4_1":
      minima[0] = half(2);
      return fill(32, (i) => nibble(4, i));
    case "q5_0":
      return fill(32, (i) => (nibble(6, i) | bit(2, i) << 4) - 16);
    case "q5_1":
      minima[0] = half(2);
      return fill(32, (i) => nibble(8, i) | bit(4, i) << 4);
    case "q4_k":
    case "q5_k": {
      const [scale, minimum] = [half(0), half(2)];
      for (let part = 0; part < 8; part++) {
        const six = sixBits(file, at + 4, part);
        scales[part] = scale * six.scale;
        minima[part] = -(minimum * six.minimum);
      }
      const lows = format === "q4_k" ? 16 : 48;
      return fill(256, (i) => {
        const [part, place] = [i >> 5, i & 31];
        const low = file[at + lows + 32 * (part >> 1) + place]! >> 4 * (part & 1) & 15;
        return format === "q4_k" ? low : low | (file[at + 16 + place]! >> part & 1) << 4;
      });
    }
    case "q6_k": {
      out.share = 16;
      const scale = half(208);
      for (let part = 0; part < 16; part++) {
        scales[part] = scale * (file[at + 192 + part]! << 24 >> 24);
        minima[part] = 0;
      }
      return fill(256, (i) => {
        const [side, part, place] = [i >> 7, i >> 5 & 3, i & 31];
        const low = file[at + 64 * side + 32 * (part & 1) + place]! >> 4 * (part >> 1) & 15;
        const high = file[at + 128 + 32 * side + place]! >> 2 * part & 3;
        return (low | high << 4) - 32;
      });
    }
    default:
      throw new TypeError(`Cannot read a block: ${format} has none`);
  }
}

/** The six-bit scale and minimum of a part of 32 numbers: ggml's get_scale_min_k4. */
export function sixBits(
  file: Uint8Array,
  at: number,
  part: number,
): { scale: number; minimum: number } {
  const byte = (i: number) => file[at + i]!;
  if (part < 4) return { scale: byte(part) & 63, minimum: byte(part + 4) & 63 };
  return {
    scale: byte(part + 4) & 15 | byte(part - 4) >> 6 << 4,
    minimum: byte(part + 4) >> 4 | byte(part) >> 6 << 4,
  };
}
