/**
 * Tables of rotary angles on the device, built as far as positions reach: shaders/rope.ts.
 *
 * @module
 */

import type { Rope } from "../../reattention/rope.ts";
import type { Device, DeviceBuffer } from "./device.ts";
import { FINE } from "./shaders/rope.ts";

/** Ropes whose tables are kept; a process rarely has more than one. */
const MAX_ROPES = 4;

interface RotaryTable {
  readonly frequencies: Float32Array; // f32[half]
  /** Of all cosines and sines. In the fine table alone: an angle's is a sum of products with it. */
  readonly factor: number;
  readonly buffer: DeviceBuffer;
  readonly coarseRows: number;
}

/** The tables of the ropes that were used last; the last one used is at the end. */
export class RotaryTables {
  readonly #device: Device;
  readonly #tables: RotaryTable[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  /** The angles of all positions below `positions`. */
  cover({ inverseFrequencies, attentionFactor = 1 }: Rope, positions: number): DeviceBuffer {
    const at = this.#tables.findLastIndex(({ frequencies, factor }) =>
      factor === attentionFactor &&
      frequencies.length === inverseFrequencies.length &&
      frequencies.every((frequency, i) => frequency === inverseFrequencies[i])
    );
    const found = at < 0 ? undefined : this.#tables.splice(at, 1)[0];
    const wanted = Math.ceil(positions / FINE);
    if (found !== undefined && found.coarseRows >= wanted) {
      this.#tables.push(found);
      return found.buffer;
    }
    if (found !== undefined) this.#device.release(found.buffer);
    const coarseRows = Math.max(4, 2 ** Math.ceil(Math.log2(wanted)));
    const half = inverseFrequencies.length;
    const angles = new Float32Array((FINE + coarseRows) * half * 2);
    let i = 0;
    const fill = (rows: number, step: number, factor: number) => {
      for (let row = 0; row < rows; row++) {
        for (const frequency of inverseFrequencies) {
          const angle = row * step * frequency;
          angles[i++] = factor * Math.cos(angle);
          angles[i++] = factor * Math.sin(angle);
        }
      }
    };
    fill(FINE, 1, attentionFactor);
    fill(coarseRows, FINE, 1);
    const buffer = this.#device.allocate(angles.byteLength, "rotary angles");
    this.#device.write(buffer, 0, angles);
    this.#tables.push({
      frequencies: inverseFrequencies.slice(),
      factor: attentionFactor,
      buffer,
      coarseRows,
    });
    if (this.#tables.length > MAX_ROPES) this.#device.release(this.#tables.shift()!.buffer);
    return buffer;
  }

  /** Gives all tables back. */
  [Symbol.dispose](): void {
    for (const { buffer } of this.#tables.splice(0)) this.#device.release(buffer);
  }
}
