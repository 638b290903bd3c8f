/**
 * The product with a weight.
 *
 * @module
 */

import { giveBack, lend, lendEmpty } from "./arenas.ts";
import {
  packVector,
  panelsOf,
  vectorPanelBytes,
  type WasmTensor,
  type WasmWeight,
} from "./handles.ts";
import { FORMATS } from "./memory.ts";
import { isQuantised, multiplyQuantised } from "./quantised.ts";

/** Columns from which on packing activations pays: a panel of weights and two rows fill the L1 cache. */
const PAIRED_COLS = 1024;

/** out[r, o] = sum_i x[r, i] * weight[o, i], where the weight is; at least one row. */
export function multiply(out: WasmTensor, x: WasmTensor, weight: WasmWeight): void {
  const { machine } = weight;
  using frame = machine.memory.frame();
  const [to, from] = [lendEmpty(frame, out, machine), lend(frame, x, machine)];
  if (isQuantised(weight.format)) {
    multiplyQuantised(machine, to, from, weight);
    return giveBack(out, to);
  }
  let panels = weight.ptr;
  if (weight.isVector) {
    panels = frame.take(vectorPanelBytes(weight), "a weight of one row");
    packVector(weight, panels);
  }
  let pairs = 0;
  if (x.rows > 1 && x.cols >= PAIRED_COLS) {
    const count = x.rows >> 1;
    pairs = frame.take(count * 2 * from.stride, "packed activations");
    machine.crew.run(machine.number, {
      kernel: "packPairs",
      args: [pairs, from.ptr, from.stride, from.quads],
      scratchAt: -1,
      scratchBytes: 0,
      items: count,
      // A quad takes about as long as ten multiplications.
      cost: x.rows * from.quads * 10,
    });
  }
  machine.crew.run(machine.number, {
    kernel: "matmul",
    args: [
      to.ptr,
      from.ptr,
      pairs,
      panels,
      0,
      to.stride,
      from.stride,
      from.rows,
      weight.rows,
      weight.quads,
      FORMATS[weight.format],
    ],
    scratchAt: 4,
    scratchBytes: machine.kernels.matmulScratchBytes(weight.quads, from.rows),
    items: panelsOf(weight),
    cost: x.rows * x.cols * weight.rows,
  });
  giveBack(out, to);
}
