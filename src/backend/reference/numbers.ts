/**
 * Numbers as files and KV caches keep them: f32, f16 or bf16, little-endian like every host.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";

/** An array of numbers in some format; 16-bit ones as their bits. */
export interface Numbers {
  readonly format: WeightFormat;
  readonly data: Float32Array | Uint16Array;
}

/** What one number occupies. */
export function bytesPerNumber(format: WeightFormat): number {
  return format === "f32" ? 4 : 2;
}

/** Room for `length` numbers. */
export function createNumbers(format: WeightFormat, length: number): Numbers {
  return { format, data: format === "f32" ? new Float32Array(length) : new Uint16Array(length) };
}

/** The same numbers, elsewhere. */
export function cloneNumbers({ format, data }: Numbers): Numbers {
  return { format, data: data.slice() };
}

/** out[i] = numbers[start + i], exactly. */
export function unpack(out: Float64Array, { format, data }: Numbers, start: number): void {
  for (let i = 0; i < out.length; i++) {
    const stored = data[start + i]!;
    out[i] = format === "f32" ? stored : format === "f16" ? fromF16(stored) : fromBf16(stored);
  }
}

/** numbers[start + i] = values[i], rounded to the nearest number there is. KV caches have no bf16. */
export function pack(numbers: Numbers, start: number, values: Float32Array): void {
  const { format, data } = numbers;
  for (let i = 0; i < values.length; i++) {
    data[start + i] = format === "f32" ? values[i]! : toF16(values[i]!);
  }
}

/** The value of IEEE 754 binary16 bits: 1 sign, 5 exponent (bias 15), 10 fraction. */
export function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = bits >> 10 & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  // Below the smallest exponent the leading 1 is missing and the scale stays.
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The value of bfloat16 bits: the upper half of an f32. */
export function fromBf16(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratch[0]!;
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/**
 * The binary16 bits nearest to an f32 value; halfway goes to the even fraction (IEEE 754,
 * roundTiesToEven), and from 65520 on to infinity.
 */
export function toF16(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0]!;
  const sign = bits >>> 16 & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // A fraction that rounds up to 2048 (or a subnormal to 1024) carries into the exponent by itself.
  if (size < 2 ** -14) return sign | roundTiesToEven(size * 2 ** 24);
  const exponent = (bits >>> 23 & 255) - 127;
  return sign | (exponent + 14 << 10) + roundTiesToEven(size * 2 ** (10 - exponent));
}

function roundTiesToEven(x: number): number {
  const up = Math.round(x); // Halves go up.
  return up - x === 0.5 && up % 2 === 1 ? up - 1 : up;
}
