/**
 * Weights on their way into memory: told of, and stopped.
 *
 * @module
 */

import type { TensorTable } from "../files/tensor_table.ts";
import type { HubAccess } from "../hub/access.ts";
import type { WeightWatch } from "./identity.ts";

/**
 * The same watch, which also tells how far the reading is, and ends it by a signal between two reads.
 *
 * @param table What is read: its bytes are the total.
 */
export function watchProgress(
  watch: WeightWatch,
  table: TensorTable,
  { signal, onProgress }: Pick<HubAccess, "signal" | "onProgress">,
): WeightWatch {
  let totalBytes = 0;
  for (const { byteLength } of table.tensors.values()) totalBytes += byteLength;
  let loadedBytes = 0;
  return {
    watch(source, byteLength) {
      const watched = watch.watch(source, byteLength);
      return {
        ...watched,
        async read(target: Uint8Array, byteOffset: number): Promise<void> {
          signal?.throwIfAborted();
          await watched.read(target, byteOffset);
          loadedBytes += target.byteLength;
          onProgress?.({
            phase: "read",
            file: table.name,
            loadedBytes,
            totalBytes,
            newBytes: loadedBytes,
          });
        },
      };
    },
    fingerprint: () => watch.fingerprint(),
  };
}
