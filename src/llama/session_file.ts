/**
 * A session as a file: its tokens, where they stood, and the cache, so that it goes on where it was, to the last
 * bit. The format is in session_header.ts.
 *
 * @module
 */

import { SessionFileError } from "../errors.ts";
import type { ByteSource } from "../files/byte_source.ts";
import { fromUrl } from "../files/http_source.ts";
import { shorten } from "../files/json.ts";
import { type ByteSink, readSections, type Section, writeSections } from "../files/sections.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import { ANCHOR_NUMBERS, type TokenLog } from "../text/token_log.ts";
import { type Identified, identityOf, type ModelIdentity } from "./identity.ts";
import {
  ANCHOR_BYTES,
  ANCHORS_PER_SECTION,
  encodeHeader,
  forgottenChunks,
  readHeader,
  type SectionGroup,
  sectionGroups,
  type SessionHeader,
  TOKEN_BYTES,
  TOKENS_PER_SECTION,
} from "./session_header.ts";

/** Where a session is saved: a path, a `file:` URL, or any stream of bytes. */
export type SaveTarget = string | URL | WritableStream<Uint8Array>;

/** Where it is restored from: a path, a URL (`file:`, `http:`, `https:`), or any source of bytes. */
export type RestoreSource = string | URL | ByteSource;

/** What is said of a session beside its parts. */
export type SavedState = Pick<SessionHeader, "rules" | "turns">;

/** What a session is made of. */
export interface SessionParts {
  readonly log: TokenLog;
  readonly cache: KvCache;
}

/**
 * Writes a session. At a path the file is there whole or not at all: until the new one is safe on the disk the
 * old one stays. A stream is closed at the end, and aborted where something fails.
 *
 * @throws {Error} If it cannot be written; says why.
 */
export async function saveSession(
  target: SaveTarget,
  model: Identified,
  state: SavedState,
  parts: SessionParts,
): Promise<void> {
  const identity = identityOf(model);
  const write = (sink: ByteSink) => writeSession(sink, identity, state, parts);
  if (typeof target !== "string" && !(target instanceof URL)) {
    return await writeStream(target, write);
  }
  const { replaceFileWith } = await import("../system/replace_file.ts");
  await replaceFileWith(await pathOf(target), write);
}

/** A session's file, its header read and checked. */
export interface SavedSession extends SavedState {
  /** Tokens that were forgotten before it was saved. */
  readonly forgottenTokens: number;
  /**
   * Fills what is still empty, piece by piece.
   *
   * @throws {SessionFileError} If a section is damaged; what was filled is of no use then.
   * @throws {OutOfMemoryError} If there is no room for the cache.
   */
  fill(parts: SessionParts): Promise<void>;
  /** Closes what was opened here. */
  close(): Promise<void>;
}

/**
 * Opens a session's file.
 *
 * @throws {SessionFileError} If it cannot be gone on with; nothing has been allocated then.
 */
export async function openSession(
  source: RestoreSource,
  model: Identified,
): Promise<SavedSession> {
  const identity = identityOf(model);
  const isCallers = typeof source !== "string" && !(source instanceof URL);
  const file = isCallers ? source : await openSource(source);
  const close = async () => {
    if (!isCallers) await file.close?.();
  };
  try {
    const { header, byteLength } = await readHeader(file, identity);
    return {
      rules: header.rules,
      turns: header.turns,
      forgottenTokens: forgottenChunks(header.cache) * header.cache.chunkSize,
      fill: (parts) => readSession(file, byteLength, header, parts),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function writeSession(
  sink: ByteSink,
  model: ModelIdentity,
  { rules, turns }: SavedState,
  { log, cache }: SessionParts,
): Promise<void> {
  const { store } = cache;
  const numChunks = Math.ceil(cache.length / store.chunkSize);
  const forgotten: [number, number][] = [];
  for (let chunk = 0; chunk < numChunks; chunk++) {
    if (store.hasChunk(chunk)) continue;
    const last = forgotten.at(-1);
    if (last?.[1] === chunk) last[1]++;
    else forgotten.push([chunk, chunk + 1]);
  }
  const { layoutName, chunkSize, channelBytes, chunkBytes } = store;
  const header: SessionHeader = {
    model,
    rules,
    turns,
    length: log.length,
    textBytes: log.byteLength,
    numAnchors: log.numAnchors,
    cache: { length: cache.length, layoutName, chunkSize, channelBytes, chunkBytes, forgotten },
  };
  await sink(encodeHeader(header));
  await writeSections(sectionsOf(header, { log, cache }), sink);
}

/** What follows a header. */
function* sectionsOf(header: SessionHeader, { log, cache }: SessionParts): Generator<Section> {
  const { store } = cache;
  const { tokens, anchors, channels } = sectionGroups(header);
  for (let i = 0; i < tokens.count; i++) {
    const start = i * TOKENS_PER_SECTION;
    const byteLength = sizeOf(tokens, i);
    const end = start + byteLength / TOKEN_BYTES;
    yield { byteLength, fill: (out) => asTokens(out).set(log.slice(start, end)) };
  }
  for (let i = 0; i < anchors.count; i++) {
    const start = i * ANCHORS_PER_SECTION;
    const byteLength = sizeOf(anchors, i);
    yield { byteLength, fill: (out) => log.readAnchors(asAnchors(out), start) };
  }
  yield { byteLength: channels.size, fill: (out) => store.readChannels(out) };
  for (const { chunk, count, isForgotten } of chunksOf(header)) {
    if (isForgotten) continue;
    yield { byteLength: store.chunkBytes, fill: (out) => store.readChunk(out, chunk, count) };
  }
}

async function readSession(
  source: ByteSource,
  start: number,
  header: SessionHeader,
  { log, cache }: SessionParts,
): Promise<void> {
  const { store } = cache;
  const fail = (message: string, cause?: unknown): never => {
    throw new SessionFileError(message, source.name, { cause });
  };
  for (const key of ["layoutName", "chunkSize", "channelBytes", "chunkBytes"] as const) {
    if (header.cache[key] === store[key]) continue;
    fail(
      `its cache must be laid out as this backend's, whose ${key} is ${show(store[key])}, got ` +
        show(header.cache[key]),
    );
  }
  const lost = forgottenChunks(header.cache);
  store.admit(Math.max(0, header.cache.length - lost * store.chunkSize));

  const groups = sectionGroups(header);
  const sections = readSections(source, start, sizesOf(Object.values(groups)), (number) => {
    return fail(`${nameSection(header, number)} are damaged: the checksum does not match`);
  });
  const next = async () => (await sections.next()).value as Uint8Array<ArrayBuffer>;
  const { vocabSize } = header.model.config;
  try {
    for (let i = 0; i < groups.tokens.count; i++) {
      const tokens = asTokens(await next());
      const foreign = tokens.find((token) => token >= vocabSize);
      if (foreign !== undefined) fail(`its tokens must be below ${vocabSize}, got ${foreign}`);
      log.restoreTokens(tokens);
    }
    for (let i = 0; i < groups.anchors.count; i++) {
      const anchors = asAnchors(await next());
      try {
        log.restoreAnchors(anchors, header.textBytes);
      } catch (error) {
        fail((error as Error).message, error);
      }
    }
    store.writeChannels(await next());
    for (const { chunk, count, isForgotten } of chunksOf(header)) {
      if (!isForgotten) await store.reserve(chunk * store.chunkSize + count);
      store.writeChunk(chunk, count, isForgotten ? null : await next());
    }
    cache.advance(header.cache.length);
  } finally {
    await sections.return(undefined);
  }
}

/** The chunks of a cache, and how many tokens each has. */
function* chunksOf({ cache: { length, chunkSize, forgotten } }: SessionHeader): Generator<
  { readonly chunk: number; readonly count: number; readonly isForgotten: boolean }
> {
  let stretch = 0;
  for (let chunk = 0; chunk * chunkSize < length; chunk++) {
    while (stretch < forgotten.length && forgotten[stretch]![1] <= chunk) stretch++;
    const isForgotten = stretch < forgotten.length && forgotten[stretch]![0] <= chunk;
    yield { chunk, count: Math.min(chunkSize, length - chunk * chunkSize), isForgotten };
  }
}

/** What a section holds, for messages. */
function nameSection(header: SessionHeader, number: number): string {
  const { tokens, anchors } = sectionGroups(header);
  if (number < tokens.count) return "its tokens";
  const afterTokens = number - tokens.count;
  if (afterTokens < anchors.count) return "the places of its tokens";
  if (afterTokens === anchors.count) return "the channels of its keys";
  const chunks = [...chunksOf(header)].filter(({ isForgotten }) => !isForgotten);
  const { chunk, count } = chunks[afterTokens - anchors.count - 1]!;
  const first = chunk * header.cache.chunkSize;
  return `the keys and values of tokens ${first} to ${first + count}`;
}

function* sizesOf(groups: readonly SectionGroup[]): Generator<number> {
  for (const group of groups) for (let i = 0; i < group.count; i++) yield sizeOf(group, i);
}

function sizeOf({ count, size, lastSize }: SectionGroup, i: number): number {
  return i === count - 1 ? lastSize : size;
}

function asTokens({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Uint32Array {
  return new Uint32Array(buffer, byteOffset, byteLength / TOKEN_BYTES);
}

function asAnchors({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Float64Array {
  return new Float64Array(buffer, byteOffset, byteLength / ANCHOR_BYTES * ANCHOR_NUMBERS);
}

async function writeStream(
  stream: WritableStream<Uint8Array>,
  write: (sink: ByteSink) => Promise<void>,
): Promise<void> {
  const writer = stream.getWriter();
  try {
    // A copy, because a stream may keep what it was given.
    await write((bytes) => writer.write(bytes.slice()));
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(() => {});
    throw error;
  }
}

/** A path stays one; of URLs only `file:` can be written. */
async function pathOf(target: string | URL): Promise<string> {
  if (typeof target === "string" && !/^(file|https?):/i.test(target)) return target;
  const url = new URL(target);
  if (url.protocol !== "file:") {
    throw new TypeError(
      `Cannot save the session: the target must be a path, a file: URL or a stream, got ${url.href}`,
    );
  }
  // Not at the top, because browsers have no such module.
  return (await import("../system/file_source.ts")).pathOf(url);
}

async function openSource(source: string | URL): Promise<ByteSource> {
  if (/^https?:/i.test(String(source))) return await fromUrl(source);
  const { openFile } = await import("../system/file_source.ts");
  return await openFile(await pathOf(source));
}

function show(value: string | number): string {
  return shorten(JSON.stringify(value));
}
