/**
 * What a session's file says before everything else: whose session it is, how it reads, and how much follows.
 *
 *     u8[8]   89 "RSF" 0d 0a 1a 0a, which no text file begins with and no transfer as text leaves whole
 *     u32     version
 *     u32     bytes of the JSON that follows
 *     u64     bytes of the whole file
 *     u8[]    the JSON, filled up with spaces to a multiple of 4
 *     u32     XXH32 of all that, seed 0
 *
 * Then sections (src/files/sections.ts), in this order: the tokens u32, 65,536 in each; where they stood in the
 * input, f64[3] for each of some of them, 16,384 in each; how keys are centred and weighed; and each chunk of keys
 * and values that is not forgotten. Numbers are little-endian, like every host.
 *
 * @module
 */

import type { KvFormat, KvStore } from "../backend/backend.ts";
import { SessionFileError } from "../errors.ts";
import { type ByteSource, readBytes } from "../files/byte_source.ts";
import { asObject, parseJson, shorten } from "../files/json.ts";
import { CHECKSUM_BYTES, hasChecksum, setChecksum } from "../files/sections.ts";
import { FULL_ATTENTION, resolveScope, type ScopeConfig } from "../reattention/scope.ts";
import { ANCHOR_NUMBERS } from "../text/token_log.ts";
import type { ModelIdentity } from "./identity.ts";
import { resolveSelectLayers } from "./select_layers.ts";

const MAGIC = new Uint8Array([0x89, 0x52, 0x53, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]);
const VERSION = 1;
const FIXED_BYTES = 24;

/** The longest JSON that is read, in bytes; it has some hundreds, and 12 more for each stretch that was forgotten. */
export const MAX_HEADER_BYTES: number = 2 ** 20;

/** Tokens, and anchors, of a section at most. */
export const TOKENS_PER_SECTION: number = 1 << 16;
export const ANCHORS_PER_SECTION: number = 1 << 14;

/** Bytes of a token, and of an anchor. */
export const TOKEN_BYTES = 4;
export const ANCHOR_BYTES: number = 8 * ANCHOR_NUMBERS;

/** The rules that a session was read by. */
export interface SavedRules {
  readonly scope: ScopeConfig;
  readonly stepSize: number;
  readonly select: "always" | "ask" | "never";
  readonly selectLayers: readonly number[];
  readonly kvFormat: KvFormat;
  readonly beyondTrainedLength: boolean;
  readonly raw: boolean;
}

/** Whose turn it is from some token on, in a conversation: the user's, or it is over with an answer. */
export interface Turn {
  /** Index of a token; one that is truncated ends the turn. */
  readonly at: number;
  readonly of: "user" | "answered";
}

/** What a session's file holds. */
export interface SessionHeader {
  readonly model: ModelIdentity;
  readonly rules: SavedRules;
  /** Of a model with a chat template, ascending. */
  readonly turns: readonly Turn[];
  /** Tokens of the sequence. */
  readonly length: number;
  /** Bytes of input that they cover. */
  readonly textBytes: number;
  /** Known places in the input. */
  readonly numAnchors: number;
  readonly cache: CacheHeader;
}

/** What it holds of the cache. */
export interface CacheHeader extends
  Readonly<
    Pick<KvStore, "layoutName" | "chunkSize" | "channelBytes" | "chunkBytes">
  > {
  /** Tokens whose keys and values are there; the others are still to be read. */
  readonly length: number;
  /** Chunks [start, end) that were forgotten. */
  readonly forgotten: readonly (readonly [start: number, end: number])[];
}

/** Sections of one kind, of `size` bytes but for the last. */
export interface SectionGroup {
  readonly count: number;
  readonly size: number;
  readonly lastSize: number;
}

/** The sections that follow a header. */
export function sectionGroups(
  { length, numAnchors, cache }: SessionHeader,
): Readonly<Record<"tokens" | "anchors" | "channels" | "chunks", SectionGroup>> {
  const { channelBytes, chunkBytes } = cache;
  const chunks = Math.ceil(cache.length / cache.chunkSize) - forgottenChunks(cache);
  return {
    tokens: groupOf(length, TOKENS_PER_SECTION, TOKEN_BYTES),
    anchors: groupOf(numAnchors, ANCHORS_PER_SECTION, ANCHOR_BYTES),
    channels: { count: 1, size: channelBytes, lastSize: channelBytes },
    chunks: { count: chunks, size: chunkBytes, lastSize: chunkBytes },
  };
}

/** How many chunks were forgotten. */
export function forgottenChunks({ forgotten }: CacheHeader): number {
  return forgotten.reduce((sum, [start, end]) => sum + end - start, 0);
}

function groupOf(items: number, perSection: number, itemBytes: number): SectionGroup {
  const count = Math.ceil(items / perSection);
  const size = perSection * itemBytes;
  return { count, size, lastSize: items * itemBytes - Math.max(0, count - 1) * size };
}

/** Bytes of a group's sections and their checksums. */
function groupBytes({ count, size, lastSize }: SectionGroup): number {
  return count === 0 ? 0 : (count - 1) * size + lastSize + count * CHECKSUM_BYTES;
}

function bodyBytes(header: SessionHeader): number {
  return Object.values(sectionGroups(header)).reduce((sum, group) => sum + groupBytes(group), 0);
}

/** A header as a file begins with it. */
export function encodeHeader(header: SessionHeader): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(header, (_, value) => value === Infinity ? "Infinity" : value);
  const json = new TextEncoder().encode(text);
  const jsonBytes = Math.ceil(json.length / 4) * 4;
  const bytes = new Uint8Array(FIXED_BYTES + jsonBytes + CHECKSUM_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, jsonBytes, true);
  view.setBigUint64(16, BigInt(bytes.length + bodyBytes(header)), true);
  bytes.fill(0x20, FIXED_BYTES);
  bytes.set(json, FIXED_BYTES);
  setChecksum(bytes, 0);
  return bytes;
}

/**
 * Reads and checks what a file says of itself; allocates no more than the header has.
 *
 * @param model The model that is to go on with it.
 * @returns The header, and how many bytes it has.
 * @throws {SessionFileError} If the file is no session's, is damaged, cut, of a later version or of another model,
 * or says what cannot be.
 */
export async function readHeader(
  source: ByteSource,
  model: ModelIdentity,
): Promise<{ readonly header: SessionHeader; readonly byteLength: number }> {
  const fail = (message: string, cause?: unknown): never => {
    throw new SessionFileError(message, source.name, cause === undefined ? {} : { cause });
  };
  const fixed = await readBytes(source, 0, Math.min(FIXED_BYTES, source.byteLength));
  if (fixed.length < MAGIC.length || MAGIC.some((byte, i) => byte !== fixed[i])) {
    fail("it must begin as a session's file does, but is none");
  }
  if (fixed.length < FIXED_BYTES) {
    fail(`it must have a header, but ends after ${fixed.length} bytes`);
  }
  const view = new DataView(fixed.buffer);
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    fail(
      `its version must be ${VERSION}, got ${version}${
        version > VERSION ? ", of a later release" : ""
      }`,
    );
  }
  const jsonBytes = view.getUint32(12, true);
  const byteLength = FIXED_BYTES + jsonBytes + CHECKSUM_BYTES;
  if (jsonBytes > MAX_HEADER_BYTES || jsonBytes % 4 !== 0) {
    fail(
      `its header must have at most ${MAX_HEADER_BYTES} bytes, a multiple of 4, got ${jsonBytes}`,
    );
  }
  const fileBytes = view.getBigUint64(16, true);
  if (fileBytes !== BigInt(source.byteLength) || source.byteLength < byteLength) {
    fail(`it must have ${fileBytes} bytes, as it says itself, got ${source.byteLength}`);
  }
  const bytes = await readBytes(source, 0, byteLength);
  if (!hasChecksum(bytes, 0)) fail("its header is damaged: the checksum does not match");
  const header = parseHeader(
    bytes.subarray(FIXED_BYTES, -CHECKSUM_BYTES),
    source.name,
    model,
    fail,
  );
  const expected = byteLength + bodyBytes(header);
  if (expected !== source.byteLength) {
    fail(`what its header lists must fill its ${source.byteLength} bytes, got ${expected}`);
  }
  return { header, byteLength };
}

type Fail = (message: string, cause?: unknown) => never;
type Fields = Readonly<Record<string, unknown>>;

function parseHeader(
  bytes: Uint8Array,
  name: string,
  model: ModelIdentity,
  fail: Fail,
): SessionHeader {
  const root = fieldsOf(attempt(() => parseJson(bytes, { name }).value, fail), "the header", fail);
  const saved = fieldsOf(root["model"], "model", fail);
  checkModel(saved, model, fail);
  const rules = fieldsOf(root["rules"], "rules", fail);
  const cache = fieldsOf(root["cache"], "cache", fail);
  const length = countOf(root, "length", fail);
  const chunkSize = countOf(cache, "chunkSize", fail, 1);
  const cached = countOf(cache, "length", fail);
  if (cached > length) fail(`its cache must have at most its ${length} tokens, got ${cached}`);
  return {
    model,
    rules: parseRules(rules, model.config.numLayers, fail),
    turns: parseTurns(root["turns"], length, fail),
    length,
    textBytes: countOf(root, "textBytes", fail),
    numAnchors: countOf(root, "numAnchors", fail),
    cache: {
      length: cached,
      layoutName: oneOf(cache, "layoutName", null, fail),
      chunkSize,
      channelBytes: countOf(cache, "channelBytes", fail),
      chunkBytes: countOf(cache, "chunkBytes", fail),
      forgotten: parseForgotten(cache["forgotten"], Math.ceil(cached / chunkSize), fail),
    },
  };
}

/** @throws {SessionFileError} If it is another model; says in what it differs. */
function checkModel(saved: Fields, model: ModelIdentity, fail: Fail): void {
  const config = fieldsOf(saved["config"], "model.config", fail);
  const own = { ...model.config } as Fields;
  for (const key of new Set([...Object.keys(own), ...Object.keys(config)])) {
    if (canonical(config[key]) !== canonical(own[key])) {
      fail(
        `it was saved with another model: ${shorten(key)} must be ${show(own[key])}, got ${
          show(config[key])
        }`,
      );
    }
  }
  for (const part of ["tokenizer", "weights"] as const) {
    if (saved[part] === model[part]) continue;
    fail(
      `it was saved with another model of the same shape: the fingerprint of the ${part} must be ` +
        `"${model[part]}", got ${show(saved[part])}`,
    );
  }
}

function parseRules(rules: Fields, numLayers: number, fail: Fail): SavedRules {
  const { selectLayers } = rules;
  const given = Object.entries(fieldsOf(rules["scope"], "rules.scope", fail))
    .map(([key, value]) => [key, value === "Infinity" ? Infinity : value]);
  const keys = Object.keys(FULL_ATTENTION);
  if (given.length !== keys.length || given.some(([key]) => !keys.includes(key as string))) {
    fail(`rules.scope must have the fields ${keys.join(", ")}, got ${given.map(([key]) => key)}`);
  }
  return {
    scope: attempt(() => resolveScope(Object.fromEntries(given), FULL_ATTENTION), fail),
    stepSize: countOf(rules, "stepSize", fail, 1),
    select: oneOf(rules, "select", ["always", "ask", "never"], fail),
    selectLayers: attempt(() => resolveSelectLayers(selectLayers as number[], numLayers), fail),
    kvFormat: oneOf(rules, "kvFormat", ["i16", "f32"], fail),
    beyondTrainedLength: flagOf(rules, "beyondTrainedLength", fail),
    raw: flagOf(rules, "raw", fail),
  };
}

function parseTurns(value: unknown, length: number, fail: Fail): Turn[] {
  if (!Array.isArray(value)) fail(`turns must be a list, got ${show(value)}`);
  let last = 0;
  return (value as unknown[]).map((turn) => {
    const fields = fieldsOf(turn, "a turn", fail);
    const at = countOf(fields, "at", fail, last);
    if (at >= length) fail(`a turn must be at one of its ${length} tokens, got ${at}`);
    last = at;
    return { at, of: oneOf(fields, "of", ["user", "answered"], fail) };
  });
}

function parseForgotten(value: unknown, chunks: number, fail: Fail): [number, number][] {
  let last = 0;
  if (!Array.isArray(value)) fail(`cache.forgotten must be a list, got ${show(value)}`);
  return (value as unknown[]).map((stretch) => {
    const [start, end] = Array.isArray(stretch) && stretch.length === 2 ? stretch : [];
    const isStretch = Number.isSafeInteger(start) && Number.isSafeInteger(end) && last <= start &&
      start < end && end <= chunks;
    if (!isStretch) {
      fail(
        `cache.forgotten must be stretches of its ${chunks} chunks, ascending, got ${
          show(stretch)
        }`,
      );
    }
    last = end;
    return [start, end];
  });
}

function fieldsOf(value: unknown, what: string, fail: Fail): Fields {
  return asObject(value) ?? fail(`${what} must be an object, got ${show(value)}`);
}

function flagOf(fields: Fields, key: string, fail: Fail): boolean {
  const value = fields[key];
  if (typeof value === "boolean") return value;
  return fail(`${key} must be true or false, got ${show(value)}`);
}

function countOf(fields: Fields, key: string, fail: Fail, least = 0): number {
  const value = fields[key];
  if (Number.isSafeInteger(value) && Number(value) >= least) return Number(value);
  return fail(`${key} must be a count of at least ${least}, got ${show(value)}`);
}

function oneOf<T extends string>(
  fields: Fields,
  key: string,
  names: readonly T[] | null,
  fail: Fail,
): T {
  const value = fields[key];
  if (typeof value === "string" && (names === null || names.includes(value as T))) {
    return value as T;
  }
  return fail(`${key} must be ${names?.join(", ") ?? "a text"}, got ${show(value)}`);
}

function attempt<T>(action: () => T, fail: Fail): T {
  try {
    return action();
  } catch (error) {
    return fail((error as Error).message, error);
  }
}

/** As JSON, whole and whatever the order of its fields. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part) => {
    const fields = asObject(part);
    return fields ? Object.fromEntries(Object.entries(fields).sort()) : part;
  }) ?? "nothing";
}

function show(value: unknown): string {
  return shorten(JSON.stringify(value) ?? "nothing");
}
