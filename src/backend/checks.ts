/**
 * What every backend refuses, in the same words.
 *
 * @module
 */

import type { AttentionShape, KvStoreOptions, SpillFile } from "./backend.ts";

/** @throws {RangeError} If there cannot be a matrix of that size. */
export function checkSize(what: string, rows: number, cols: number): void {
  if (Number.isSafeInteger(rows * cols) && rows >= 0 && cols >= 1) return;
  throw new RangeError(
    `Cannot make ${what}: rows and columns must be counts, got ${rows} x ${cols}`,
  );
}

/** @throws {TypeError} If a verb's operand has another shape than the others ask for. */
export function checkShape(
  verb: string,
  name: string,
  actual: { readonly rows: number; readonly cols: number },
  rows: number,
  cols: number,
): void {
  if (actual.rows === rows && actual.cols === cols) return;
  throw new TypeError(
    `Cannot ${verb}: ${name} must be ${rows} x ${cols}, got ${actual.rows} x ${actual.cols}`,
  );
}

/** @throws {TypeError} If a gain is neither as long as a row nor as one of its equal parts. */
export function checkGain(
  x: { readonly cols: number },
  gain: { readonly rows: number; readonly cols: number },
): void {
  const isPart = gain.rows === 1 && gain.cols % 4 === 0 && x.cols % gain.cols === 0;
  if (!isPart) checkShape("normalize", "gain", gain, 1, x.cols);
}

/**
 * Fills in what a KV store's options leave open.
 *
 * @throws {RangeError} If the shape is none, or chunks cannot have that size.
 * @throws {TypeError} If the format is unknown.
 */
export function resolveKvStore(
  shape: AttentionShape,
  options: KvStoreOptions,
): Required<Pick<KvStoreOptions, "format" | "chunkSize" | "cacheBytes">> & {
  readonly spill: SpillFile | null;
  readonly forget: KvStoreOptions["forget"];
} {
  const { numLayers, numHeads, numKvHeads, headDim } = shape;
  for (const [name, count] of Object.entries({ numLayers, numHeads, numKvHeads, headDim })) {
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new RangeError(
        `Cannot make a KV store: ${name} must be a positive integer, got ${count}`,
      );
    }
  }
  if (numHeads % numKvHeads !== 0) {
    throw new RangeError(
      `Cannot make a KV store: numKvHeads must divide numHeads ${numHeads}, got ${numKvHeads}`,
    );
  }
  if (headDim % 2 !== 0) {
    throw new RangeError(`Cannot make a KV store: headDim must be even, got ${headDim}`);
  }
  const { format = "i16", chunkSize = 256, cacheBytes = Infinity, spill = null, forget } = options;
  if (!Number.isSafeInteger(chunkSize) || chunkSize < 16 || chunkSize % 16 !== 0) {
    throw new RangeError(
      `Cannot make a KV store: chunkSize must be a multiple of 16 tokens, got ${chunkSize}`,
    );
  }
  if (format !== "i16" && format !== "f32") {
    throw new TypeError(
      `Cannot make a KV store: format must be "i16" or "f32", got "${format}"`,
    );
  }
  if (!(cacheBytes > 0)) {
    throw new RangeError(
      `Cannot make a KV store: cacheBytes must be a positive number of bytes, got ${cacheBytes}`,
    );
  }
  if (forget !== undefined && forget !== "oldest") {
    throw new TypeError(
      `Cannot make a KV store: forget must be "oldest" or absent, got "${forget}"`,
    );
  }
  return { format, chunkSize, cacheBytes, spill, forget };
}
