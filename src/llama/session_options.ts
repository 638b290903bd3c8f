/**
 * How sessions read and write, and what they tell.
 *
 * @module
 */

import type { KvFormat, SpillFile, TokenRange } from "../backend/backend.ts";
import type { ScopeConfig } from "../reattention/scope.ts";
import type { SamplerOptions } from "./sampler.ts";
import type { SelectionRecord } from "./selection_record.ts";
import type { SavedRules } from "./session_header.ts";

/** How a session reads. */
export interface SessionOptions {
  /** Default: the model's profile, else {@linkcode fitScope} of its trained length. */
  readonly scope?: Partial<ScopeConfig>;
  /**
   * Tokens read at once. Default: the profile's, else what leaves the oldest of a step two thirds
   * of its local region, at most 512.
   */
  readonly stepSize?: number;
  /**
   * When attention selects: in every step (the paper; cost grows with the square of the length),
   * only for a question and each generated token (default; reading is linear), or never.
   */
  readonly select?: "always" | "ask" | "never";
  /**
   * The layers that select, when attention selects; the others read their global and local tokens
   * only. Indices, the first layer is 0. Default: the model's profile, else all.
   */
  readonly selectLayers?: readonly number[] | "all";
  /** How keys and values are kept. Default `"i16"`. */
  readonly kvFormat?: KvFormat;
  /**
   * What the cache of the session and its forks may occupy in memory, in bytes; never more, whatever it costs.
   * Default: all that the backend may.
   */
  readonly cacheBytes?: number;
  /**
   * Where the values of old tokens go when memory ends, about half of the cache; selection reads all keys, so
   * these stay. A folder, where the session makes a file that is gone with it and its forks; or a file of the
   * caller's, who closes it after them. Nothing that is read changes. Scores must be `"qk"`.
   */
  readonly spill?: string | SpillFile;
  /**
   * What to do when nothing fits any more: fail (default), or forget the oldest tokens behind the global ones,
   * forks' shared ones too. They are never selected again.
   */
  readonly forget?: "oldest";
  /** Told where tokens were forgotten so far, each time that some were; forks tell it, too. */
  readonly onForget?: (forgotten: readonly TokenRange[]) => void;
  /** Allows scopes beyond the trained length, where the model breaks: for baselines. */
  readonly beyondTrainedLength?: boolean;
  /** Reads and asks without the model's chat template, as for a base model. Default false. */
  readonly raw?: boolean;
  /**
   * Told that the GPU was lost and what goes on instead. The session is read again from its tokens, in the same
   * steps (those of a restored session are assumed to have been whole), by the wasm backend.
   */
  readonly onDeviceLost?: (message: string) => void;
  /** Told what each layer selected, step by step. */
  readonly onSelect?: (record: SelectionRecord) => void;
}

/** What a fork may do differently. */
export type ForkOptions = Pick<
  SessionOptions,
  "scope" | "select" | "selectLayers" | "beyondTrainedLength" | "onForget" | "onSelect"
>;

/**
 * What a restored session may do differently; what is not given is as it was when it was saved, fields of `scope`
 * too. With another scope the step is that scope's.
 */
export type RestoreOptions = Omit<SessionOptions, "kvFormat">;

/** The options of a session that goes on by the rules it was saved with, but for what is said. */
export function restoredOptions(saved: SavedRules, options: RestoreOptions): SessionOptions {
  const stepSize = options.stepSize ?? (options.scope ? undefined : saved.stepSize);
  return {
    ...options,
    scope: { ...saved.scope, ...options.scope },
    ...(stepSize === undefined ? {} : { stepSize }),
    select: options.select ?? saved.select,
    selectLayers: options.selectLayers ?? saved.selectLayers,
    kvFormat: saved.kvFormat,
    beyondTrainedLength: options.beyondTrainedLength ?? saved.beyondTrainedLength,
    raw: options.raw ?? saved.raw,
  };
}

/** How tokens are generated. */
export interface GenerateOptions extends SamplerOptions {
  /** Default 256. */
  readonly maxTokens?: number;
  /** Ends after the current step when it fires; the session stays usable. */
  readonly signal?: AbortSignal;
  /** Token ids that end the text, besides the model's own end tokens; they are not given out. */
  readonly stopTokens?: readonly number[];
}

/** How a text is generated. */
export interface AskOptions extends Omit<GenerateOptions, "stopTokens"> {
  /** Strings before which, and token ids at which, the text ends, besides the model's own. */
  readonly stop?: readonly (string | number)[];
  /** Takes the question as it is instead of the form or the turn that the model was trained on. */
  readonly raw?: boolean;
}

/** What a session did so far, apart from what its parent did. */
export interface SessionStats {
  /** Tokens in the sequence. */
  readonly length: number;
  /** Tokens that went through the model: of texts, questions and answers. */
  readonly readTokens: number;
  /** Tokens that were given out. */
  readonly generatedTokens: number;
  /** Time for texts. */
  readonly readSeconds: number;
  /** Time for questions, but for their last tokens. */
  readonly questionSeconds: number;
  /** Time for the tokens whose output was wanted. */
  readonly generateSeconds: number;
  /** Chunks of keys and values in memory, those shared with forks included. */
  readonly cacheBytes: number;
  /** Tokens whose values are in the spill file. */
  readonly spilledTokens: number;
  /** Tokens that were forgotten to make room. */
  readonly forgottenTokens: number;
  /** Where they were. */
  readonly forgotten: readonly TokenRange[];
  readonly bytesPerToken: number;
  /** The most tokens one attention call could read so far. */
  readonly largestScope: number;
}

/**
 * Tokens to read at once where nobody says how many: what leaves the oldest of a step two thirds of
 * its local region, at most 512.
 */
export function defaultStepSize(scope: ScopeConfig, trainedLength: number): number {
  const local = Math.min(scope.localSize > 0 ? scope.localSize : trainedLength, trainedLength);
  return Math.min(512, 2 ** Math.floor(Math.log2(Math.max(1, local / 3))));
}
