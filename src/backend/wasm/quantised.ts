/**
 * Weights in GGUF's blocks of 32: how they lie in wasm memory, and products with them.
 *
 * @module
 */

import type { WeightFormat } from "../backend.ts";
import type { Kernels } from "../../../wasm/loader.ts";
import type { WasmTensor, WasmWeight } from "./handles.ts";
import type { Machine } from "./machine.ts";
import { FORMATS } from "./memory.ts";

/** Formats whose numbers are in blocks that share a scale. */
export type QuantisedFormat = Exclude<WeightFormat, "f32" | "f16" | "bf16">;

/** Numbers of activations that share a scale. */
const BLOCK = 32;

/** Rows of a panel: asm/quantised.ts. */
export const QUANTISED_PANEL = 8;

/** Numbers that a file packs together, and what they occupy there and in a panel's row, in bytes. */
interface Packing {
  readonly numbers: number;
  readonly fileBytes: number;
  readonly bytes: number;
}

/**
 * Panels have the same numbers in another order: the scales of q4_k and q5_k are whole bytes there;
 * q4_1, q5_0 and q5_1 share one layout, of five bits, a scale and a minimum.
 */
const PACKINGS: Readonly<Record<QuantisedFormat, Packing>> = {
  q8_0: { numbers: 32, fileBytes: 34, bytes: 34 },
  q4_0: { numbers: 32, fileBytes: 18, bytes: 18 },
  q4_k: { numbers: 256, fileBytes: 144, bytes: 148 },
  q5_k: { numbers: 256, fileBytes: 176, bytes: 180 },
  q6_k: { numbers: 256, fileBytes: 210, bytes: 210 },
  q4_1: { numbers: 32, fileBytes: 20, bytes: 24 },
  q5_0: { numbers: 32, fileBytes: 22, bytes: 24 },
  q5_1: { numbers: 32, fileBytes: 24, bytes: 24 },
};

/** How this engine's dots of bytes are used; results are the same to the last bit. */
export interface ByteDots {
  /**
   * Whether the dot of four bytes is exact for all of them: the processor has one, and the engine
   * uses it. If not, it saturates, and 16-bit sums are made.
   */
  readonly exact: boolean;
  /** What is added to weights, because the engine takes them for unsigned: 0 or 128. */
  readonly offset: 0 | 128;
}

/**
 * Asks the engine, because the standard leaves it open: whether a byte beyond 127 on the right is
 * negative, and what becomes of two products whose sum does not fit in 16 bits. Activations are
 * within 127.
 */
export function probeByteDots(kernels: Kernels): ByteDots {
  const gives = (value: (byte: number) => number) =>
    [127, -127].every((a) =>
      [128, 255].every((b) => kernels.probeDots(a, b, 0) === 4 * a * value(b))
    );
  if (gives((byte) => byte)) return { exact: true, offset: 128 };
  if (gives((byte) => byte - 256)) return { exact: true, offset: 0 };
  return { exact: false, offset: kernels.probeDots(8, 255, 1) === 2 * 8 * 255 ? 128 : 0 };
}

/** Whether a format is one of blocks. */
export function isQuantised(format: WeightFormat): format is QuantisedFormat {
  return format in PACKINGS;
}

/** Numbers that a format packs together: rows are multiples of it. */
export function numbersPerBlock(format: QuantisedFormat): number {
  return PACKINGS[format].numbers;
}

/** What a row occupies in a file, in bytes. */
export function fileRowBytes(format: QuantisedFormat, cols: number): number {
  const { numbers, fileBytes } = PACKINGS[format];
  return cols / numbers * fileBytes;
}

/** What a row occupies in panels, in bytes. */
export function quantisedRowBytes(format: QuantisedFormat, cols: number): number {
  const { numbers, bytes } = PACKINGS[format];
  return cols / numbers * bytes;
}

/** What packing takes of a weight. */
interface Shape {
  readonly rows: number;
  readonly cols: number;
}

/** Packs rows of a file as rows [start, start + count) of a weight at `out`; `start` is a multiple of 8. */
export function packQuantised(
  { kernels, dots }: Machine,
  out: number,
  rowsPtr: number,
  { rows, cols }: Shape,
  format: QuantisedFormat,
  start: number,
  count: number,
): void {
  const code = FORMATS[format];
  kernels.packBlocks(out, rowsPtr, count, rows, cols / BLOCK, code, dots.offset, start);
}

/** Writes a row of a weight at `weight` as f32[cols]. */
export function unpackQuantised(
  { kernels, dots }: Machine,
  out: number,
  weight: number,
  { rows, cols }: Shape,
  format: QuantisedFormat,
  row: number,
): void {
  kernels.unpackBlocks(out, weight, row, rows, cols / BLOCK, FORMATS[format], dots.offset);
}

/** Rows that tiles of all sizes divide. */
const TILE_ROWS = 6;

/** The most that quantised activations take at a time, in bytes: a step of them would be 40 MB. */
const MAX_ACTIVATION_BYTES = 8 << 20;

/** out[r, o] = sum_i x[r, i] * weight[o, i], with x rounded to int8, 32 at a time. */
export function multiplyQuantised(
  { number, kernels, memory, crew, dots }: Machine,
  out: WasmTensor,
  x: WasmTensor,
  weight: WasmWeight,
): void {
  const blocks = x.cols / BLOCK;
  const format = FORMATS[weight.format];
  const exact = Number(dots.exact);
  const bytesOf = (rows: number) => kernels.quantisedBytes(rows, blocks, format, exact) >>> 0;
  const tiles = Math.max(1, Math.floor(MAX_ACTIVATION_BYTES / bytesOf(TILE_ROWS)));
  const atOnce = Math.min(x.rows, tiles * TILE_ROWS);
  using frame = memory.frame();
  const quantised = frame.take(bytesOf(atOnce), "quantised activations");
  for (let start = 0; start < x.rows; start += atOnce) {
    const rows = Math.min(atOnce, x.rows - start);
    crew.run(number, {
      kernel: "quantizeRows",
      args: [
        quantised,
        x.ptr + start * x.stride,
        x.stride,
        rows,
        blocks,
        format,
        exact,
        dots.offset,
      ],
      scratchAt: -1,
      scratchBytes: 0,
      items: kernels.quantisedGroups(rows, format, exact),
      // A number takes about as long as eight multiplications.
      cost: rows * x.cols * 8,
    });
    crew.run(number, {
      kernel: "matmulQuantised",
      args: [
        out.ptr + start * out.stride,
        quantised,
        weight.ptr,
        0,
        out.stride,
        rows,
        weight.rows,
        blocks,
        format,
        exact,
      ],
      scratchAt: 3,
      scratchBytes: kernels.matmulQuantisedScratchBytes(),
      items: Math.ceil(weight.rows / QUANTISED_PANEL),
      cost: rows * x.cols * weight.rows,
    });
  }
}
