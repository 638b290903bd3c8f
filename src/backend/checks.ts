/**
 * What every backend refuses, in the same words.
 *
 * @module
 */

import type { ScopeConfig } from "../reattention/scope.ts";
import type { AttentionShape, KeptEnds, KvStoreOptions, SpillFile } from "./backend.ts";

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

/**
 * @throws {TypeError} If there is not one row to look for its greatest numbers.
 * @throws {RangeError} If none is looked for.
 */
export function checkLargest(
  x: { readonly rows: number; readonly cols: number },
  count: number,
): void {
  checkShape("find the largest", "x", x, 1, x.cols);
  if (Number.isSafeInteger(count) && count >= 1) return;
  throw new RangeError(`Cannot find the largest: count must be at least 1, got ${count}`);
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
 * @param spills Whether values may be in a file.
 * @throws {TypeError} If all of them would have to come back for every selection.
 */
export function checkScores(attempt: string, scores: ScopeConfig["scores"], spills: boolean): void {
  if (!spills || scores === "qk") return;
  throw new TypeError(
    `Cannot ${attempt}: scores must be "qk" where values are spilled, got "${scores}", which reads the ` +
      "values of all tokens each time",
  );
}

/** The ends of a store that meet. */
const KEEPS_ALL: KeptEnds = { first: Infinity, last: Infinity };

/** @throws {RangeError} If they are no counts. */
export function checkKept(attempt: string, { first, last }: KeptEnds): void {
  if (first >= 0 && last >= 0) return;
  throw new RangeError(
    `Cannot ${attempt}: keep must be counts of tokens, got ${first} first and ${last} last ones`,
  );
}

/**
 * Fills in what a KV store's options leave open.
 *
 * @throws {RangeError} If the shape is none, or chunks cannot have that size.
 * @throws {TypeError} If the format is unknown, or it is not said what stays when tokens go.
 */
export function resolveKvStore(
  shape: AttentionShape,
  options: KvStoreOptions,
): Required<Pick<KvStoreOptions, "format" | "chunkSize" | "cacheBytes">> & {
  readonly spill: SpillFile | null;
  readonly forget: KvStoreOptions["forget"];
  /** Everything, where nothing goes. */
  readonly keep: KeptEnds;
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
  const goes = spill !== null || forget !== undefined;
  if (goes && options.keep === undefined) {
    throw new TypeError(
      "Cannot make a KV store: with spill or forget, keep must say how many first and last tokens stay",
    );
  }
  const keep = options.keep ?? KEEPS_ALL;
  checkKept("make a KV store", keep);
  return { format, chunkSize, cacheBytes, spill, forget, keep };
}
