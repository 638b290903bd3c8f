/**
 * The hub's cache on this machine, in the layout of huggingface_hub, which other programs share:
 * `blobs` by hash, `snapshots` of commits that link to them, `refs` from branches to commits.
 *
 * @module
 */

import { mkdir, readdir, readFile, rename, rm, stat, statfs, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import type { Patience } from "../files/http_range.ts";
import type { HubFile } from "../hub/choose.ts";
import type { ListedFile } from "../hub/hub.ts";
import { type Download, download, type DownloadProgress } from "./download.ts";
import { replaceFile } from "./replace_file.ts";
import { environmentVariable, explain } from "./system.ts";

/** What the environment says of the hub; undefined where nothing. */
export interface HubEnvironment {
  /** HF_ENDPOINT */
  readonly endpoint: string | undefined;
  /** HF_TOKEN, or what `hf auth login` left in a file. */
  readonly token: string | undefined;
  /** HF_HUB_OFFLINE */
  readonly offline: boolean;
  /** HF_HUB_CACHE, else `hub` in HF_HOME, else ~/.cache/huggingface/hub. */
  cacheFolder(): string;
}

/** Looks into the environment. */
export async function hubEnvironment(): Promise<HubEnvironment> {
  return {
    endpoint: environmentVariable("HF_ENDPOINT"),
    token: environmentVariable("HF_TOKEN") ?? await tokenFromFile(),
    offline: /^(1|on|yes|true)$/i.test(environmentVariable("HF_HUB_OFFLINE") ?? ""),
    cacheFolder: () => inHome(environmentVariable("HF_HUB_CACHE") ?? join(hubHome(), "hub")),
  };
}

async function tokenFromFile(): Promise<string | undefined> {
  try {
    const path = environmentVariable("HF_TOKEN_PATH") ?? join(hubHome(), "token");
    return (await readFile(inHome(path), "utf8")).trim() || undefined;
  } catch {
    return undefined; // nobody logged in, or it may not be looked at
  }
}

/** Where programs of the hub keep what is theirs. */
function hubHome(): string {
  return inHome(
    environmentVariable("HF_HOME") ??
      join(environmentVariable("XDG_CACHE_HOME") ?? "~/.cache", "huggingface"),
  );
}

function inHome(path: string): string {
  return /^~(?=$|[/\\])/.test(path) ? join(homedir(), path.slice(1)) : path;
}

/** A repository in the cache. */
export interface RepoCache {
  /** Its folder. */
  readonly folder: string;
  /** What is there of a revision; null if nothing. */
  list(revision: string): Promise<{ commit: string; files: HubFile[] } | null>;
  /** The path of a commit's file; null if it is not there, or not in its full size. */
  find(commit: string, file: HubFile): Promise<string | null>;
  /** Downloads a file unless it is there, and gives its path. */
  fetch(
    commit: string,
    file: ListedFile,
    from: Pick<Download, "name" | "send" | "check">,
    patience: Patience,
    onProgress: (progress: DownloadProgress) => void,
  ): Promise<string>;
  /** Remembers which commit a branch or tag is, for when the hub cannot be asked. */
  remember(revision: string, commit: string): Promise<void>;
  /**
   * @throws {RangeError} If the disk has fewer bytes to spare, where it tells.
   */
  checkSpace(files: readonly ListedFile[]): Promise<void>;
}

/** The most files of a repository that are looked at. */
const MAX_FILES = 100_000;

let linked = 0;

/** Opens a repository's part of the cache; nothing is written until something is fetched. */
export function openRepoCache(cacheFolder: string, repo: string): RepoCache {
  const folder = join(cacheFolder, `models--${repo.replace("/", "--")}`);
  const pointer = (commit: string, path: string) => join(folder, "snapshots", commit, path);
  const blob = ({ hash }: ListedFile) => join(folder, "blobs", hash);
  const cache: RepoCache = {
    folder,
    async list(revision) {
      const commit = isCommit(revision)
        ? revision
        : (await readFile(join(folder, "refs", revision), "utf8").catch(() => "")).trim();
      if (!isCommit(commit)) return null;
      const files: HubFile[] = [];
      await walk(pointer(commit, ""), "", files);
      return files.length === 0 ? null : { commit, files };
    },
    async find(commit, { path, byteLength }) {
      const place = pointer(commit, path);
      return await sizeOf(place) === byteLength ? place : null;
    },
    async fetch(commit, file, from, patience, onProgress) {
      const place = pointer(commit, file.path);
      if (await sizeOf(place) === file.byteLength) return place;
      const { byteLength, hash } = file;
      await download({ ...from, byteLength, hash, path: blob(file) }, patience, onProgress);
      await link(blob(file), place);
      return place;
    },
    async remember(revision, commit) {
      if (isCommit(revision)) return;
      const path = join(folder, "refs", revision);
      if (await readFile(path, "utf8").catch(() => "") === commit) return;
      try {
        await mkdir(dirname(path), { recursive: true });
        await replaceFile(path, commit);
      } catch {
        // Of a cache that may only be read. The model is there; it will be looked for by its commit.
      }
    },
    async checkSpace(files) {
      let needed = 0;
      for (const file of files) {
        // Another commit may have the same file.
        if (await sizeOf(blob(file)) === file.byteLength) continue;
        needed += file.byteLength - (await sizeOf(`${blob(file)}.incomplete`) ?? 0);
      }
      const free = await freeBytes(folder);
      if (free !== null && needed > free) {
        throw new RangeError(
          `Cannot download to "${folder}": ${needed} bytes are needed, the disk has ${free} to ` +
            "spare; HF_HUB_CACHE names another place",
        );
      }
    },
  };
  return cache;
}

function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Null where there is no file. */
async function sizeOf(path: string): Promise<number | null> {
  const info = await stat(path).catch(() => null);
  return info?.isFile() ? info.size : null;
}

/** Files below a folder, through links, but for links that lead nowhere. */
async function walk(folder: string, prefix: string, files: HubFile[]): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    if (files.length >= MAX_FILES) return;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      await walk(path, `${prefix}${entry.name}/`, files);
      continue;
    }
    const byteLength = await sizeOf(path);
    if (byteLength !== null) files.push({ path: prefix + entry.name, byteLength });
  }
}

/** What a disk has to spare; null where nobody tells. The folder need not be there yet. */
async function freeBytes(folder: string): Promise<number | null> {
  for (let path = folder; path !== dirname(path); path = dirname(path)) {
    try {
      const { bavail, bsize } = await statfs(path);
      return Number(bavail) * Number(bsize);
    } catch (cause) {
      if ((cause as { code?: string }).code !== "ENOENT") return null;
    }
  }
  return null;
}

/** Leads a snapshot's path to a blob; where the system has no links, moves the blob there. */
async function link(source: string, path: string): Promise<void> {
  const failed = (cause: unknown): never => {
    throw explain(cause, path, "write");
  };
  await mkdir(dirname(path), { recursive: true }).catch(failed);
  const temporary = `${path}.${process.pid}-${linked++}.tmp`;
  try {
    await symlink(relative(dirname(path), source), temporary);
  } catch {
    return await rename(source, path).catch(failed);
  }
  await rename(temporary, path).catch(async (cause) => {
    await rm(temporary, { force: true });
    failed(cause);
  });
}
