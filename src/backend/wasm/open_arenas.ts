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
import { Budget, createMemory, MAX_MEMORY_BYTES, Memory } from "./memory.ts";
import { type ByteDots, probeByteDots } from "./quantised.ts";
import { RotaryTables } from "./rotary.ts";
import { Crew, type WorkerHost } from "./threads.ts";

/** What only tests choose. */
export interface Internals {
  /** How bytes are multiplied: ways that this engine would not take. */
  readonly dots?: ByteDots;
  /** What one memory grows to, at most. */
  readonly arenaBytes?: number;
}

/**
 * As many arenas as the limit allows. All at once, since a memory costs address space until it grows, and workers
 * that were started before one was there would have to go and come again.
 */
export async function openArenas(
  given: WebAssembly.Module | undefined,
  host: WorkerHost | null,
  wanted: number,
  limitBytes: number,
  { dots, arenaBytes = MAX_MEMORY_BYTES }: Internals,
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
      const arenas: [Machine, ...Machine[]] = [first];
      while (arenas.length * arenaBytes < all) {
        const next = openArena(first, module, shared, Math.min(arenaBytes, all));
        if (next === null) break;
        arenas.push(next);
      }
      return new Arenas(arenas, arenaBytes);
    } catch (cause) {
      failure = cause;
    }
  }
  throw new BackendUnavailableError(
    "Cannot open the wasm backend: the module must be one of wasm/kernels_*.wasm of this version",
    { cause: failure },
  );
}

/** Another arena beside the first; null if the host has no address space for it. */
function openArena(
  first: Machine,
  module: WebAssembly.Module,
  shared: boolean,
  limitBytes: number,
): Machine | null {
  const created = createMemory(shared, limitBytes);
  if (created.limitBytes < limitBytes) return null;
  const kernels = instantiateMore(module, created.memory);
  const base = kernels.heapBase() >>> 0;
  const memory = new Memory(created.memory, base, created.limitBytes, first.memory.budget);
  const number = first.crew.add(memory, kernels);
  return { ...first, number, memory, kernels, rotary: new RotaryTables(memory, kernels) };
}
