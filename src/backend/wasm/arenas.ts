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

/** Opens arenas as they are needed. */
export class Arenas implements Disposable {
  /** Where tensors and small weights are. */
  readonly first: Machine;
  /** What all may hold together. */
  readonly budget: Budget;
  readonly #all: Machine[];
  readonly #open: (number: number) => Machine | null;
  readonly #arenaBytes: number;

  /**
   * @param open Makes the arena of that number; null if there cannot be another.
   * @param arenaBytes What one can grow to.
   */
  constructor(first: Machine, open: (number: number) => Machine | null, arenaBytes: number) {
    this.first = first;
    this.budget = first.memory.budget;
    this.#all = [first];
    this.#open = open;
    this.#arenaBytes = arenaBytes;
  }

  /** Those that are open. */
  get all(): readonly Machine[] {
    return this.#all;
  }

  /** Whether there is room for blocks that stay, and for what verbs need besides. */
  hasRoom(blocks: ReadonlyMap<Machine, readonly number[]>): boolean {
    const { limitBytes, heldBytes } = this.budget;
    const least = Math.min(this.#arenaBytes, limitBytes);
    const headroom = Math.min(HEADROOM_BYTES, least / HEADROOM_SHARE);
    let growth = 0;
    for (const [{ memory }, sizes] of blocks) growth += memory.growthFor([...sizes, headroom]);
    return growth <= limitBytes - heldBytes;
  }

  /** The arena for a block that may lie anywhere: the first that has room; the very first if none has. */
  forBlock(bytes: number): Machine {
    const fits = (machine: Machine) => this.hasRoom(new Map([[machine, [bytes]]]));
    const found = this.#all.find(fits);
    if (found !== undefined) return found;
    const opened = bytes <= this.#arenaBytes ? this.#more() : null;
    return opened !== null && fits(opened) ? opened : this.first;
  }

  /**
   * An arena for each layer of a cache that may grow to all that there can be: layers are spread so that all
   * arenas fill alike.
   */
  forLayers(count: number): Machine[] {
    const { limitBytes } = this.budget;
    // One more, since the first has weights too.
    const wanted = Math.min(count + 1, Math.ceil(limitBytes / this.#arenaBytes));
    while (this.#all.length < wanted && this.#more() !== null);
    const layers = this.#all.map(() => 0);
    const room = this.#all.map(({ memory }) => memory.limitBytes - memory.usedBytes);
    return Array.from({ length: count }, () => {
      let best = 0;
      for (let i = 1; i < room.length; i++) {
        if (room[i]! / (layers[i]! + 1) > room[best]! / (layers[best]! + 1)) best = i;
      }
      layers[best]!++;
      return this.#all[best]!;
    });
  }

  [Symbol.dispose](): void {
    for (const { rotary } of this.#all) rotary[Symbol.dispose]();
    this.first.crew[Symbol.dispose]();
  }

  #more(): Machine | null {
    const machine = this.#open(this.#all.length);
    if (machine !== null) this.#all.push(machine);
    return machine;
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
