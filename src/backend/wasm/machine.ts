/**
 * What every verb of this backend works with.
 *
 * @module
 */

import type { Kernels } from "../../../wasm/loader.ts";
import type { Memory } from "./memory.ts";
import type { ByteDots } from "./quantised.ts";
import type { Crew } from "./threads.ts";

/** Kernels, their memory, and the threads that run them. */
export interface Machine {
  readonly memory: Memory;
  readonly kernels: Kernels;
  readonly crew: Crew;
  /** How the kernels multiply int8 here. */
  readonly dots: ByteDots;
}
