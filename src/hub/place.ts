/**
 * A model on the hub as a folder of files: downloaded into the hub's cache where there are files,
 * read by ranges elsewhere.
 *
 * @module
 */

import type { ByteSource } from "../files/byte_source.ts";
import { ConnectionError, HttpError, type Patience } from "../files/http_range.ts";
import { fromUrl } from "../files/http_source.ts";
import type { HubAccess } from "./access.ts";
import { chooseFiles, type HubFile } from "./choose.ts";
import {
  DEFAULT_ENDPOINT,
  fileUrl,
  type Hub,
  hubFetch,
  type ListedFile,
  type Listing,
  listModel,
} from "./hub.ts";
import { type HubName, parseHubName } from "./name.ts";

/** A folder of files, and which of them is meant. */
export interface HubPlace {
  /** As it was named. */
  readonly name: string;
  /** The weights' file name; null: model.safetensors or its index. */
  readonly fileName: string | null;
  /** Null where there is no such file. */
  open(fileName: string): Promise<ByteSource | null>;
}

type CacheModule = typeof import("../system/hub_cache.ts");
type RepoCache = ReturnType<CacheModule["openRepoCache"]>;
type FileModule = typeof import("../system/file_source.ts");

/**
 * Finds a model by its name on the hub, and downloads what it needs.
 *
 * @throws {TypeError} If the name is none.
 * @throws {HttpError} If the hub refuses.
 * @throws {ConnectionError} If the hub cannot be reached, and the cache has nothing.
 * @throws {Error} If there is no such model in the repository; lists what there is.
 */
export async function findOnHub(text: string, access: HubAccess): Promise<HubPlace> {
  const name = parseHubName(text);
  const host = await findHost();
  const environment = await host?.hubEnvironment();
  const options = access.hub ?? {};
  const hub: Hub = {
    endpoint: checkEndpoint(options.endpoint ?? environment?.endpoint ?? DEFAULT_ENDPOINT),
    token: (options.token ?? environment?.token) || null,
    ...(access.fetch ? { fetch: access.fetch } : {}),
  };
  const cacheFolder = options.cacheFolder ?? environment?.cacheFolder();
  const cache = host && cacheFolder ? host.openRepoCache(cacheFolder, name.repo) : null;

  const listing = await list(name, hub, access, {
    isOffline: options.offline ?? environment?.offline ?? false,
    cached: async () => await cache?.list(name.revision) ?? null,
    place: cache?.folder ?? null,
  });
  const { commit, hub: isListed } = listing;
  const choice = chooseFiles<HubFile | ListedFile>(listing.files, name);
  if (choice.note !== null) access.onNotice?.(choice.note);

  const urlOf = (file: HubFile) => fileUrl(hub, name, commit, file.path);
  const isDownloading = cache !== null && isListed && access.download !== false;
  const download = async (files: readonly HubFile[]) => {
    const send = (file: ListedFile, init: RequestInit) =>
      hubFetch(hub, name, file.path)(urlOf(file), init);
    // Those of a hub's listing are listed files.
    await downloadAll(cache!, commit, files as readonly ListedFile[], { name, access, send });
  };
  if (isDownloading) {
    await download(choice.files);
    // Last, so that whoever finds the revision in the cache finds the model.
    await cache.remember(name.revision, commit);
  }
  return {
    name: name.text,
    fileName: choice.fileName,
    async open(fileName) {
      const file = listing.files.find(({ path }) => path === choice.folder + fileName);
      if (file === undefined) return null;
      // One that nobody could know to be needed, such as a shard of a peculiar name.
      if (isDownloading) await download([file]);
      const path = await cache?.find(commit, file);
      if (path && host) return await host.openFile(path);
      const source = await fromUrl(urlOf(file), {
        ...access,
        fetch: hubFetch(hub, name, file.path),
      });
      if (source.byteLength === file.byteLength) return source;
      throw new TypeError(
        `Cannot open ${file.path} of "${name.text}": it must have ${file.byteLength} bytes, as ` +
          `the hub lists it, got ${source.byteLength}`,
      );
    },
  };
}

/** Downloads what is not in the cache, one after the other. */
async function downloadAll(
  cache: RepoCache,
  commit: string,
  files: readonly ListedFile[],
  { name, access, send }: {
    readonly name: HubName;
    readonly access: HubAccess;
    readonly send: (file: ListedFile, init: RequestInit) => Promise<Response>;
  },
): Promise<void> {
  const missing: ListedFile[] = [];
  let loadedBytes = 0;
  for (const file of files) {
    if (await cache.find(commit, file) === null) missing.push(file);
    else loadedBytes += file.byteLength;
  }
  if (missing.length === 0) return;
  await cache.checkSpace(missing);
  const totalBytes = files.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let newBytes = 0;
  for (const file of missing) {
    const from = {
      name: `${file.path} of "${name.text}"`,
      send: (headers: Record<string, string>, signal: AbortSignal) =>
        send(file, { headers, signal }),
      check: (response: Response) => checkAnnounced(response, file, name),
    };
    await cache.fetch(commit, file, from, access, (progress) => {
      newBytes += progress.newBytes;
      access.onProgress?.({
        phase: progress.phase,
        file: file.path,
        loadedBytes: loadedBytes + progress.loadedBytes,
        totalBytes,
        newBytes,
      });
    });
    loadedBytes += file.byteLength;
  }
}

/** What a machine with files offers; null in browsers and where modules of the host are missing. */
async function findHost(): Promise<
  | Pick<CacheModule, "hubEnvironment" | "openRepoCache"> & Pick<FileModule, "openFile">
  | null
> {
  if (!("process" in globalThis)) return null;
  try {
    // Not at the top, because browsers have no such modules.
    const { hubEnvironment, openRepoCache } = await import("../system/hub_cache.ts");
    const { openFile } = await import("../system/file_source.ts");
    return { hubEnvironment, openRepoCache, openFile };
  } catch {
    return null;
  }
}

function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") {
    throw new TypeError(`The hub's endpoint (HF_ENDPOINT) must be an http(s) URL, got "${text}"`);
  }
  return url.href.replace(/\/+$/, "");
}

/** A listing, and whether it is the hub's. */
type Found = { readonly hub: true } & Listing | {
  readonly hub: false;
  readonly commit: string;
  readonly files: readonly HubFile[];
};

/** What the hub has, or the cache where the hub is not to be asked or does not answer. */
async function list(
  name: HubName,
  hub: Hub,
  access: HubAccess,
  { isOffline, cached, place }: {
    readonly isOffline: boolean;
    readonly cached: () => Promise<{ commit: string; files: HubFile[] } | null>;
    readonly place: string | null;
  },
): Promise<Found> {
  const nothing = place === null
    ? "and there is no cache here"
    : `and the cache has nothing of revision "${name.revision}" in ${place}`;
  if (isOffline) {
    const found = await cached();
    if (found) {
      access.onNotice?.(`offline (HF_HUB_OFFLINE): taking ${nameCommit(found)} from the cache`);
      return { ...found, hub: false };
    }
    throw new Error(
      `Cannot open "${name.text}": offline (HF_HUB_OFFLINE), so the hub is not asked, ${nothing}`,
    );
  }
  // Whoever is offline shall not wait long to hear it.
  const patience: Patience = { ...access, retries: Math.min(access.retries ?? 2, 2) };
  try {
    return { ...await listModel(hub, name, { stallTimeout: 15_000, ...patience }), hub: true };
  } catch (cause) {
    const isAway = cause instanceof ConnectionError ||
      (cause instanceof HttpError && (cause.status >= 500 || cause.status === 429));
    if (!isAway) throw cause;
    const found = await cached();
    if (found === null) {
      throw new ConnectionError(
        `${cause.message} (the hub is ${hub.endpoint}), ${nothing}`,
        { cause },
      );
    }
    access.onNotice?.(
      `offline: the hub at ${hub.endpoint} cannot be reached; taking ${nameCommit(found)} ` +
        "from the cache",
    );
    return { ...found, hub: false };
  }
}

function nameCommit({ commit }: { readonly commit: string }): string {
  return `commit ${commit.slice(0, 8)}`;
}

/** What the hub says when it sends the bytes must be what it listed. */
function checkAnnounced(response: Response, file: ListedFile, name: HubName): void {
  const size = response.headers.get("x-linked-size");
  const hash = response.headers.get("x-linked-etag")?.replace(/^(?:W\/)?"(.*)"$/, "$1");
  if (
    (size !== null && size !== String(file.byteLength)) ||
    (hash !== undefined && file.hash.length === 64 && hash !== file.hash)
  ) {
    throw new TypeError(
      `Cannot download ${file.path} of "${name.text}": it must be ${file.byteLength} bytes with ` +
        `hash ${file.hash}, as listed, got ${size ?? "no size"} and ${hash ?? "no hash"}`,
    );
  }
}
