/**
 * Weights on the device. Every number of a file is kept, so that what a kernel reads is exactly what the
 * file says; only the order is another.
 *
 * A weight is cut into parts that bindings can hold, of whole panels of {@linkcode PANEL} rows. In a panel
 * quads of four numbers come first by column, then by row, so that neighbouring lanes, which have
 * neighbouring rows, read neighbouring words:
 *
 *     [panel][quad][row of the panel]
 *
 * @module
 */

import type { Weight, WeightFormat, WeightSource } from "../backend.ts";
import type { DeviceBuffer } from "./device.ts";
import type { Owner } from "./owner.ts";
import { type Packing, packingOf, packRows } from "./packings.ts";
import { EMBED } from "./shaders/embed.ts";
import { MATMUL_FEW, MATMUL_MANY } from "./shaders/matmul.ts";

/** Rows of a panel; a weight of fewer rows is one panel of these. */
export const PANEL = 64;

/** How much of a weight's file is held while it is packed, in bytes. */
const WINDOW_BYTES = 4 << 20;

/** Some rows of a weight. */
export interface WeightPart {
  readonly start: number;
  readonly rows: number;
  /** The numbers. */
  readonly numbers: DeviceBuffer;
  /** Scales, and what else blocks share; the numbers again where there is none. */
  readonly scales: DeviceBuffer;
}

/** A weight in panels. */
export class WebGpuWeight implements Weight {
  readonly rows: number;
  readonly cols: number;
  readonly byteLength: number;
  readonly packing: Packing;
  readonly owner: Owner;
  readonly parts: readonly WeightPart[];
  /** Rows of each panel but the last. */
  readonly panel: number;
  #owns = true;

  constructor(
    owner: Owner,
    shape: { readonly rows: number; readonly cols: number },
    packing: Packing,
    parts: readonly WeightPart[],
    panel: number,
    byteLength: number,
  ) {
    this.rows = shape.rows;
    this.cols = shape.cols;
    this.owner = owner;
    this.packing = packing;
    this.parts = parts;
    this.panel = panel;
    this.byteLength = byteLength;
  }

  /** Quads of four numbers in a row. */
  get quads(): number {
    return Math.ceil(this.cols / 4);
  }

  [Symbol.dispose](): void {
    if (!this.#owns) return;
    this.#owns = false;
    releaseParts(this.owner, this.parts);
    this.owner.ledger.give(this.byteLength);
  }
}

/**
 * Reads a weight, packs it and sends it to the device, some panels at a time.
 *
 * @throws {RangeError} If its columns do not fill the format's blocks.
 * @throws {OutOfMemoryError} Before anything is read, if it does not fit.
 */
export async function loadWeight(owner: Owner, source: WeightSource): Promise<WebGpuWeight> {
  const { name, rows, cols } = source;
  const file = packingOf(source.format);
  if (cols % file.fileNumbers !== 0) {
    throw new RangeError(
      `Cannot make the weight "${name}": columns in ${source.format} must be a multiple of ` +
        `${file.fileNumbers}, got ${cols}`,
    );
  }
  // One row is a gain or a bias: plain numbers.
  const packing = rows === 1 ? packingOf("f32") : file;
  const panel = Math.min(PANEL, rows);
  const numPanels = Math.ceil(rows / panel);
  const [numberBytes, scaleBytes] = [
    packing.numberBytes(panel, cols),
    packing.scaleBytes(panel, cols),
  ];
  const byteLength = numPanels * (numberBytes + scaleBytes);
  const { device, ledger } = owner;
  await device.prepare([EMBED[packing.name], MATMUL_FEW[packing.name], MATMUL_MANY[packing.name]]);
  ledger.take(`the weight "${name}"`, byteLength);
  const parts: WeightPart[] = [];
  try {
    const panelsPerPart = Math.max(1, Math.floor(device.bindingBytes / numberBytes));
    for (let start = 0; start < rows; start += panelsPerPart * panel) {
      const count = Math.min(panelsPerPart * panel, rows - start);
      const panels = Math.ceil(count / panel);
      const numbers = device.allocate(panels * numberBytes, `the weight "${name}"`);
      const scales = scaleBytes === 0
        ? numbers
        : device.allocate(panels * scaleBytes, `the weight "${name}"`);
      parts.push({ start, rows: count, numbers, scales });
    }
    const weight = new WebGpuWeight(owner, source, packing, parts, panel, byteLength);
    await fill(weight, source, file);
    return weight;
  } catch (error) {
    releaseParts(owner, parts);
    ledger.give(byteLength);
    throw error;
  }
}

async function fill(weight: WebGpuWeight, source: WeightSource, file: Packing): Promise<void> {
  const { rows, cols, panel, packing, owner: { device } } = weight;
  const rowBytes = cols / file.fileNumbers * file.fileBytes;
  const panelsAtOnce = Math.max(1, Math.floor(WINDOW_BYTES / (rowBytes * panel)));
  const window = new Uint8Array(Math.min(rows, panelsAtOnce * panel) * rowBytes);
  const numbers = new Uint8Array(packing.numberBytes(panel, cols));
  const scales = new Uint8Array(packing.scaleBytes(panel, cols));
  for (let start = 0; start < rows; start += panelsAtOnce * panel) {
    const count = Math.min(panelsAtOnce * panel, rows - start);
    const bytes = window.subarray(0, count * rowBytes);
    await source.read(bytes, start * rowBytes);
    for (let row = 0; row < count; row += panel) {
      const here = Math.min(panel, count - row);
      packRows(numbers, scales, bytes.subarray(row * rowBytes, (row + here) * rowBytes), {
        format: source.format as WeightFormat,
        isVector: rows === 1,
        rows: here,
        panel,
        cols,
      });
      const part = weight.parts.findLast((each) => each.start <= start + row)!;
      const index = (start + row - part.start) / panel;
      device.write(part.numbers, index * numbers.length, numbers);
      device.write(part.scales, index * scales.length, scales);
    }
  }
}

function releaseParts({ device }: Owner, parts: readonly WeightPart[]): void {
  for (const { numbers, scales } of parts) {
    device.release(numbers);
    if (scales !== numbers) device.release(scales);
  }
}
