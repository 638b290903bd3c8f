/**
 * Numbers to ggml's blocks with minima, superblocks or upper bits apart: Q4_1, Q5_0, Q5_1, Q4_K, Q5_K,
 * Q6_K, as ggml-common.h lays them out. Scales follow from the smallest and the largest number;
 * llama.cpp's own quantiser searches for better ones.
 *
 * @module
 */

import { fromHalf, toHalf } from "./half.ts";

/** A format of such blocks. */
export type BitFormat = "q4_1" | "q5_0" | "q5_1" | "q4_k" | "q5_k" | "q6_k";

/** Writes one block. */
export function encodeBits(format: BitFormat, values: Float32Array, out: Uint8Array): void {
  switch (format) {
    case "q4_1":
      return encodeRange(values, out, 15);
    case "q5_1":
      return encodeRange(values, out, 31);
    case "q5_0":
      return encodeSigned(values, out);
    case "q4_k":
    case "q5_k":
      return encodeSuper(values, out, format === "q4_k" ? 15 : 31);
    case "q6_k":
      return encodeHalves(values, out);
  }
}

/** What is nearest to value / step, from 0 to `most`. */
function level(value: number, step: number, most: number): number {
  return step === 0 ? 0 : Math.max(0, Math.min(most, Math.round(value / step)));
}

/** Writes an f16. @returns The number that it stands for. */
function putHalf(out: Uint8Array, at: number, value: number): number {
  const bits = toHalf(value);
  out[at] = bits & 0xff;
  out[at + 1] = bits >>> 8;
  return fromHalf(bits);
}

function range(values: Float32Array): readonly [least: number, most: number] {
  return [
    values.reduce((least, x) => Math.min(least, x), Infinity),
    values.reduce((most, x) => Math.max(most, x), -Infinity),
  ];
}

/** The number of the largest magnitude, with its sign. */
function extremeOf(values: Float32Array): number {
  return values.reduce((found, x) => Math.abs(x) > Math.abs(found) ? x : found, 0);
}

/** Lower halves in the last 16 bytes, upper bits in the four before them. */
function putLevels(out: Uint8Array, levels: readonly number[], upper: boolean): void {
  const at = out.length - 16;
  levels.forEach((number, i) => {
    out[at + i % 16]! |= (number & 15) << (i < 16 ? 0 : 4);
    if (upper) out[at - 4 + (i >> 3)]! |= number >> 4 << (i & 7);
  });
}

/** Q4_1 and Q5_1: steps from the smallest number to the largest. */
function encodeRange(values: Float32Array, out: Uint8Array, most: number): void {
  const [least, largest] = range(values);
  out.fill(0);
  const step = putHalf(out, 0, (largest - least) / most);
  const minimum = putHalf(out, 2, least);
  putLevels(out, Array.from(values, (x) => level(x - minimum, step, most)), most === 31);
}

/** Q5_0: the extreme becomes -16, whatever its sign. */
function encodeSigned(values: Float32Array, out: Uint8Array): void {
  out.fill(0);
  const step = putHalf(out, 0, extremeOf(values) / -16);
  putLevels(out, Array.from(values, (x) => level(x + 16 * step, step, 31)), true);
}

/** Q4_K and Q5_K: parts of 32, whose steps and minima are 63rds of the largest of eight. */
function encodeSuper(values: Float32Array, out: Uint8Array, most: number): void {
  const parts = Array.from({ length: 8 }, (_, part) => values.subarray(32 * part, 32 * part + 32));
  const ranges = parts.map((part) => range(part)).map(([least, largest]) => {
    const minimum = Math.max(0, -least);
    return { minimum, step: (largest + minimum) / most };
  });
  out.fill(0);
  const d = putHalf(out, 0, Math.max(...ranges.map(({ step }) => step)) / 63);
  const dMinimum = putHalf(out, 2, Math.max(...ranges.map(({ minimum }) => minimum)) / 63);
  const lowAt = most === 15 ? 16 : 48;
  for (const [b, part] of parts.entries()) {
    const scale = level(ranges[b]!.step, d, 63);
    const minimum = level(ranges[b]!.minimum, dMinimum, 63);
    if (b < 4) {
      out[4 + b]! |= scale;
      out[8 + b]! |= minimum;
    } else {
      out[8 + b]! = scale & 15 | (minimum & 15) << 4;
      out[b]! |= scale >> 4 << 6;
      out[4 + b]! |= minimum >> 4 << 6;
    }
    part.forEach((x, i) => {
      const number = level(x + dMinimum * minimum, d * scale, most);
      out[lowAt + 32 * (b >> 1) + i]! |= (number & 15) << 4 * (b & 1);
      if (most === 31) out[16 + i]! |= number >> 4 << b;
    });
  }
}

/** Q6_K: parts of 16, whose steps are 128ths of the largest of sixteen. */
function encodeHalves(values: Float32Array, out: Uint8Array): void {
  const parts = Array.from({ length: 16 }, (_, part) => values.subarray(16 * part, 16 * part + 16));
  const steps = parts.map((part) => extremeOf(part) / -32);
  out.fill(0);
  const d = putHalf(out, 208, extremeOf(Float32Array.from(steps)) / -128);
  for (const [p, part] of parts.entries()) {
    const scale = d === 0 ? 0 : Math.max(-128, Math.min(127, Math.round(steps[p]! / d)));
    out[192 + p] = scale;
    part.forEach((x, i) => {
      const number = level(x + 32 * d * scale, d * scale, 63);
      const [side, k, place] = [p >> 3, p >> 1 & 3, 16 * (p & 1) + i];
      out[64 * side + 32 * (k & 1) + place]! |= (number & 15) << (k < 2 ? 0 : 4);
      out[128 + 32 * side + place]! |= number >> 4 << 2 * k;
    });
  }
}
