/**
 * The hub's routes: which commit a revision is, which files it has, and where their bytes are.
 * Listing is done by @huggingface/hub; what travels is bounded, tried again, and explained here.
 *
 * @module
 */

import { listFiles, modelInfo } from "@huggingface/hub";
import { type Fetch, HttpError, type Patience, refusal, request } from "../files/http_range.ts";
import type { HubFile } from "./choose.ts";
import { type HubName, isPlainPath } from "./name.ts";

/** Which hub, and who asks. */
export interface Hub {
  /** Without a slash at the end. */
  readonly endpoint: string;
  /** Null: nobody in particular. */
  readonly token: string | null;
  /** The global one if undefined. */
  readonly fetch?: Fetch;
}

/** A file, and what its bytes must hash to. */
export interface ListedFile extends HubFile {
  /** SHA-256 of the bytes of large files, or SHA-1 of the git blob, in hexadecimal. */
  readonly hash: string;
}

/** A commit and its files. */
export interface Listing {
  /** 40 hexadecimal digits. */
  readonly commit: string;
  readonly files: readonly ListedFile[];
}

/** Where models are unless HF_ENDPOINT says otherwise. */
export const DEFAULT_ENDPOINT: string = "https://huggingface.co";

/** The longest answer that is read about a repository, in bytes. */
const MAX_ANSWER_BYTES = 16 * 2 ** 20;
/** The most files of a repository; the hub itself advises against more. */
const MAX_FILES = 100_000;
/** The most redirections of one request. */
const MAX_HOPS = 5;

/**
 * What a repository holds.
 *
 * @throws {HttpError} If the hub refuses: no such model or revision, or it may not be read.
 * @throws {ConnectionError} If the hub cannot be reached.
 * @throws {Error} If it answers something else.
 */
export async function listModel(hub: Hub, name: HubName, patience: Patience): Promise<Listing> {
  const asked = { hubUrl: hub.endpoint, fetch: apiFetch(hub, name, patience) as typeof fetch };
  const { sha } = await modelInfo({
    ...asked,
    name: name.repo,
    revision: name.revision,
    additionalFields: ["sha"],
  });
  const malformed = (what: string): Error =>
    new Error(`Cannot open "${name.text}": the hub at ${hub.endpoint} must answer ${what}`);
  if (!/^[0-9a-f]{40}$/.test(String(sha))) {
    throw malformed(`with a commit of 40 hexadecimal digits, got "${sha}"`);
  }
  const files: ListedFile[] = [];
  const all = listFiles({ ...asked, repo: name.repo, revision: sha, recursive: true });
  for await (const { type, path, size, oid, lfs } of all) {
    if (type !== "file") continue;
    const [hash, byteLength] = lfs ? [lfs.oid, lfs.size] : [oid, size];
    if (
      typeof path !== "string" || !isPlainPath(path) ||
      !Number.isSafeInteger(byteLength) || byteLength < 0 ||
      !(lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(String(hash))
    ) {
      throw malformed(
        `with files that have a path within the repository, a size and a hash, got ${
          JSON.stringify({ path, byteLength, hash }).slice(0, 200)
        }`,
      );
    }
    if (files.length === MAX_FILES) throw malformed(`with at most ${MAX_FILES} files, got more`);
    files.push({ path, byteLength, hash: hash! });
  }
  return { commit: sha, files };
}

/** Where a file's bytes are. */
export function fileUrl(hub: Hub, name: HubName, commit: string, path: string): string {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return `${hub.endpoint}/${name.repo}/resolve/${commit}/${encoded}`;
}

/**
 * A fetch that carries the token, but to the hub alone: files are served by other hosts. What the
 * hub says of a file when it sends there (X-Linked-Etag, X-Linked-Size) is kept with the response.
 * Its refusals are thrown, in words; those of other hosts are responses as any.
 *
 * @param path The file that is asked for; null: the repository.
 */
export function hubFetch(hub: Hub, name: HubName, path: string | null): Fetch {
  const send = hub.fetch ?? globalThis.fetch;
  return async (url, init) => {
    const said = new Headers();
    let place = url;
    for (let hop = 0;; hop++) {
      const headers = new Headers(init.headers);
      const isHub = new URL(place).origin === new URL(hub.endpoint).origin;
      if (hub.token !== null && isHub) headers.set("authorization", `Bearer ${hub.token}`);
      let response = await send(place, { ...init, headers, redirect: "manual" });
      // Browsers do not say where to; they leave the token out on the way to another host.
      if (response.type === "opaqueredirect") {
        response = await send(place, { ...init, headers, redirect: "follow" });
      }
      const location = response.headers.get("location");
      if (isHub) {
        if ([401, 403, 404].includes(response.status)) {
          await response.body?.cancel();
          throw explainRefusal(hub, name, path, response);
        }
        for (const [key, value] of response.headers) {
          if (/^x-(linked-|repo-commit)/.test(key)) said.set(key, value);
        }
      }
      if (!isRedirection(response.status) || location === null || hop === MAX_HOPS) {
        return [...said].length === 0 ? response : withHeaders(response, said);
      }
      await response.body?.cancel();
      place = new URL(location, place).href;
    }
  };
}

/** What a refusal of the hub means. */
function explainRefusal(
  hub: Hub,
  name: HubName,
  path: string | null,
  { status, statusText, headers }: Response,
): HttpError {
  const code = headers.get("x-error-code");
  const answered = `(it answered ${status} ${code ?? statusText}`.trimEnd() + ")";
  const page = `${hub.endpoint}/${name.repo}`;
  let reason: string;
  if (code === "GatedRepo" || status === 403) {
    reason = hub.token === null
      ? `it is gated: accept its terms at ${page}, and set HF_TOKEN to a token of yours`
      : `the token may not read it: accept its terms at ${page}, or set HF_TOKEN to one that may`;
  } else if (code === "RevisionNotFound") {
    reason = `it has no revision "${name.revision}"`;
  } else if (code === "EntryNotFound" || (status === 404 && path !== null)) {
    reason = `it has no file ${path ?? "like that"}`;
  } else {
    reason = hub.token === null
      ? "there is no such model, or it is private or gated: check the name, or set HF_TOKEN to a " +
        "token that may read it"
      : "there is no such model, or the token may not read it: check the name and HF_TOKEN";
  }
  const what = path === null ? `"${name.text}"` : `${path} of "${name.text}"`;
  return new HttpError(`Cannot open ${what}: ${reason} ${answered}`, status);
}

/** For the routes that answer in JSON. */
function apiFetch(hub: Hub, name: HubName, patience: Patience): Fetch {
  const send = hubFetch(hub, name, null);
  return (url, init) =>
    request(
      `"${name.text}"`,
      patience,
      (signal) => send(url, { ...init, signal }),
      async (response, pieces) => {
        if (!response.ok) throw await refusal(response, `"${name.text}"`);
        const kept: Uint8Array<ArrayBuffer>[] = [];
        let byteLength = 0;
        for await (const piece of pieces()) {
          byteLength += piece.length;
          if (byteLength > MAX_ANSWER_BYTES) {
            throw new RangeError(
              `Cannot open "${name.text}": the hub must answer with at most ${MAX_ANSWER_BYTES} ` +
                "bytes, got more",
            );
          }
          kept.push(new Uint8Array(piece));
        }
        const { status, headers } = response;
        return new Response(new Blob(kept), { status, headers });
      },
    );
}

function isRedirection(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

function withHeaders(response: Response, more: Headers): Response {
  const headers = new Headers(response.headers);
  for (const [key, value] of more) headers.set(key, value);
  const { status, statusText } = response;
  // Some statuses may not have a body, not even an empty one.
  const body = [101, 204, 205, 304].includes(status) ? null : response.body;
  return new Response(body, { status, statusText, headers });
}
