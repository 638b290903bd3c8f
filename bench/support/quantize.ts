/**
 * Numbers to the formats of weight files, and back. After the definitions in ggml (the GGUF
 * specification's `ggml_type`): Q8_0 is blocks of 32 numbers, an f16 scale and 32 int8; Q4_0 an f16
 * scale and 16 bytes, the low halves the first 16 numbers, the high halves the others, 8 too large.
 * The others in blocks are in k_quants.ts.
 *
 * @module
 */

import type { WeightFormat } from "../../src/backend/backend.ts";
import { numberOfBlock } from "../../src/backend/reference/blocks.ts";
import { fromHalf, toHalf } from "./half.ts";
import { encodeBits } from "./k_quants.ts";

/** A format that weights are stored in. */
export type Format = WeightFormat;

/** What a format packs together: so many numbers in so many bytes. */
export const BLOCKS: Readonly<
  Record<Format, { readonly numbers: number; readonly bytes: number }>
> = {
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

/** What `numbers` numbers take, in bytes. */
export function bytesOf(format: Format, numbers: number): number {
  const block = BLOCKS[format];
  return numbers / block.numbers * block.bytes;
}

const word = new DataView(new ArrayBuffer(4));

/** The bf16 next to a finite number, ties to even. */
export function toBf16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  return bits + 0x7fff + (bits >>> 16 & 1) >>> 16;
}

/** The bytes of numbers; their count must fill blocks. */
export function encode(format: Format, values: Float32Array): Uint8Array<ArrayBuffer> {
  const { numbers, bytes } = BLOCKS[format];
  if (values.length % numbers !== 0) {
    throw new RangeError(
      `Cannot encode as ${format}: the count must be a multiple of ${numbers}, got ${values.length}`,
    );
  }
  if (format === "f32") return new Uint8Array(values.slice().buffer);
  if (format === "f16") {
    return new Uint8Array(Uint16Array.from(values, toHalf).buffer);
  }
  if (format === "bf16") {
    return new Uint8Array(Uint16Array.from(values, toBf16).buffer);
  }
  const out = new Uint8Array(values.length / numbers * bytes);
  for (let i = 0, at = 0; i < values.length; i += numbers, at += bytes) {
    const [from, to] = [values.subarray(i, i + numbers), out.subarray(at, at + bytes)];
    if (format === "q8_0") encodeQ8(from, to);
    else if (format === "q4_0") encodeQ4(from, to);
    else encodeBits(format, from, to);
  }
  return out;
}

/** The largest magnitude becomes 127. */
function encodeQ8(values: Float32Array, out: Uint8Array): void {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const scale = Math.fround(largest / 127);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  putHalf(out, scale);
  for (let i = 0; i < 32; i++) {
    out[2 + i] = roundAway(Math.fround(values[i]! * inverse));
  }
}

/** The number of the largest magnitude becomes -8, whatever its sign: the side with room. */
function encodeQ4(values: Float32Array, out: Uint8Array): void {
  let extreme = 0;
  for (const value of values) {
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  const scale = Math.fround(extreme / -8);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  const quantize = (value: number) =>
    Math.min(15, Math.trunc(Math.fround(Math.fround(value * inverse) + 8.5)));
  putHalf(out, scale);
  for (let i = 0; i < 16; i++) {
    out[2 + i] = quantize(values[i]!) | quantize(values[i + 16]!) << 4;
  }
}

function putHalf(out: Uint8Array, value: number): void {
  const bits = toHalf(value);
  out[0] = bits & 0xff;
  out[1] = bits >>> 8;
}

/** C's roundf: halves go away from zero. */
function roundAway(value: number): number {
  return Math.sign(value) * Math.round(Math.abs(value));
}

/** The numbers that bytes stand for. */
export function decode(format: Format, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const block = BLOCKS[format];
  const values = new Float32Array(bytes.length / block.bytes * block.numbers);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (
    let i = 0, at = 0;
    i < values.length;
    i += block.numbers, at += block.bytes
  ) {
    if (format === "f32") values[i] = view.getFloat32(at, true);
    else if (format === "f16") values[i] = fromHalf(view.getUint16(at, true));
    else if (format === "bf16") {
      word.setUint32(0, view.getUint16(at, true) << 16);
      values[i] = word.getFloat32(0);
    } else {
      const from = bytes.subarray(at, at + block.bytes);
      for (let j = 0; j < block.numbers; j++) values[i + j] = numberOfBlock(format, from, j);
    }
  }
  return values;
}
