/**
 * What a session's cache may hold, what becomes of the rest, and what must not be missing.
 *
 * @module
 */

import type { Backend, KeptEnds, KvStore, SpillFile } from "../backend/backend.ts";
import { KvCache } from "../reattention/kv_cache.ts";
import type { ScopeConfig } from "../reattention/scope.ts";
import type { Llama } from "./llama.ts";
import type { SessionOptions } from "./session_options.ts";

/** Opens a spill file in a folder. */
export type OpenSpillFile = (directory: string) => SpillFile & Disposable;

/** Tokens that reading leaves room for, beside a step: a question and its answer, in a fork. */
const ASK_TOKENS = 512;

/** What is kept free while texts are read, so that questions can be asked when memory has ended; tokens. */
export function spareTokens(stepSize: number): number {
  return stepSize + ASK_TOKENS;
}

/** The tokens that every attention call reads. */
export function keptEnds({ globalSize, localSize }: ScopeConfig): KeptEnds {
  return { first: globalSize, last: localSize };
}

/**
 * Whether tokens are still there that calls on a sequence would read.
 *
 * @param length Tokens of the sequence from which it is to go on.
 * @throws {RangeError} If some were forgotten; says which lengths would do.
 */
export function assertRemembered(
  attempt: string,
  { forgotten }: KvStore,
  { globalSize, localSize }: ScopeConfig,
  length: number,
): void {
  for (const { start, end } of forgotten) {
    const isGlobal = start < Math.min(globalSize, length);
    const isLocal = start < length && end > Math.max(0, length - localSize);
    if (!isGlobal && !isLocal) continue;
    const way = isGlobal
      ? `the ${globalSize} global tokens must be there`
      : `the ${localSize} local tokens before token ${length} must be there`;
    throw new RangeError(
      `Cannot ${attempt}: ${way}, but tokens [${start}, ${end}) were forgotten` +
        (isGlobal ? "" : `; lengths up to ${start} and from ${end + localSize} on would do`),
    );
  }
}

/** A spill file that is closed with the last of the sessions that use it. */
export class SharedSpill implements Disposable {
  /** Where the bytes go. */
  readonly file: SpillFile;
  readonly #close: () => void;
  #users = 1;

  /** @param close Called once nobody uses it. */
  constructor(file: SpillFile, close: () => void) {
    this.file = file;
    this.#close = close;
  }

  /** The same, for one session more. */
  share(): this {
    this.#users++;
    return this;
  }

  /** One session less. */
  [Symbol.dispose](): void {
    if (--this.#users === 0) this.#close();
  }
}

/**
 * An empty cache, as a session's options have it, and where it spills.
 *
 * @throws {TypeError} If there is no such format or policy, or nowhere to spill.
 */
export function openCache(
  { llama, backend, openSpillFile = null }: {
    readonly llama: Llama;
    readonly backend: Backend;
    readonly openSpillFile?: OpenSpillFile | null;
  },
  { kvFormat: format = "i16", cacheBytes, spill: place, forget }: SessionOptions,
  scope: ScopeConfig,
): { readonly cache: KvCache; readonly spill: SharedSpill | null } {
  const { numLayers, numHeads, numKvHeads, headDim } = llama.config;
  const spill = place === undefined ? null : openSpill(place, openSpillFile);
  try {
    const store = backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }, {
      format,
      ...(cacheBytes === undefined ? {} : { cacheBytes }),
      ...(spill === null ? {} : { spill: spill.file }),
      ...(forget === undefined ? {} : { forget }),
      keep: keptEnds(scope),
    });
    return { cache: new KvCache(store), spill };
  } catch (error) {
    spill?.[Symbol.dispose]();
    throw error;
  }
}

/**
 * What a session's option means: a file of the caller's stays open, one in a folder does not.
 *
 * @throws {TypeError} If it is neither, or this host has no files.
 */
function openSpill(spill: string | SpillFile, open: OpenSpillFile | null): SharedSpill {
  if (typeof spill === "string") {
    if (open === null) {
      throw new TypeError(
        `Cannot spill into "${spill}": there are no files here; give a SpillFile instead`,
      );
    }
    const file = open(spill);
    return new SharedSpill(file, () => file[Symbol.dispose]());
  }
  if (typeof spill?.read === "function" && typeof spill.write === "function") {
    return new SharedSpill(spill, () => {});
  }
  throw new TypeError(
    "Cannot open a session: spill must be a folder's path, or have the methods read and write",
  );
}
