/**
 * How models are got that are not on this machine, and what is said about it meanwhile.
 *
 * @module
 */

import type { FromUrlOptions } from "../files/http_source.ts";

/** Which hub, and where its files are kept; the defaults come from the environment. */
export interface HubOptions {
  /** Default: HF_ENDPOINT, else https://huggingface.co. */
  readonly endpoint?: string;
  /** For models that not everybody may read. Default: HF_TOKEN, else that of `hf auth login`. */
  readonly token?: string;
  /** Default: HF_HUB_CACHE, else `hub` in HF_HOME, else ~/.cache/huggingface/hub. */
  readonly cacheFolder?: string;
  /** Only what is in the cache. Default: HF_HUB_OFFLINE. */
  readonly offline?: boolean;
}

/** How far the bytes of a model are. */
export interface LoadProgress {
  /**
   * From the hub to its cache: `wait` for another process that downloads, `check` what an earlier
   * one left, `download`. Then `read`, from wherever the model is into memory.
   */
  readonly phase: "wait" | "check" | "download" | "read";
  /** The file in question. */
  readonly file: string;
  /** Bytes of the model that are there. */
  readonly loadedBytes: number;
  /** All bytes of the model. */
  readonly totalBytes: number;
  /** Bytes that have come since the phase began. */
  readonly newBytes: number;
}

/** How a model on the hub is got. */
export interface HubAccess extends FromUrlOptions {
  /** Which hub. */
  readonly hub?: HubOptions;
  /**
   * False: what the cache has not is read by ranges and not kept; then sizes are checked, but not
   * hashes. So it is where there are no files, as in browsers. Default true.
   */
  readonly download?: boolean;
  /** Called with each piece of a download. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Told what was decided without being asked for: a line for people. */
  readonly onNotice?: (notice: string) => void;
}
