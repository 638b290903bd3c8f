/**
 * Bytes from a server that does not always answer: requests are tried again, and a transfer goes on
 * at the byte where it was cut (RFC 9110, sections 13 and 14).
 *
 * @module
 */

/** As the global one. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** How long a server is waited for. */
export interface Patience {
  /** Ends everything. */
  readonly signal?: AbortSignal;
  /** Tries after the first, counted anew whenever a byte has come. Default 5. */
  readonly retries?: number;
  /** Milliseconds before the first of them; twice as many before each one more. Default 500. */
  readonly retryDelay?: number;
  /** Milliseconds without a byte after which a connection counts as dropped. Default 60,000. */
  readonly stallTimeout?: number;
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

/** No connection, or one that was dropped: nothing that a server said. */
export class ConnectionError extends TypeError {
  /** Always `"ConnectionError"`. */
  override readonly name = "ConnectionError";
}

/** The longest that a server may ask to be left alone, in milliseconds. */
const MAX_PAUSE = 60_000;

/** A failure after which another try may go better. */
class Interruption extends Error {
  /** What to throw when patience ends. */
  readonly failure: Error;
  /** Milliseconds to wait, at least. */
  readonly pause: number;

  constructor(failure: Error, pause = 0) {
    super(failure.message);
    this.failure = failure;
    this.pause = pause;
  }
}

/** One try. */
interface Try {
  /** Ends when the caller says so, or nothing has come for long. */
  readonly signal: AbortSignal;
  /** Something came. */
  alive(): void;
  /** More came than ever before: patience begins anew. */
  advance(): void;
}

/** Tries something until it is done, refused, or patience ends. */
async function persist<T>(
  { signal, retries = 5, retryDelay = 500, stallTimeout = 60_000 }: Patience,
  act: (attempt: Try) => Promise<T>,
): Promise<T> {
  for (let failures = 0;;) {
    signal?.throwIfAborted();
    const stall = new AbortController();
    const stop = () => stall.abort(new Error(`nothing came for ${stallTimeout / 1000} s`));
    let timer = setTimeout(stop, stallTimeout);
    let pause: number;
    try {
      return await act({
        signal: signal ? AbortSignal.any([signal, stall.signal]) : stall.signal,
        alive() {
          clearTimeout(timer);
          timer = setTimeout(stop, stallTimeout);
        },
        advance() {
          failures = 0;
        },
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Interruption)) throw error;
      if (failures >= retries) throw error.failure;
      pause = Math.max(error.pause, Math.min(retryDelay * 2 ** failures, MAX_PAUSE));
      failures++;
    } finally {
      clearTimeout(timer);
    }
    await sleep(pause, signal);
  }
}

/**
 * Sends a request until it is answered, and uses the answer; all of that again if the connection
 * drops meanwhile.
 *
 * @param name For messages: what is asked for.
 * @param use Gets the response, refusals too, and its body in pieces.
 * @throws {HttpError} If the server asked for patience (408, 429, 5xx) too often.
 * @throws {ConnectionError} If there was no connection, or it was always dropped.
 */
export async function request<T>(
  name: string,
  patience: Patience,
  send: (signal: AbortSignal) => Promise<Response>,
  use: (response: Response, pieces: () => AsyncGenerator<Uint8Array>) => Promise<T>,
): Promise<T> {
  return await persist(patience, async (attempt) => {
    const response = await sendOnce(name, () => send(attempt.signal));
    return await use(response, () => readPieces(name, response, attempt));
  });
}

/** What is thrown within `use` where another try may go better: the body was cut short. */
export function cut(name: string, wanted: number, found: number): Error {
  return new Interruption(
    new ConnectionError(
      `Cannot read ${name}: asked for ${wanted} bytes, the connection ended after ${found}`,
    ),
  );
}

/** Which bytes of which file. */
export interface Transfer {
  /** For messages: a path or URL. */
  readonly name: string;
  /** The whole file's size in bytes. */
  readonly byteLength: number;
  /** The first byte. */
  readonly start: number;
  /** After the last byte. */
  readonly end: number;
  /** {@linkcode versionOf} of an earlier response: the file must not have changed since. */
  readonly version: string | null;
  /**
   * Takes the whole file from a server that does not answer ranges, from byte 0 on, and asks by
   * If-Range. Where false that is an error, and no header is sent that browsers would ask leave for.
   */
  readonly takesWhole?: boolean;
  /** Sends a request with these headers. */
  send(headers: Record<string, string>, signal: AbortSignal): Promise<Response>;
  /** Looks at an answer with bytes before they are read. */
  check?(response: Response): void;
}

/**
 * Streams bytes of a file, in order; after a dropped connection it goes on where that was.
 *
 * @param take Takes a piece and its place in the file. Places follow each other, but for a jump
 * back to 0 where `takesWhole` allows it.
 * @throws {HttpError} If the server refuses.
 * @throws {TypeError} If it sends something other than was asked for, or the file changed.
 * @throws {ConnectionError} If the connection was dropped again and again without a byte.
 */
export async function transfer(
  file: Transfer,
  patience: Patience,
  take: (bytes: Uint8Array, position: number) => void | Promise<void>,
): Promise<void> {
  const { name, byteLength, start, end, takesWhole = false } = file;
  let { version } = file;
  let position = start;
  let furthest = start;
  await persist(patience, async (attempt) => {
    const last = end - 1;
    const response = await sendOnce(name, () =>
      file.send({
        "Range": `bytes=${position}-${last}`,
        // A compressed range could not be told from a damaged one. Browsers drop this header.
        "Accept-Encoding": "identity",
        ...(takesWhole && isStrong(version) ? { "If-Range": version } : {}),
      }, attempt.signal));
    if (response.status === 200 && takesWhole) {
      // The file changed, or the server knows no ranges; its bytes are checked by the caller.
      position = 0;
    } else {
      if (response.status !== 206) throw await refusal(response, name);
      const range = response.headers.get("content-range");
      if (range !== `bytes ${position}-${last}/${byteLength}`) {
        await response.body?.cancel();
        throw new TypeError(
          `Cannot read ${name}: asked for bytes ${position}-${last}/${byteLength}, got "${range}"`,
        );
      }
      if (version !== null && versionOf(response) !== version) {
        await response.body?.cancel();
        throw new TypeError(`Cannot read ${name}: the file changed on the server meanwhile`);
      }
    }
    version = versionOf(response);
    file.check?.(response);
    for await (const bytes of readPieces(name, response, attempt)) {
      if (bytes.length > end - position) {
        throw new TypeError(
          `Cannot read ${name}: asked for ${end - start} bytes, the server sent more`,
        );
      }
      await take(bytes, position);
      position += bytes.length;
      if (position > furthest) {
        furthest = position;
        attempt.advance();
      }
    }
    if (position < end) throw cut(name, end - start, position - start);
  });
}

/** What tells one version of a file from another; null where the server says nothing of it. */
export function versionOf(response: Response): string | null {
  return response.headers.get("etag") ?? response.headers.get("last-modified");
}

/** Only such a tag may stand in If-Range: equal bytes, not only an equal meaning. */
function isStrong(version: string | null): version is string {
  return version !== null && version.startsWith('"');
}

/** What is thrown for a response that is none. */
export async function refusal(response: Response, name: string): Promise<Error> {
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

async function sendOnce(name: string, send: () => Promise<Response>): Promise<Response> {
  let response: Response;
  try {
    response = await send();
  } catch (cause) {
    // A refusal that the sender has put into words.
    if (cause instanceof HttpError) throw cause;
    throw dropped(`Cannot reach the server of ${name}`, cause);
  }
  if (![408, 429, 500, 502, 503, 504].includes(response.status)) return response;
  const seconds = Number(response.headers.get("retry-after") ?? 0);
  const pause = seconds > 0 ? Math.min(seconds * 1000, MAX_PAUSE) : 0;
  throw new Interruption(await refusal(response, name), pause);
}

/** A response's body. */
async function* readPieces(
  name: string,
  response: Response,
  attempt: Try,
): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  let isDone = false;
  try {
    while (true) {
      const { done, value } = await reader.read().catch((cause) => {
        isDone = true;
        throw dropped(`Cannot read ${name}`, cause);
      });
      isDone = done;
      // A fetch of the caller's may not know the signal.
      attempt.signal.throwIfAborted();
      if (done) return;
      attempt.alive();
      yield value;
    }
  } finally {
    // Nobody wants the rest.
    if (!isDone) await reader.cancel().catch(() => {});
  }
}

function dropped(what: string, cause: unknown): Interruption {
  // Node says "fetch failed", and why one level below.
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const reason = inner instanceof Error ? inner.message || inner.name : String(inner);
  // Deno adds where to, which may be a signed URL.
  const short = reason.replace(/ for url \([^)]*\)/, "");
  return new Interruption(new ConnectionError(`${what}: ${short}`, { cause }));
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
