/**
 * How a weight's numbers lie in a panel, by their format in the file: weights.ts. Every bit of a file is kept, and
 * none are added but where six-bit scales become bytes: what is not its lower four bits (eight in q8_0) lies with
 * the scales. The layouts are shaders/weights.ts's.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";
import { type BlockNumbers, newBlock, readBlock, sixBits } from "./blocks.ts";
import { fromHalf } from "./halves.ts";

/** What kernels know a packing as: a key of `WEIGHT_READERS` in shaders/weights.ts. */
export type PackingName =
  | "f32"
  | "f16"
  | "bf16"
  | "q8"
  | "q4"
  | "q5"
  | "q5m"
  | "q4k"
  | "q5k"
  | "q6k";

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

/** Halves of bytes, and so many words of other things for a block. */
function nibbles(
  name: PackingName,
  fileNumbers: number,
  fileBytes: number,
  words: number,
): Packing {
  return {
    name,
    fileNumbers,
    fileBytes,
    numberBytes: (panel, cols) => panel * cols / 2,
    scaleBytes: (panel, cols) => panel * cols / fileNumbers * words * 4,
  };
}

const PACKINGS: Readonly<Record<WeightFormat, Packing>> = {
  f32: plain("f32", 4),
  f16: plain("f16", 2),
  bf16: plain("bf16", 2),
  q8_0: halfScaled("q8", 34, 8),
  q4_0: halfScaled("q4", 18, 4),
  q4_1: nibbles("q5m", 32, 20, 2),
  q5_0: nibbles("q5", 32, 22, 2),
  q5_1: nibbles("q5m", 32, 24, 2),
  q4_k: nibbles("q4k", 256, 144, 5),
  q5_k: nibbles("q5k", 256, 176, 13),
  q6_k: {
    ...nibbles("q6k", 256, 210, 20),
    scaleBytes: (panel, cols) => panel * cols / 256 * 80 + Math.ceil(panel * cols / 256 / 2) * 4,
  },
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
  else packNibbles(numbers, scales, file, rows);
}

function view<T>(
  type: {
    new (buffer: ArrayBufferLike, offset: number, length: number): T;
    BYTES_PER_ELEMENT: number;
  },
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

/** Halves of bytes [eight][row][8]; beside them u32[block][words][row], as each format's reader has them. */
function packNibbles(
  numbers: Uint8Array,
  scales: Uint8Array,
  file: Uint8Array,
  { format, rows, panel, cols }: Rows,
): void {
  const { fileNumbers, fileBytes, name } = PACKINGS[format];
  const words = new Uint32Array(scales.buffer);
  const blocks = cols / fileNumbers;
  const block = newBlock();
  // Numbers from zero on.
  const offset = format === "q5_0" ? 16 : format === "q6_k" ? 32 : 0;
  for (let r = 0; r < rows; r++) {
    for (let b = 0; b < blocks; b++) {
      const at = (r * blocks + b) * fileBytes;
      readBlock(block, format, file, at);
      const number = (i: number) => block.numbers[i]! + offset;
      for (let i = 0; i < fileNumbers; i += 2) {
        const k = b * fileNumbers + i;
        numbers[((k >> 3) * panel + r) * 4 + ((k & 7) >> 1)] = number(i) & 15 |
          (number(i + 1) & 15) << 4;
      }
      /** Of 32 numbers from `first` on, the bit above the lower four. */
      const highs = (first: number) => {
        let bits = 0;
        for (let i = 0; i < 32; i++) bits |= (number(first + i) >> 4 & 1) << i;
        return bits;
      };
      const half = (i: number) => file[at + i]! | file[at + i + 1]! << 8;
      const four = (byte: (i: number) => number, first: number) =>
        byte(first) | byte(first + 1) << 8 | byte(first + 2) << 16 | byte(first + 3) << 24;
      if (name === "q5" || name === "q5m") {
        words[(b * panel + r) * 2] = highs(0);
        words[(b * panel + r) * 2 + 1] = half(0) | (name === "q5m" ? half(2) : 0) << 16;
      } else if (name === "q6k") {
        const put = (i: number, word: number) => words[(b * 20 + i) * panel + r] = word;
        for (let i = 0; i < 16; i++) {
          let bits = 0;
          for (let j = 0; j < 16; j++) bits |= (number(16 * i + j) >> 4) << 2 * j;
          put(i, bits);
        }
        for (let i = 0; i < 4; i++) put(16 + i, four((j) => file[at + 192 + j]!, 4 * i));
        const halves = new Uint16Array(scales.buffer, blocks * 20 * panel * 4);
        halves[b * panel + r] = half(208);
      } else {
        const count = name === "q4k" ? 5 : 13;
        const put = (i: number, word: number) => words[(b * count + i) * panel + r] = word;
        put(0, half(0) | half(2) << 16);
        for (let i = 0; i < 2; i++) {
          put(1 + i, four((part) => sixBits(file, at + 4, part).scale, 4 * i));
          put(3 + i, four((part) => sixBits(file, at + 4, part).minimum, 4 * i));
        }
        for (let part = 0; part < 8 && name === "q5k"; part++) put(5 + part, highs(32 * part));
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
