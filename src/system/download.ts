/**
 * A file of a server's on the disk: whole and checked, or not at all. What an ended process left
 * is gone on with.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { constants, type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { HttpError, type Patience, type Transfer, transfer } from "../files/http_range.ts";
import { takeLock } from "./file_lock.ts";
import { explain } from "./system.ts";

/** What is to be on the disk, and where. */
export interface Download extends Pick<Transfer, "name" | "byteLength" | "send" | "check"> {
  /** Its path, once it is whole; `path.incomplete` until then. */
  readonly path: string;
  /** In hexadecimal: SHA-256 of the bytes, or SHA-1 of the git blob, by its length. */
  readonly hash: string;
}

/** How far a download is. */
export interface DownloadProgress {
  /** Waiting for another process that downloads it, checking what is there, or downloading. */
  readonly phase: "wait" | "check" | "download";
  /** Bytes of the file that are there and checked. */
  readonly loadedBytes: number;
  /** Of these, how many came just now. */
  readonly newBytes: number;
}

/** Bytes of a file that are read at once. */
const PIECE = 2 ** 20;

/**
 * Downloads a file, unless it is there in its full size. Bytes are written where they belong, and
 * hashed as they come; after a break, in this process or in one that was killed, it goes on at the
 * byte where that was. Of several processes one downloads, the others wait for it.
 *
 * @throws {HttpError} If the server refuses.
 * @throws {ConnectionError} If the connection was dropped again and again; what came is kept.
 * @throws {Error} If the bytes are not those that the hash is of: they are thrown away. If the
 * system does not let them be written; what was written is kept.
 */
export async function download(
  file: Download,
  patience: Patience,
  onProgress: (progress: DownloadProgress) => void,
): Promise<void> {
  const { path } = file;
  if (await isWhole(file)) return;
  await mkdir(dirname(path), { recursive: true }).catch((cause) => {
    throw explain(cause, dirname(path), "write");
  });
  const incomplete = `${path}.incomplete`;
  await using lock = await takeLock(`${incomplete}.lock`, {
    ...(patience.signal ? { signal: patience.signal } : {}),
    onWait: () => onProgress({ phase: "wait", loadedBytes: 0, newBytes: 0 }),
    until: () => isWhole(file),
  });
  if (lock === null || await isWhole(file)) return;
  const failed = (cause: unknown): never => {
    throw explain(cause, incomplete, "write");
  };
  const handle = await open(incomplete, constants.O_RDWR | constants.O_CREAT).catch(failed);
  try {
    const left = (await handle.stat()).size;
    let found = await fill(handle, left, file, patience, onProgress).catch((error) => {
      // What was left may be longer than what the server has.
      if (left > 0 && error instanceof HttpError && error.status === 416) return null;
      throw error;
    });
    // Bytes that an earlier process left may be at fault: a system that lost its power, say.
    if (left > 0 && found !== file.hash) found = await fill(handle, 0, file, patience, onProgress);
    if (found !== file.hash) {
      await handle.truncate(0);
      throw new Error(
        `Cannot download ${file.name}: its ${file.hash.length === 64 ? "SHA-256" : "git SHA-1"} ` +
          `must be ${file.hash}, got ${found}: it was damaged on the way, or changed; thrown away`,
      );
    }
    await handle.sync().catch(failed);
  } finally {
    await handle.close();
  }
  await lock.check();
  await rename(incomplete, path).catch(failed);
}

/** Whether a file is there in its full size. One of another size is taken away. */
async function isWhole({ path, byteLength }: Download): Promise<boolean> {
  const info = await stat(path).catch(() => null);
  if (info === null) return false;
  if (info.isFile() && info.size === byteLength) return true;
  await rm(path, { force: true }).catch((cause) => {
    throw explain(cause, path, "write");
  });
  return false;
}

/** Hashes the first bytes that are there, and gets the others; gives the hash of all. */
async function fill(
  handle: FileHandle,
  left: number,
  file: Download,
  patience: Patience,
  onProgress: (progress: DownloadProgress) => void,
): Promise<string> {
  const { path, byteLength } = file;
  const failed = (cause: unknown): never => {
    throw explain(cause, `${path}.incomplete`, "write");
  };
  let hash = startHash(file);
  let position = left <= byteLength ? left : 0;
  if (position < left || position === 0) await handle.truncate(0).catch(failed);
  await hashStart(handle, position, hash, patience, (loadedBytes) => {
    onProgress({ phase: "check", loadedBytes, newBytes: 0 });
  });
  if (position < byteLength) {
    const wanted = { ...file, start: position, end: byteLength, version: null, takesWhole: true };
    await transfer(wanted, patience, async (bytes, start) => {
      if (start !== position) {
        // From the beginning, from a server that does not go on.
        position = start;
        hash = startHash(file);
        await handle.truncate(start).catch(failed);
      }
      await write(handle, bytes, position).catch(failed);
      hash.update(bytes);
      position += bytes.length;
      onProgress({ phase: "download", loadedBytes: position, newBytes: bytes.length });
    });
  }
  return hash.digest("hex");
}

function startHash({ hash, byteLength }: Download): Hash {
  if (hash.length === 64) return createHash("sha256");
  return createHash("sha1").update(`blob ${byteLength}\0`);
}

async function hashStart(
  handle: FileHandle,
  end: number,
  hash: Hash,
  { signal }: Patience,
  onPiece: (end: number) => void,
): Promise<void> {
  const buffer = new Uint8Array(Math.min(PIECE, end));
  for (let start = 0; start < end;) {
    signal?.throwIfAborted();
    const length = Math.min(buffer.length, end - start);
    const { bytesRead } = await handle.read(buffer, 0, length, start);
    if (bytesRead === 0) {
      throw new Error("Cannot read what was downloaded: the file became shorter");
    }
    hash.update(buffer.subarray(0, bytesRead));
    start += bytesRead;
    onPiece(start);
  }
}

async function write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    if (bytesWritten === 0) throw new Error("nothing could be written");
    done += bytesWritten;
  }
}
