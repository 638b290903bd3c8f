/**
 * The numbers in GGUF's blocks, one at a time, as ggml-common.h lays them out (`block_q4_K` and the
 * others) and its dequantisation reads them.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";
import { fromF16 } from "./f16.ts";

/** Number `i` of a block, exactly: f32 may have to round where there is a minimum. */
export function numberOfBlock(format: WeightFormat, block: Uint8Array, i: number): number {
  const half = (at: number) => fromF16(block[at]! | block[at + 1]! << 8);
  /** Half a byte of 16 from `at` on: first the lower ones, then the upper. */
  const nibble = (at: number) => block[at + i % 16]! >> (i < 16 ? 0 : 4) & 15;
  const bit = (at: number) => block[at + (i >> 3)]! >> (i & 7) & 1;
  switch (format) {
    case "q8_0":
      return half(0) * (block[2 + i]! << 24 >> 24);
    case "q4_0":
      return half(0) * (nibble(2) - 8);
    case "q4_1":
      return half(0) * nibble(4) + half(2);
    case "q5_0":
      return half(0) * ((nibble(6) | bit(2) << 4) - 16);
    case "q5_1":
      return half(0) * (nibble(8) | bit(4) << 4) + half(2);
    case "q4_k":
    case "q5_k": {
      const [part, place] = [i >> 5, i & 31];
      const { scale, minimum } = scalesOf(block.subarray(4, 16), part);
      const low = block[(format === "q4_k" ? 16 : 48) + 32 * (part >> 1) + place]!;
      const high = format === "q4_k" ? 0 : block[16 + place]! >> part & 1;
      const number = low >> 4 * (part & 1) & 15 | high << 4;
      return half(0) * scale * number - half(2) * minimum;
    }
    case "q6_k": {
      const [side, part, place] = [i >> 7, i >> 5 & 3, i & 31];
      const low = block[64 * side + 32 * (part & 1) + place]! >> 4 * (part >> 1) & 15;
      const high = block[128 + 32 * side + place]! >> 2 * part & 3;
      const scale = block[192 + (i >> 4)]! << 24 >> 24;
      return half(208) * scale * ((low | high << 4) - 32);
    }
    default:
      throw new TypeError(`Cannot read a number of a block: ${format} has none`);
  }
}

/** The six-bit scale and minimum of a part of 32 numbers: ggml's get_scale_min_k4. */
function scalesOf(bytes: Uint8Array, part: number): { scale: number; minimum: number } {
  if (part < 4) return { scale: bytes[part]! & 63, minimum: bytes[part + 4]! & 63 };
  return {
    scale: bytes[part + 4]! & 15 | bytes[part - 4]! >> 6 << 4,
    minimum: bytes[part + 4]! >> 4 | bytes[part]! >> 6 << 4,
  };
}
