/**
 * How a model on the hub is named: `hf:user/model`, and what of it.
 *
 * @module
 */

/** Which files of which repository. */
export interface HubName {
  /** As it was given. */
  readonly text: string;
  /** `user/model` */
  readonly repo: string;
  /** A file or a folder of the repository; empty: its root. */
  readonly path: string;
  /** What a GGUF's name must carry, such as `Q4_K_M`; null: whatever suits. */
  readonly quant: string | null;
  /** A branch, a tag or a commit. */
  readonly revision: string;
}

const FORM = /^hf:([^/:#]+)\/([^/:#]+)((?:\/[^/:#]+)*)(?::([^:/#]+))?(?:#(.+))?$/;
/** As the hub allows them. */
const REPO_PART = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;

/**
 * Takes a name apart.
 *
 * @throws {TypeError} If it is none.
 *
 * @example Usage
 * ```ts
 * import { parseHubName } from "./name.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const { repo, quant, revision } = parseHubName("hf:user/model:Q4_K_M#v1.0");
 * deepEqual([repo, quant, revision], ["user/model", "Q4_K_M", "v1.0"]);
 * ```
 */
export function parseHubName(text: string): HubName {
  const [, user = "", model = "", path = "", quant = null, revision = "main"] =
    FORM.exec(text.replace(/^hf:/i, "hf:")) ?? [];
  const isName = [user, model].every((part) => REPO_PART.test(part) && !/--|\.\./.test(part)) &&
    (path === "" || isPlainPath(path.slice(1))) && isRevision(revision) &&
    (quant === null || !isWeightsName(path));
  if (!isName) {
    throw new TypeError(
      `Cannot open "${text}": a model on the hub is named hf:user/model, hf:user/model:Q4_K_M or ` +
        "hf:user/model/file.gguf, each with #revision or without",
    );
  }
  return { text, repo: `${user}/${model}`, path: path.slice(1), quant, revision };
}

/** Whether a name is that of a file of weights, or of their index. */
export function isWeightsName(path: string): boolean {
  return /\.(safetensors|gguf|safetensors\.index\.json)$/i.test(path);
}

/**
 * Whether a path stays within its folder on every system: no `..`, nothing absolute, no drive, no
 * backslash. Names come from the server.
 */
export function isPlainPath(path: string): boolean {
  return path.length <= 1000 &&
    // deno-lint-ignore no-control-regex
    path.split("/").every((part) => /^[^\\:\u0000-\u001f]+$/.test(part) && !/^\.\.?$/.test(part));
}

/** Whether a text may be a branch, tag or commit, and a path in the cache's `refs`. */
function isRevision(text: string): boolean {
  return text.length <= 250 && /^[\w.+@/-]+$/.test(text) && isPlainPath(text);
}
