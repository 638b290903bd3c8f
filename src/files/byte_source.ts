/**
 * Bytes that can be read by position: a file, a URL with ranges, a blob, an array.
 *
 * @module
 */

/** Random access to bytes whose number is known. */
export interface ByteSource {
  /** For messages: a path or URL. */
  readonly name: string;
  /** Size in bytes. */
  readonly byteLength: number;
  /**
   * Fills `target` wholly with the bytes from `start` on. `target` may lie in shared memory.
   *
   * @throws {RangeError} If [start, start + target.byteLength) is not within the source.
   */
  read(target: Uint8Array, start: number): Promise<void>;
  /** Closes what is open. */
  close?(): Promise<void>;
}

/**
 * The largest file that {@linkcode fromUrl} downloads whole from a server without ranges, in bytes:
 * a tokenizer, a configuration or a tiny model, but never gigabytes by surprise.
 */
export const MAX_WHOLE_DOWNLOAD_BYTES: number = 64 * 2 ** 20;

/**
 * An array of bytes as a source. The array is not copied and must not change.
 *
 * @param name For messages.
 *
 * @example Usage
 * ```ts
 * import { fromBytes, readBytes } from "./byte_source.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const source = fromBytes(new Uint8Array([1, 2, 3, 4]), "four bytes");
 * deepEqual(await readBytes(source, 1, 3), new Uint8Array([2, 3]));
 * ```
 */
export function fromBytes(bytes: Uint8Array, name: string): ByteSource {
  return {
    name,
    byteLength: bytes.byteLength,
    read(this: ByteSource, target, start) {
      return attempt(() => {
        checkRange(this, target, start);
        target.set(bytes.subarray(start, start + target.byteLength));
      });
    },
  };
}

/**
 * A `Blob` or `File` as a source, e.g. one that was dropped on a page; nothing is read until asked.
 *
 * @param name For messages.
 */
export function fromBlob(blob: Blob, name: string): ByteSource {
  return {
    name,
    byteLength: blob.size,
    async read(this: ByteSource, target, start) {
      checkRange(this, target, start);
      const part = await blob.slice(start, start + target.byteLength).arrayBuffer();
      target.set(new Uint8Array(part));
    },
  };
}

/** Options of {@linkcode fromUrl}. */
export interface FromUrlOptions {
  /** Instead of the global one: a proxy, credentials, a cache. */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** Ends this and all later requests of the source. */
  readonly signal?: AbortSignal;
}

/** A server's refusal, with its status, so that "there is no such file" can be told apart. */
export class HttpError extends Error {
  /** Always `"HttpError"`. */
  override readonly name = "HttpError";
  /** The response's status, e.g. 404. */
  readonly status: number;

  /** `message` says what was asked for and what came back. */
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/**
 * A file on a server, read by HTTP ranges (RFC 9110, section 14); one request per `read`.
 *
 * The first request learns the size. A server that ignores ranges is accepted for files of at most
 * {@linkcode MAX_WHOLE_DOWNLOAD_BYTES}, which are then downloaded whole and kept; above, it is an
 * error.
 *
 * @throws {HttpError} If the server refuses.
 * @throws {TypeError} If it does not say the size, or sends something other than was asked for.
 */
export async function fromUrl(
  url: string | URL,
  options: FromUrlOptions = {},
): Promise<ByteSource> {
  const name = String(url);
  const request = (range: string) =>
    (options.fetch ?? globalThis.fetch)(name, {
      // A compressed range could not be told from a damaged one. Browsers drop this header.
      headers: { "Range": range, "Accept-Encoding": "identity" },
      signal: options.signal ?? null,
    });

  const first = await request("bytes=0-0");
  if (first.status === 200) return await downloadWhole(first, name);
  if (first.status !== 206 && first.status !== 416) throw await refusal(first, name);
  const byteLength = sizeOf(first.headers.get("content-range"));
  const etag = first.headers.get("etag");
  await first.body?.cancel();
  // An empty file has no byte 0: 416 with "bytes */0" is its way to say so.
  if (byteLength === null || (first.status === 416 && byteLength !== 0)) {
    throw new TypeError(
      `Cannot open ${name}: the server must say the file's size in Content-Range ` +
        `(across origins: and expose that header), got "${first.headers.get("content-range")}"`,
    );
  }

  return {
    name,
    byteLength,
    async read(this: ByteSource, target, start) {
      checkRange(this, target, start);
      if (target.byteLength === 0) return;
      const last = start + target.byteLength - 1;
      const response = await request(`bytes=${start}-${last}`);
      if (response.status !== 206) throw await refusal(response, name);
      const range = response.headers.get("content-range");
      if (range !== `bytes ${start}-${last}/${byteLength}`) {
        await response.body?.cancel();
        throw new TypeError(
          `Cannot read ${name}: asked for bytes ${start}-${last}/${byteLength}, got "${range}"`,
        );
      }
      if (etag !== null && response.headers.get("etag") !== etag) {
        await response.body?.cancel();
        throw new TypeError(`Cannot read ${name}: the file changed on the server meanwhile`);
      }
      await fill(target, response, name);
    },
  };
}

/**
 * The bytes [start, end) of a source, in memory of their own.
 *
 * @throws {RangeError} If they are not within the source; nothing has been allocated then.
 */
export async function readBytes(
  source: ByteSource,
  start: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  checkBounds(source, start, end);
  const bytes = new Uint8Array(end - start);
  await source.read(bytes, start);
  return bytes;
}

/**
 * What every `read` checks first.
 *
 * @throws {RangeError} If [start, start + target.byteLength) is not within the source.
 */
export function checkRange(source: ByteSource, target: Uint8Array, start: number): void {
  checkBounds(source, start, start + target.byteLength);
}

function checkBounds(source: ByteSource, start: number, end: number): void {
  if (!Number.isSafeInteger(start) || start < 0 || !(end >= start && end <= source.byteLength)) {
    throw new RangeError(
      `Cannot read bytes [${start}, ${end}) of ${source.name}: it has ${source.byteLength} bytes`,
    );
  }
}

/** A promise of what happens now, errors included. */
// deno-lint-ignore require-await
async function attempt(action: () => void): Promise<void> {
  action();
}

/** The size: what follows the slash of Content-Range. Null where there is none. */
function sizeOf(contentRange: string | null): number | null {
  const digits = contentRange?.match(/^bytes (?:\*|0-0)\/(\d{1,16})$/)?.[1];
  return digits !== undefined && Number.isSafeInteger(Number(digits)) ? Number(digits) : null;
}

async function refusal(response: Response, name: string): Promise<Error> {
  await response.body?.cancel();
  if (response.ok) {
    return new TypeError(
      `Cannot read ${name}: the server must answer a range with status 206, got ${response.status}`,
    );
  }
  return new HttpError(
    `Cannot open ${name}: the server answered ${response.status} ${response.statusText}`.trimEnd(),
    response.status,
  );
}

async function downloadWhole(response: Response, name: string): Promise<ByteSource> {
  const length = response.headers.get("content-length");
  const byteLength = length === null ? NaN : Number(length);
  if (
    !Number.isSafeInteger(byteLength) || byteLength < 0 || byteLength > MAX_WHOLE_DOWNLOAD_BYTES ||
    // Then Content-Length counts the compressed bytes.
    (response.headers.get("content-encoding") ?? "identity") !== "identity"
  ) {
    await response.body?.cancel();
    throw new TypeError(
      `Cannot read ${name} in parts: the server does not answer ranges, and only a file of a stated, ` +
        `uncompressed size up to ${MAX_WHOLE_DOWNLOAD_BYTES} bytes is downloaded whole, got ` +
        `Content-Length ${length ?? "missing"}`,
    );
  }
  const bytes = new Uint8Array(byteLength);
  await fill(bytes, response, name);
  return fromBytes(bytes, name);
}

/** Streams a body into `target`: no second copy of it ever exists. */
async function fill(target: Uint8Array, response: Response, name: string): Promise<void> {
  let filled = 0;
  const reader = response.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.byteLength > target.byteLength) {
      await reader.cancel();
      throw new TypeError(
        `Cannot read ${name}: asked for ${target.byteLength} bytes, the server sent more`,
      );
    }
    target.set(value, filled);
    filled += value.byteLength;
  }
  if (filled < target.byteLength) {
    throw new TypeError(
      `Cannot read ${name}: asked for ${target.byteLength} bytes, the connection ended after ${filled}`,
    );
  }
}
