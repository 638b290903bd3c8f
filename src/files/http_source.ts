/**
 * Files on servers as byte sources.
 *
 * @module
 */

import { type ByteSource, checkRange, fromBytes } from "./byte_source.ts";
import {
  cut,
  type Fetch,
  type Patience,
  refusal,
  request,
  transfer,
  versionOf,
} from "./http_range.ts";

/**
 * The largest file that {@linkcode fromUrl} downloads whole from a server without ranges, in bytes:
 * a tokenizer, a configuration or a tiny model, but never gigabytes by surprise.
 */
export const MAX_WHOLE_DOWNLOAD_BYTES: number = 64 * 2 ** 20;

/** Options of {@linkcode fromUrl}. */
export interface FromUrlOptions extends Patience {
  /** Instead of the global one: a proxy, credentials, a cache. */
  readonly fetch?: Fetch;
}

/**
 * A file on a server, read by HTTP ranges (RFC 9110, section 14); one request per `read`, and one
 * more for each time that the connection drops: it goes on at the byte where that was.
 *
 * The first request learns the size. A server that ignores ranges is accepted for files of at most
 * {@linkcode MAX_WHOLE_DOWNLOAD_BYTES}, which are then downloaded whole and kept; above, it is an
 * error. So is a file that changes between two reads, as far as the server tells (ETag or
 * Last-Modified).
 *
 * @throws {HttpError} If the server refuses.
 * @throws {ConnectionError} If it cannot be reached, or drops each connection.
 * @throws {TypeError} If it does not say the size, or sends something other than was asked for.
 */
export async function fromUrl(
  url: string | URL,
  options: FromUrlOptions = {},
): Promise<ByteSource> {
  const name = String(url);
  const send = (headers: Record<string, string>, signal: AbortSignal) =>
    (options.fetch ?? globalThis.fetch)(name, { headers, signal });
  const opened = await request(
    name,
    options,
    (signal) => send({ "Range": "bytes=0-0", "Accept-Encoding": "identity" }, signal),
    async (first, pieces) => {
      if (first.status === 200) return await downloadWhole(first, pieces(), name);
      if (first.status !== 206 && first.status !== 416) throw await refusal(first, name);
      const byteLength = sizeOf(first.headers.get("content-range"));
      await first.body?.cancel();
      // An empty file has no byte 0: 416 with "bytes */0" is its way to say so.
      if (byteLength === null || (first.status === 416 && byteLength !== 0)) {
        throw new TypeError(
          `Cannot open ${name}: the server must say the file's size in Content-Range ` +
            `(across origins: and expose that header), got "${first.headers.get("content-range")}"`,
        );
      }
      return { byteLength, version: versionOf(first) };
    },
  );
  if ("read" in opened) return opened;
  const { byteLength, version } = opened;
  return {
    name,
    byteLength,
    async read(this: ByteSource, target, start) {
      checkRange(this, target, start);
      if (target.byteLength === 0) return;
      const end = start + target.byteLength;
      await transfer(
        { name, byteLength, start, end, version, send },
        options,
        (bytes, position) => {
          target.set(bytes, position - start);
        },
      );
    },
  };
}

/** The size: what follows the slash of Content-Range. Null where there is none. */
function sizeOf(contentRange: string | null): number | null {
  const digits = contentRange?.match(/^bytes (?:\*|0-0)\/(\d{1,16})$/)?.[1];
  return digits !== undefined && Number.isSafeInteger(Number(digits)) ? Number(digits) : null;
}

async function downloadWhole(
  response: Response,
  pieces: AsyncGenerator<Uint8Array>,
  name: string,
): Promise<ByteSource> {
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
  // What has come decides how much memory there is, not what was said to come.
  const kept: Uint8Array[] = [];
  let filled = 0;
  for await (const piece of pieces) {
    filled += piece.length;
    if (filled > byteLength) {
      throw new TypeError(`Cannot read ${name}: it said ${byteLength} bytes, the server sent more`);
    }
    kept.push(piece);
  }
  if (filled < byteLength) throw cut(name, byteLength, filled);
  const bytes = new Uint8Array(byteLength);
  let start = 0;
  for (const piece of kept) {
    bytes.set(piece, start);
    start += piece.length;
  }
  return fromBytes(bytes, name);
}
