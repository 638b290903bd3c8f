/**
 * Tensors and weights in wasm memory.
 *
 * @module
 */

import type { Tensor, Weight, WeightSource } from "../backend.ts";
import type { Arenas } from "./arenas.ts";
import type { Machine } from "./machine.ts";
import { FORMATS, type Memory } from "./memory.ts";
import {
  fileRowBytes,
  isQuantised,
  numbersPerBlock,
  packQuantised,
  QUANTISED_PANEL,
  quantisedRowBytes,
  unpackQuantised,
} from "./quantised.ts";

/** Rows of a panel of weights: asm/tile.ts. */
const PANEL = 6;

/** How much of a weight's file is held while it is packed, in bytes. */
const WINDOW_BYTES = 1 << 20;

/** f32[rows][4 * quads], zero beyond `cols`: all verbs keep it so. */
export class WasmTensor implements Tensor {
  readonly rows: number;
  readonly cols: number;
  /** Vectors of four in a row. */
  readonly quads: number;
  /** Where row 0 begins. */
  readonly ptr: number;
  readonly machine: Machine;
  /** Whether `dispose` gives the block back: a view's does not. */
  #owns: boolean;

  constructor(machine: Machine, rows: number, cols: number, ptr: number, owns: boolean) {
    this.machine = machine;
    this.rows = rows;
    this.cols = cols;
    this.quads = Math.ceil(cols / 4);
    this.ptr = ptr;
    this.#owns = owns;
  }

  /** Bytes from a row to the next. */
  get stride(): number {
    return this.quads * 16;
  }

  /** One of the same shape elsewhere, which owns nothing. */
  at(machine: Machine, ptr: number): WasmTensor {
    return new WasmTensor(machine, this.rows, this.cols, ptr, false);
  }

  [Symbol.dispose](): void {
    if (this.#owns) this.machine.memory.free(this.ptr);
    this.#owns = false;
  }
}

/** A tensor whose padding is zero. */
export function createTensor(machine: Machine, rows: number, cols: number): WasmTensor {
  const bytes = rows * Math.ceil(cols / 4) * 16;
  const ptr = machine.memory.allocate(
    bytes,
    `a tensor of ${rows} x ${cols}`,
    "use shorter steps or a shorter text",
  );
  if (cols % 4 !== 0) machine.kernels.fill(ptr, 0, bytes);
  return new WasmTensor(machine, rows, cols, ptr, true);
}

/**
 * A weight in panels of rows in its file's format: of six rows (asm/tile.ts), or eight of those in
 * blocks (asm/quantised.ts). One row alone is plain f32.
 */
export class WasmWeight implements Weight {
  readonly rows: number;
  readonly cols: number;
  /** Vectors of four in a row. */
  readonly quads: number;
  readonly byteLength: number;
  readonly ptr: number;
  /** A key of the kernels' formats. */
  readonly format: WeightSource["format"];
  readonly machine: Machine;
  #owns = true;

  constructor(arenas: Arenas, source: WeightSource) {
    const { name, rows, cols } = source;
    if (isQuantised(source.format) && cols % numbersPerBlock(source.format) !== 0) {
      throw new RangeError(
        `Cannot make the weight "${name}": columns in ${source.format} must be a multiple of ` +
          `${numbersPerBlock(source.format)}, got ${cols}`,
      );
    }
    this.rows = rows;
    this.cols = cols;
    this.quads = Math.ceil(cols / 4);
    this.format = rows === 1 ? "f32" : source.format;
    this.byteLength = panelsOf(this) * panelRows(this) * rowBytes(this.format, this.quads * 4);
    // Vectors are where the activations are.
    this.machine = this.isVector ? arenas.first : arenas.forBlock(this.byteLength);
    this.ptr = this.machine.memory.allocate(
      this.byteLength,
      `the weight "${name}"`,
      "use a smaller model, or one stored in fewer bits",
    );
  }

  /** Whether it is one plain row. */
  get isVector(): boolean {
    return this.rows === 1;
  }

  [Symbol.dispose](): void {
    if (this.#owns) this.machine.memory.free(this.ptr);
    this.#owns = false;
  }
}

/** Reads and packs a weight, some rows at a time. */
export async function loadWeight(arenas: Arenas, source: WeightSource): Promise<WasmWeight> {
  const weight = new WasmWeight(arenas, source);
  try {
    await fillWeight(weight.machine, weight, source);
    return weight;
  } catch (error) {
    weight[Symbol.dispose]();
    throw error;
  }
}

async function fillWeight(
  machine: Machine,
  weight: WasmWeight,
  source: WeightSource,
): Promise<void> {
  const { memory, kernels } = machine;
  const { rows, cols, format } = source;
  const bytesOfRow = isQuantised(format) ? fileRowBytes(format, cols) : rowBytes(format, cols);
  const panel = isQuantised(format) ? QUANTISED_PANEL : PANEL;
  const atOnce = Math.max(1, Math.floor(WINDOW_BYTES / (bytesOfRow * panel))) * panel;
  // Not a window on wasm memory: that may grow, and so move, while the file is being read.
  const window = new Uint8Array(Math.min(rows, atOnce) * bytesOfRow);
  for (let start = 0; start < rows; start += atOnce) {
    const count = Math.min(atOnce, rows - start);
    const bytes = window.subarray(0, count * bytesOfRow);
    await source.read(bytes, start * bytesOfRow);
    using frame = memory.frame();
    // Four numbers more, because vectors are converted whole.
    const staged = frame.take(bytes.length + 16, "a window of weights");
    memory.u8.set(bytes, staged);
    if (isQuantised(format)) {
      if (weight.isVector) {
        const packed = frame.take(QUANTISED_PANEL * rowBytes(format, cols), "a weight of one row");
        packQuantised(machine, packed, staged, weight, format, 0, 1);
        unpackQuantised(machine, weight.ptr, packed, weight, format, 0);
      } else packQuantised(machine, weight.ptr, staged, weight, format, start, count);
    } else if (weight.isVector) {
      memory.u8.fill(0, staged + bytes.length, staged + bytes.length + 16);
      kernels.widen(weight.ptr, staged, cols, FORMATS[format]);
    } else {
      const out = weight.ptr + start * rowBytes(format, weight.quads * 4);
      kernels.packPanels(out, staged, count, cols, rowBytes(format, 1));
    }
  }
}

/** A weight of one row as the panel that a product wants, in a block that the caller gives. */
export function packVector(weight: WasmWeight, panelPtr: number): void {
  weight.machine.kernels.packPanels(panelPtr, weight.ptr, 1, weight.cols, 4);
}

/** What a weight of one row needs as a panel, in bytes. */
export function vectorPanelBytes(weight: WasmWeight): number {
  return weight.quads * PANEL * 16;
}

/** Rows of a weight's panels. */
function panelRows({ rows, format }: WasmWeight): number {
  return isQuantised(format) ? QUANTISED_PANEL : rows === 1 ? 1 : PANEL;
}

/** Panels of a weight. */
export function panelsOf(weight: WasmWeight): number {
  return Math.ceil(weight.rows / panelRows(weight));
}

/** Copies f32[rows, cols] into a tensor. */
export function writeTensor(memory: Memory, out: WasmTensor, values: Float32Array): void {
  const { rows, cols } = out;
  const f32 = memory.f32;
  if (out.quads * 4 === cols) return f32.set(values, out.ptr / 4);
  for (let r = 0; r < rows; r++) {
    f32.set(values.subarray(r * cols, (r + 1) * cols), (out.ptr + r * out.stride) / 4);
  }
}

/** f32[rows, cols], a copy. */
export function readTensor(memory: Memory, x: WasmTensor): Float32Array {
  const { rows, cols } = x;
  const values = new Float32Array(rows * cols);
  const f32 = memory.f32;
  for (let r = 0; r < rows; r++) {
    const start = (x.ptr + r * x.stride) / 4;
    values.set(f32.subarray(start, start + cols), r * cols);
  }
  return values;
}

/** Bytes of a row, as it is kept. */
function rowBytes(format: WeightSource["format"], cols: number): number {
  if (isQuantised(format)) return quantisedRowBytes(format, cols);
  return cols * (format === "f32" ? 4 : 2);
}
