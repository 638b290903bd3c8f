/**
 * Numbers as files and KV caches keep them: f32, f16, bf16 or GGUF's blocks, little-endian like every
 * host.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";
import { fromF16 } from "./f16.ts";
import { numberOfBlock } from "./blocks.ts";

/** An array of numbers in some format; 16-bit ones as their bits, blocks as their bytes. */
export interface Numbers {
  readonly format: WeightFormat;
  readonly data: Float32Array | Uint16Array | Uint8Array;
}

/** What a format packs together: so many numbers in so many bytes. */
const BLOCKS: Readonly<Record<WeightFormat, { readonly numbers: number; readonly bytes: number }>> =
  {
    f32: { numbers: 1, bytes: 4 },
    f16: { numbers: 1, bytes: 2 },
    bf16: { numbers: 1, bytes: 2 },
    q8_0: { numbers: 32, bytes: 34 },
    q4_0: { numbers: 32, bytes: 18 },
    q4_1: { numbers: 32, bytes: 20 },
    q5_0: { numbers: 32, bytes: 22 },
    q5_1: { numbers: 32, bytes: 24 },
    q4_k: { numbers: 256, bytes: 144 },
    q5_k: { numbers: 256, bytes: 176 },
    q6_k: { numbers: 256, bytes: 210 },
  };

/** Numbers of a block: rows are multiples of it. */
export function numbersPerBlock(format: WeightFormat): number {
  return BLOCKS[format].numbers;
}

/** What `length` numbers occupy, a multiple of {@linkcode numbersPerBlock}. */
export function bytesOf(format: WeightFormat, length: number): number {
  const { numbers, bytes } = BLOCKS[format];
  return length / numbers * bytes;
}

/** Room for `length` numbers. */
export function createNumbers(format: WeightFormat, length: number): Numbers {
  if (format === "f32") return { format, data: new Float32Array(length) };
  if (format === "f16" || format === "bf16") return { format, data: new Uint16Array(length) };
  return { format, data: new Uint8Array(bytesOf(format, length)) };
}

/** The same numbers, elsewhere. */
export function cloneNumbers({ format, data }: Numbers): Numbers {
  return { format, data: data.slice() };
}

/** out[i] = numbers[start + i], exactly. */
export function unpack(out: Float64Array, numbers: Numbers, start: number): void {
  const { format, data } = numbers;
  if (data instanceof Uint8Array) {
    for (let i = 0; i < out.length; i++) out[i] = inBlock(format, data, start + i);
    return;
  }
  for (let i = 0; i < out.length; i++) {
    const stored = data[start + i]!;
    out[i] = format === "f32" ? stored : format === "f16" ? fromF16(stored) : fromBf16(stored);
  }
}

/** Number i of blocks. */
function inBlock(format: WeightFormat, data: Uint8Array, i: number): number {
  const { numbers, bytes } = BLOCKS[format];
  const start = Math.floor(i / numbers) * bytes;
  return numberOfBlock(format, data.subarray(start, start + bytes), i % numbers);
}

/** numbers[start + i] = values[i], rounded to the nearest number there is. KV caches have no bf16. */
export function pack(numbers: Numbers, start: number, values: Float32Array): void {
  const { format, data } = numbers;
  for (let i = 0; i < values.length; i++) {
    data[start + i] = format === "f32" ? values[i]! : toF16(values[i]!);
  }
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
