/**
 * What every verb of this backend works with.
 *
 * @module
 */

import type { Kernels } from "../../../wasm/loader.ts";
import type { Memory } from "./memory.ts";
import type { ByteDots } from "./quantised.ts";
import type { RotaryTables } from "./rotary.ts";
import type { Crew } from "./threads.ts";

/** Kernels, their memory, and the threads that run them: an arena. */
export interface Machine {
  /** Which of the backend's arenas it is. */
  readonly number: number;
  readonly memory: Memory;
  readonly kernels: Kernels;
  /** Shared by all arenas. */
  readonly crew: Crew;
  /** How the kernels multiply int8 here. */
  readonly dots: ByteDots;
  readonly rotary: RotaryTables;
}
