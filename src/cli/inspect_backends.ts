/**
 * Which machines compute here, and why others do not: what "auto" would choose.
 *
 * @module
 */

import type { BackendName } from "../backend/backend.ts";
import { type BackendOptions, openBackend } from "../backend/open.ts";
import { BackendUnavailableError } from "../errors.ts";

/** What became of one backend. */
export interface FoundBackend {
  readonly name: BackendName | "auto";
  readonly runs: boolean;
  /** What it is, or why there is none. */
  readonly text: string;
}

/** Opens all backends, one after another. */
export async function findBackends(
  { allowSoftware }: Pick<BackendOptions, "allowSoftware">,
): Promise<FoundBackend[]> {
  const found: FoundBackend[] = [];
  for (const name of ["webgpu", "wasm", "auto"] as const) {
    try {
      // Software is never chosen, only used where it is named.
      using backend = await openBackend(name, name === "webgpu" ? { allowSoftware } : {});
      found.push({ name, runs: true, text: backend.description });
    } catch (error) {
      if (!(error instanceof BackendUnavailableError)) throw error;
      found.push({ name, runs: false, text: error.message });
    }
  }
  return found;
}
