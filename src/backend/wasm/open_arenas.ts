/**
 * Instances of the kernels in memories of their own.
 *
 * @module
 */

import { BackendUnavailableError } from "../../errors.ts";
import {
  compileKernels,
  hasRelaxedSimd,
  instantiateKernels,
  instantiateMore,
} from "../../../wasm/loader.ts";
import { Arenas } from "./arenas.ts";
import type { Machine } from "./machine.ts";
import { Budget, createMemory, Memory, PAGE_BYTES } from "./memory.ts";
import { type ByteDots, probeByteDots } from "./quantised.ts";
import { RotaryTables } from "./rotary.ts";
import { Crew, type WorkerHost } from "./threads.ts";

/** What one WebAssembly memory can grow to. */
export const ARENA_BYTES = 2 ** 32;

/** What only tests choose. */
export interface Internals {
  /** How bytes are multiplied: ways that this engine would not take. */
  readonly dots?: ByteDots;
  /** What one memory grows to, at most. */
  readonly arenaBytes?: number;
}

/** The first arena, and how to open more of its kind. */
export async function openArenas(
  given: WebAssembly.Module | undefined,
  host: WorkerHost | null,
  wanted: number,
  limitBytes: number,
  { dots, arenaBytes = ARENA_BYTES }: Internals,
): Promise<Arenas> {
  const threads = host === null ? 1 : wanted;
  // A module that was compiled elsewhere may be of either kind; only trying tells.
  const kinds = given === undefined ? [threads > 1] : [threads > 1, threads === 1];
  let failure: unknown;
  for (const shared of kinds.filter((shared) => !shared || host !== null)) {
    const module = given ?? await compileKernels({ relaxed: hasRelaxedSimd(), shared });
    const created = createMemory(shared, Math.min(limitBytes, arenaBytes));
    try {
      const kernels = await instantiateKernels(module, created.memory);
      // A host with less room for one memory than was asked for has none for several.
      const all = created.limitBytes < Math.min(limitBytes, arenaBytes)
        ? created.limitBytes
        : limitBytes;
      const budget = new Budget(all);
      const base = kernels.heapBase() >>> 0;
      const memory = new Memory(created.memory, base, created.limitBytes, budget);
      const crew = new Crew(memory, kernels, module, shared ? threads : 1, host);
      const first: Machine = {
        number: 0,
        memory,
        kernels,
        crew,
        dots: dots ?? probeByteDots(kernels),
        rotary: new RotaryTables(memory, kernels),
      };
      const more = () => openArena(first, module, shared, arenaBytes);
      return new Arenas(first, more, arenaBytes);
    } catch (cause) {
      failure = cause;
    }
  }
  throw new BackendUnavailableError(
    "Cannot open the wasm backend: the module must be one of wasm/kernels_*.wasm of this version",
    { cause: failure },
  );
}

/** Another arena beside the first; null if the host or the budget has no room for it. */
function openArena(
  first: Machine,
  module: WebAssembly.Module,
  shared: boolean,
  arenaBytes: number,
): Machine | null {
  const { budget } = first.memory;
  const room = Math.min(arenaBytes, budget.limitBytes - budget.heldBytes);
  if (room < 2 * PAGE_BYTES) return null;
  const created = createMemory(shared, room);
  const kernels = instantiateMore(module, created.memory);
  const base = kernels.heapBase() >>> 0;
  const memory = new Memory(created.memory, base, created.limitBytes, budget);
  const number = first.crew.add(memory, kernels);
  return { ...first, number, memory, kernels, rotary: new RotaryTables(memory, kernels) };
}
