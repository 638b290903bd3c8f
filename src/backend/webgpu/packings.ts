/**
 * How a weight's numbers lie in a panel, by their format in the file: weights.ts. Numbers of 16 and 32 bits
 * stay as they are; q8_0 and q4_0 keep their bits and their f16 scales; the other blocks become bytes with
 * an f32 scale and minimum each, which hold them exactly.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";
import { type BlockNumbers, newBlock, readBlock } from "./blocks.ts";
import { fromHalf } from "./halves.ts";

/** What kernels know a packing as: a key of `WEIGHT_READERS` in shaders/weights.ts. */
export type PackingName = "f32" | "f16" | "bf16" | "q8" | "q4" | "bytes32" | "bytes16";

/** A way to store numbers. */
export interface Packing {
  readonly name: PackingName;
  /** Numbers that the file packs together, and what they occupy there, in bytes. */
  readonly fileNumbers: number;
  readonly fileBytes: number;
  /** A panel's numbers, in bytes. */
  numberBytes(panel: number, cols: number): number;
  /** What its blocks share, in bytes. */
  scaleBytes(panel: number, cols: number): number;
}

function plain(name: PackingName, bytes: number): Packing {
  return {
    name,
    fileNumbers: 1,
    fileBytes: bytes,
    numberBytes: (panel, cols) => panel * Math.ceil(cols / 4) * 4 * bytes,
    scaleBytes: () => 0,
  };
}

function halfScaled(name: PackingName, fileBytes: number, bits: number): Packing {
  return {
    name,
    fileNumbers: 32,
    fileBytes,
    numberBytes: (panel, cols) => panel * cols * bits / 8,
    scaleBytes: (panel, cols) => Math.ceil(panel * cols / 32 / 2) * 4,
  };
}

function bytes(fileNumbers: number, fileBytes: number, block: 16 | 32): Packing {
  return {
    name: block === 16 ? "bytes16" : "bytes32",
    fileNumbers,
    fileBytes,
    numberBytes: (panel, cols) => panel * cols,
    scaleBytes: (panel, cols) => panel * cols / block * 8,
  };
}

const PACKINGS: Readonly<Record<WeightFormat, Packing>> = {
  f32: plain("f32", 4),
  f16: plain("f16", 2),
  bf16: plain("bf16", 2),
  q8_0: halfScaled("q8", 34, 8),
  q4_0: halfScaled("q4", 18, 4),
  q4_1: bytes(32, 20, 32),
  q5_0: bytes(32, 22, 32),
  q5_1: bytes(32, 24, 32),
  q4_k: bytes(256, 144, 32),
  q5_k: bytes(256, 176, 32),
  q6_k: bytes(256, 210, 16),
};

/** How a format is packed. */
export function packingOf(format: WeightFormat): Packing {
  return PACKINGS[format];
}

/** Some rows of a file. */
interface Rows {
  readonly format: WeightFormat;
  /** Whether they are one row that is to be plain f32. */
  readonly isVector: boolean;
  /** At most `panel`; the others of the panel become zero. */
  readonly rows: number;
  readonly panel: number;
  readonly cols: number;
}

/** Packs a panel. */
export function packRows(
  numbers: Uint8Array,
  scales: Uint8Array,
  file: Uint8Array,
  rows: Rows,
): void {
  const { format, isVector } = rows;
  numbers.fill(0);
  scales.fill(0);
  if (isVector) return packVector(new Float32Array(numbers.buffer), file, rows);
  if (format === "f32") {
    return packPlain(new Uint32Array(numbers.buffer), view(Uint32Array, file), rows);
  }
  if (format === "f16" || format === "bf16") {
    return packPlain(new Uint16Array(numbers.buffer), view(Uint16Array, file), rows);
  }
  if (format === "q8_0" || format === "q4_0") packHalfScaled(numbers, scales, file, rows);
  else packBytes(numbers, scales, file, rows);
}

function view<T>(
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
  { buffer, byteOffset, byteLength }: Uint8Array,
): T {
  return new type(buffer, byteOffset, byteLength / type.BYTES_PER_ELEMENT);
}

/** [quad][row][4] */
function packPlain<T extends Uint16Array | Uint32Array>(
  out: T,
  file: T,
  { rows, panel, cols }: Rows,
): void {
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < cols; k++) {
      out[((k >> 2) * panel + r) * 4 + (k & 3)] = file[r * cols + k]!;
    }
  }
}

function packVector(out: Float32Array, file: Uint8Array, { format, cols }: Rows): void {
  if (format === "f32") return out.set(view(Float32Array, file));
  if (format === "f16" || format === "bf16") {
    const bits = view(Uint16Array, file);
    const value = format === "f16" ? fromHalf : fromBrain;
    for (let i = 0; i < cols; i++) out[i] = value(bits[i]!);
    return;
  }
  const { fileNumbers, fileBytes } = PACKINGS[format];
  const block = newBlock();
  for (let at = 0, byte = 0; at < cols; at += fileNumbers, byte += fileBytes) {
    readBlock(block, format, file, byte);
    for (let i = 0; i < fileNumbers; i++) out[at + i] = valueOf(block, i);
  }
}

function valueOf({ numbers, scales, minima, share }: BlockNumbers, i: number): number {
  const part = Math.floor(i / share);
  return scales[part]! * numbers[i]! + minima[part]!;
}

/** Bytes [quad][row][4], or halves of them [eight][row][8]; scales u16[block][row]. */
function packHalfScaled(
  numbers: Uint8Array,
  scales: Uint8Array,
  file: Uint8Array,
  { format, rows, panel, cols }: Rows,
): void {
  const halves = new Uint16Array(scales.buffer);
  const { fileBytes } = PACKINGS[format];
  const blocks = cols / 32;
  for (let r = 0; r < rows; r++) {
    for (let b = 0; b < blocks; b++) {
      const at = (r * blocks + b) * fileBytes;
      halves[b * panel + r] = file[at]! | file[at + 1]! << 8;
      if (format === "q8_0") {
        for (let i = 0; i < 32; i += 4) {
          const to = ((b * 8 + (i >> 2)) * panel + r) * 4;
          for (let j = 0; j < 4; j++) numbers[to + j] = file[at + 2 + i + j]!;
        }
      } else {
        // The file has numbers i and i + 16 in one byte.
        const nibble = (i: number) => file[at + 2 + (i & 15)]! >> (i < 16 ? 0 : 4) & 15;
        for (let i = 0; i < 32; i += 2) {
          const to = ((b * 4 + (i >> 3)) * panel + r) * 4 + ((i & 7) >> 1);
          numbers[to] = nibble(i) | nibble(i + 1) << 4;
        }
      }
    }
  }
}

/** Bytes i8[quad][row][4]; f32[block][row][2], scales and minima. */
function packBytes(
  numbers: Uint8Array,
  scales: Uint8Array,
  file: Uint8Array,
  { format, rows, panel, cols }: Rows,
): void {
  const { fileNumbers, fileBytes } = PACKINGS[format];
  const shared = new Float32Array(scales.buffer);
  const block = newBlock();
  for (let r = 0; r < rows; r++) {
    for (let at = 0; at < cols; at += fileNumbers) {
      readBlock(block, format, file, (r * cols + at) / fileNumbers * fileBytes);
      const { share } = block;
      for (let i = 0; i < fileNumbers; i++) {
        const k = at + i;
        numbers[((k >> 2) * panel + r) * 4 + (k & 3)] = block.numbers[i]!;
      }
      for (let part = 0; part < fileNumbers / share; part++) {
        const to = ((at / share + part) * panel + r) * 2;
        shared[to] = block.scales[part]!;
        shared[to + 1] = block.minima[part]!;
      }
    }
  }
}

const word = new Uint32Array(1);
const asFloat = new Float32Array(word.buffer);

function fromBrain(bits: number): number {
  word[0] = bits << 16;
  return asFloat[0]!;
}
