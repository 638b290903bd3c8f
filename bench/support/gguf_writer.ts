/**
 * Writes GGUF files, version 3 (ggml's docs/gguf.md).
 *
 * @module
 */

import { bytesOf, type Format } from "./quantize.ts";
import type { FileWriter } from "./file_writer.ts";

/** `ggml_type`. */
const TENSOR_TYPES: Readonly<Record<Format, number>> = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q5_0: 6,
  q5_1: 7,
  q8_0: 8,
  q4_k: 12,
  q5_k: 13,
  q6_k: 14,
  bf16: 30,
};

/** What `general.file_type` says of a file most of whose tensors are of a format. */
export const FILE_TYPES: Readonly<Record<Format, number>> = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q5_1: 9,
  q4_k: 15,
  q5_k: 17,
  q6_k: 18,
  bf16: 32,
};

/** A value of the metadata, with its type. */
export type Value =
  | { readonly u16: number }
  | { readonly u32: number }
  | { readonly i32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly strings: readonly string[] }
  | { readonly i32s: Int32Array }
  | { readonly f32s: Float32Array };

/** A tensor to be written. */
export interface TensorPlan {
  readonly name: string;
  readonly format: Format;
  /** Outermost first. */
  readonly shape: readonly number[];
  /** Makes its bytes from `offset` on. */
  fill(target: Uint8Array, offset: number): void;
}

const ALIGNMENT = 32;
const utf8 = new TextEncoder();

/** Writes a whole file. */
export async function writeGguf(
  file: FileWriter,
  metadata: Readonly<Record<string, Value>>,
  tensors: readonly TensorPlan[],
): Promise<void> {
  const pairs = Object.entries(metadata);
  await file.bytes(utf8.encode("GGUF"));
  await file.bytes(join(u32(3), u64(tensors.length), u64(pairs.length)));
  for (const [key, value] of pairs) {
    await file.bytes(join(string(key), encodeValue(value)));
  }
  let offset = 0;
  for (const { name, format, shape } of tensors) {
    await file.bytes(join(
      string(name),
      u32(shape.length),
      ...[...shape].reverse().map(u64),
      u32(TENSOR_TYPES[format]),
      u64(offset),
    ));
    offset += Math.ceil(sizeOf(format, shape) / ALIGNMENT) * ALIGNMENT;
  }
  for (const { format, shape, fill } of tensors) {
    await file.align(ALIGNMENT);
    await file.generate(sizeOf(format, shape), fill);
  }
  await file.align(ALIGNMENT);
}

/** A tensor's size in bytes. */
export function sizeOf(format: Format, shape: readonly number[]): number {
  return bytesOf(format, shape.reduce((product, size) => product * size, 1));
}

function encodeValue(value: Value): Uint8Array {
  if ("u16" in value) return join(u32(2), new Uint8Array(new Uint16Array([value.u16]).buffer));
  if ("i32" in value) return join(u32(5), new Uint8Array(new Int32Array([value.i32]).buffer));
  if ("u32" in value) return join(u32(4), u32(value.u32));
  if ("f32" in value) {
    return join(u32(6), new Uint8Array(new Float32Array([value.f32]).buffer));
  }
  if ("bool" in value) return join(u32(7), Uint8Array.of(value.bool ? 1 : 0));
  if ("string" in value) return join(u32(8), string(value.string));
  if ("i32s" in value || "f32s" in value) {
    const [type, numbers] = "i32s" in value ? [5, value.i32s] : [6, value.f32s];
    const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
    return join(u32(9), u32(type), u64(numbers.length), bytes);
  }
  const strings = joinAll(value.strings.map(string));
  return join(u32(9), u32(8), u64(value.strings.length), strings);
}

function u32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

function u64(value: number): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
}

function string(text: string): Uint8Array {
  const bytes = utf8.encode(text);
  return join(u64(bytes.length), bytes);
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return joinAll(parts);
}

/** As a list, because a call takes only so many arguments. */
function joinAll(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
