/**
 * The memories of a backend. One WebAssembly memory ends at 4 GiB, so there may be several, each with an
 * instance of the kernels: an arena. What a verb computes with lies in one; only activations are copied.
 *
 * @module
 */

import type { Machine } from "./machine.ts";
import type { WasmTensor } from "./handles.ts";
import type { Budget, Frame } from "./memory.ts";

/** What an arena keeps free of weights and cache for activations and scratch: this share of it, at most so much. */
const HEADROOM_SHARE = 16;
const HEADROOM_BYTES = 64 << 20;

/** The arenas of a backend, and what goes where. */
export class Arenas implements Disposable {
  /** Where tensors and small weights are. */
  readonly first: Machine;
  /** What all may hold together. */
  readonly budget: Budget;
  /** In the order in which they are filled. */
  readonly all: readonly Machine[];
  /** What one can grow to. */
  readonly arenaBytes: number;

  /** @param all At least one. */
  constructor(all: readonly [Machine, ...Machine[]], arenaBytes: number) {
    this.first = all[0];
    this.budget = this.first.memory.budget;
    this.all = all;
    this.arenaBytes = arenaBytes;
  }

  /** Whether there is room for blocks that stay, and for what verbs need besides. */
  hasRoom(blocks: ReadonlyMap<Machine, readonly number[]>): boolean {
    const { limitBytes, heldBytes } = this.budget;
    const least = Math.min(this.arenaBytes, limitBytes);
    const headroom = Math.min(HEADROOM_BYTES, least / HEADROOM_SHARE);
    let growth = 0;
    for (const [{ memory }, sizes] of blocks) growth += memory.growthFor([...sizes, headroom]);
    return growth <= limitBytes - heldBytes;
  }

  /** The arena for a block that may lie anywhere: the first that has room; the very first if none has. */
  forBlock(bytes: number): Machine {
    return this.all.find((machine) => this.hasRoom(new Map([[machine, [bytes]]]))) ?? this.first;
  }

  /**
   * An arena for each layer of a cache that may grow to all that there can be: layers are spread so that all
   * arenas fill alike.
   */
  forLayers(count: number): Machine[] {
    const layers = this.all.map(() => 0);
    const room = this.all.map(({ memory }) => memory.limitBytes - memory.usedBytes);
    return Array.from({ length: count }, () => {
      let best = 0;
      for (let i = 1; i < room.length; i++) {
        if (room[i]! / (layers[i]! + 1) > room[best]! / (layers[best]! + 1)) best = i;
      }
      layers[best]!++;
      return this.all[best]!;
    });
  }

  [Symbol.dispose](): void {
    for (const { rotary } of this.all) rotary[Symbol.dispose]();
    this.first.crew[Symbol.dispose]();
  }
}

/** A tensor as it is in another arena: itself, or a copy that lives as long as the frame. */
export function lend(frame: Frame, x: WasmTensor, machine: Machine): WasmTensor {
  if (x.machine === machine) return x;
  const bytes = x.rows * x.stride;
  const copy = x.at(machine, frame.take(bytes, "activations"));
  machine.memory.u8.set(x.machine.memory.u8.subarray(x.ptr, x.ptr + bytes), copy.ptr);
  return copy;
}

/** The same without contents, for what a verb fills; {@linkcode giveBack} brings these home. */
export function lendEmpty(frame: Frame, x: WasmTensor, machine: Machine): WasmTensor {
  if (x.machine === machine) return x;
  const bytes = x.rows * x.stride;
  const empty = x.at(machine, frame.take(bytes, "activations"));
  if (x.cols % 4 !== 0) machine.kernels.fill(empty.ptr, 0, bytes);
  return empty;
}

/** Copies what was filled in another arena. */
export function giveBack(x: WasmTensor, lent: WasmTensor): void {
  if (x === lent) return;
  const bytes = x.rows * x.stride;
  x.machine.memory.u8.set(lent.machine.memory.u8.subarray(lent.ptr, lent.ptr + bytes), x.ptr);
}
