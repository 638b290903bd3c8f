/**
 * Which layers select. Some layers of a model look things up, others would read the same without:
 * where only the former select, a question costs that share of the scan.
 *
 * @module
 */

/**
 * Checks a choice of layers.
 *
 * @param layers Indices, the first layer is 0; or all of them.
 * @param numLayers Layers of the model.
 * @returns Ascending, no duplicates.
 * @throws {TypeError} If it is no list.
 * @throws {RangeError} If it is empty, or an index is not one of a layer.
 *
 * @example Usage
 * ```ts
 * import { resolveSelectLayers } from "./select_layers.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(resolveSelectLayers([2, 1, 2], 4), [1, 2]);
 * deepEqual(resolveSelectLayers("all", 4), [0, 1, 2, 3]);
 * ```
 */
export function resolveSelectLayers(
  layers: readonly number[] | "all",
  numLayers: number,
): number[] {
  if (layers === "all") return Array.from({ length: numLayers }, (_, layer) => layer);
  if (!Array.isArray(layers)) {
    throw new TypeError(
      `Cannot choose the layers that select: they must be a list of indices or "all", got ${
        JSON.stringify(layers)
      }`,
    );
  }
  if (layers.length === 0) {
    throw new RangeError(
      `Cannot choose the layers that select: there must be at least one, got none ` +
        `(select: "never" is for that)`,
    );
  }
  const bad = layers.find((layer) =>
    !(Number.isSafeInteger(layer) && layer >= 0 && layer < numLayers)
  );
  if (bad !== undefined) {
    throw new RangeError(
      `Cannot choose the layers that select: each must be an integer from 0 to ${numLayers - 1}, ` +
        `the model's last layer, got ${JSON.stringify(bad)}`,
    );
  }
  return [...new Set<number>(layers)].sort((a, b) => a - b);
}
