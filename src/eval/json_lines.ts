/**
 * Rows of a JSON-lines file, one at a time: a row may have megabytes, the file is never held.
 *
 * @module
 */

import { type ByteSource, readBytes } from "../files/byte_source.ts";

/** The longest line that is read, in bytes: a context of some fifty million tokens. */
export const MAX_LINE_BYTES: number = 2 ** 28;

/** Read at once, in bytes. */
const CHUNK_BYTES = 2 ** 20;
const NEWLINE = 10;

/** A row and where it is. */
export interface JsonRow {
  readonly value: JsonObject;
  /** Counted from 1, empty lines included. */
  readonly line: number;
  /** Where the line is in the file: [startByte, endByte), without its end. */
  readonly startByte: number;
  readonly endByte: number;
}

/** A JSON object, whose fields are looked at one by one. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * All rows, in order; lines of white space alone are left out.
 *
 * @throws {RangeError} If a line is longer than {@linkcode MAX_LINE_BYTES}.
 * @throws {SyntaxError} If one is no UTF-8 or no JSON object. All say the file and the line.
 */
export async function* readJsonLines(source: ByteSource): AsyncGenerator<JsonRow> {
  let line = 1;
  let startByte = 0;
  let held: Uint8Array[] = []; // of a line that began in chunks before
  for (let start = 0; start < source.byteLength; start += CHUNK_BYTES) {
    const end = Math.min(start + CHUNK_BYTES, source.byteLength);
    let rest = await readBytes(source, start, end);
    for (let found = rest.indexOf(NEWLINE); found >= 0; found = rest.indexOf(NEWLINE)) {
      const bytes = join([...held, rest.subarray(0, found)]);
      const endByte = startByte + bytes.length;
      const value = parseLine(source, line, bytes);
      if (value !== null) yield { value, line, startByte, endByte };
      line++;
      startByte = endByte + 1;
      held = [];
      rest = rest.subarray(found + 1);
    }
    held.push(rest);
    if (end - startByte > MAX_LINE_BYTES) {
      throw new RangeError(
        `${at(source, line)}: a line may have at most ${MAX_LINE_BYTES} bytes, it has more`,
      );
    }
  }
  const value = parseLine(source, line, join(held));
  if (value !== null) yield { value, line, startByte, endByte: source.byteLength };
}

/**
 * A row again, when its large fields were dropped.
 *
 * @throws {SyntaxError} If the file has become another meanwhile.
 */
export async function readJsonLine(
  source: ByteSource,
  { line, startByte, endByte }: Omit<JsonRow, "value">,
): Promise<JsonObject> {
  const bytes = endByte <= source.byteLength ? await readBytes(source, startByte, endByte) : null;
  const value = bytes && parseLine(source, line, bytes);
  if (value === null) throw new SyntaxError(`${at(source, line)}: the file has changed meanwhile`);
  return value;
}

/** Where a message says it is about. */
export function at(source: { readonly name: string }, line: number): string {
  return `Cannot read line ${line} of "${source.name}"`;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let filled = 0;
  for (const part of parts) {
    bytes.set(part, filled);
    filled += part.length;
  }
  return bytes;
}

function parseLine(source: ByteSource, line: number, bytes: Uint8Array): JsonObject | null {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SyntaxError(`${at(source, line)}: it must be UTF-8`, { cause });
  }
  if (text.trim() === "") return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    // Engines quote a stretch of the line, which may be long.
    const short = reason.length > 200 ? `${reason.slice(0, 200)} ...` : reason;
    throw new SyntaxError(`${at(source, line)}: it must be JSON; ${short}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const found = Array.isArray(value) ? "an array" : value === null ? "null" : `a ${typeof value}`;
    throw new SyntaxError(`${at(source, line)}: it must be a JSON object, it is ${found}`);
  }
  return value as JsonObject;
}
