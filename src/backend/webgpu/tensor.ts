/**
 * Tensors on a device.
 *
 * @module
 */

import type { Tensor } from "../backend.ts";
import type { DeviceBuffer } from "./device.ts";
import type { Owner } from "./owner.ts";

/** f32[rows][cols], from number `offset` of a buffer on. */
export class WebGpuTensor implements Tensor {
  readonly rows: number;
  readonly cols: number;
  readonly owner: Owner;
  readonly buffer: DeviceBuffer;
  /** Numbers before row 0. */
  readonly offset: number;
  #owns: boolean;

  constructor(
    owner: Owner,
    rows: number,
    cols: number,
    buffer: DeviceBuffer,
    offset: number,
    owns: boolean,
  ) {
    this.rows = rows;
    this.cols = cols;
    this.owner = owner;
    this.buffer = buffer;
    this.offset = offset;
    this.#owns = owns;
  }

  [Symbol.dispose](): void {
    if (this.#owns) {
      this.owner.device.release(this.buffer);
      this.owner.ledger.give(this.rows * this.cols * 4);
    }
    this.#owns = false;
  }
}
