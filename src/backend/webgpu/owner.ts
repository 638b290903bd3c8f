/**
 * Whose a handle is: a device, and the books of one backend on it.
 *
 * @module
 */

import type { Device } from "./device.ts";
import type { Ledger } from "./ledger.ts";

/** What all handles of one backend share. */
export interface Owner {
  readonly device: Device;
  readonly ledger: Ledger;
}
