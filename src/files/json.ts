/**
 * JSON from a file, with what `JSON.parse` lets pass refused: names given twice, endless nesting.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";

/** Deepest nesting accepted; model files need 3, tokenizers about 8. */
export const MAX_JSON_DEPTH: number = 64;

/**
 * The most lists, objects and commas in a file: in memory each value takes many times its bytes. The
 * largest known tokenizer.json has about 1,900,000.
 */
export const MAX_JSON_VALUES: number = 2 ** 22;
/** The most names of objects in a file, for the same reason; the largest known has about 310,000. */
export const MAX_JSON_NAMES: number = 2 ** 20;

/** Options of {@linkcode parseJson}. */
export interface ParseJsonOptions {
  /** For messages, e.g. `config.json`. */
  readonly name: string;
  /** Where in the file the text begins. Default 0. */
  readonly byteOffset?: number;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What was parsed. */
export interface ParsedJson {
  readonly value: unknown;
  /**
   * Where in the file a name of the outermost object stands, in bytes; the text's start otherwise.
   */
  offsetOf(key: string): number;
}

/**
 * Parses UTF-8 JSON.
 *
 * @throws {ModelFormatError} If it is not UTF-8 or not JSON, if an object has a name twice, if it is
 * nested deeper than {@linkcode MAX_JSON_DEPTH}, or has too many values or names.
 */
export function parseJson(bytes: Uint8Array, options: ParseJsonOptions): ParsedJson {
  const start = options.byteOffset ?? 0;
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new ModelFormatError("Cannot parse JSON: it must be UTF-8", options.name, start);
  }
  const offsetAt = (index: number) =>
    start + new TextEncoder().encode(text.slice(0, index)).byteLength;
  // JSON.parse would build a hundred million arrays, so depth and counts are checked before.
  const keys = scan(text, (message, index) => {
    throw new ModelFormatError(`Cannot parse JSON: ${message}`, options.name, offsetAt(index));
  });
  try {
    const value: unknown = JSON.parse(text);
    return {
      value,
      offsetOf: (key) => keys.has(key) ? offsetAt(keys.get(key)!) : start,
    };
  } catch (error) {
    throw new ModelFormatError(
      text.trim() === "" ? "Cannot parse JSON: it is empty" : `Cannot parse JSON: ${error}`,
      options.name,
      start,
    );
  }
}

/**
 * Walks the text once; what is no JSON is left to `JSON.parse`. Returns where the outermost names
 * stand.
 */
function scan(text: string, fail: (message: string, index: number) => never): Map<string, number> {
  const outermost = new Map<string, number>();
  // The names of each open object; null for an open array.
  const open: (Map<string, number> | Set<string> | null)[] = [];
  let keyComes = false;
  let values = 0;
  let names = 0;
  const countValue = (i: number) => {
    if (++values > MAX_JSON_VALUES) fail(`there must be at most ${MAX_JSON_VALUES} values`, i);
  };
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case "{":
      case "[":
        if (open.length === MAX_JSON_DEPTH) {
          fail(`nesting must be at most ${MAX_JSON_DEPTH} deep`, i);
        }
        countValue(i);
        keyComes = text[i] === "{";
        open.push(keyComes ? (open.length === 0 ? outermost : new Set()) : null);
        break;
      case "}":
      case "]":
        open.pop();
        keyComes = false;
        break;
      case ",":
        countValue(i);
        keyComes = open.at(-1) instanceof Object;
        break;
      case '"': {
        const end = endOfString(text, i);
        if (keyComes) {
          const key = unquote(text.slice(i, end));
          if (++names > MAX_JSON_NAMES) fail(`there must be at most ${MAX_JSON_NAMES} names`, i);
          const given = open.at(-1);
          if (given?.has(key)) fail(`the name "${shorten(key)}" must not be given twice`, i);
          if (given instanceof Map) given.set(key, i);
          else given?.add(key);
          keyComes = false;
        }
        i = end - 1;
      }
    }
  }
  return outermost;
}

/** The index after the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return Math.min(i + 1, text.length);
}

function unquote(quoted: string): string {
  if (!quoted.includes("\\")) return quoted.slice(1, -1);
  try {
    return String(JSON.parse(quoted));
  } catch {
    return quoted; // no JSON: reported by the parser that follows
  }
}

/** The most characters of a name or a value in a message. */
const MAX_SHOWN = 100;

/** A name from a file, short enough for a message. */
export function shorten(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}...`;
}

/**
 * A value from a file, for messages: JSON, as far as a message needs it. Never longer, whatever the
 * value holds: all of it as text might be longer than a text may be.
 */
export function show(value: unknown): string {
  const pieces: string[] = [];
  let length = 0;
  const put = (piece: string) => {
    pieces.push(piece);
    length += piece.length;
  };
  const write = (value: unknown): void => {
    if (length > MAX_SHOWN) return;
    if (typeof value === "string") return put(JSON.stringify(value.slice(0, MAX_SHOWN)));
    if (ArrayBuffer.isView(value)) {
      return put(`an array of ${(value as Uint8Array).length} numbers`);
    }
    if (typeof value !== "object" || value === null) return put(String(value ?? null));
    let first = true;
    const item = (key: string, value: unknown) => {
      put(first ? key : `,${key}`);
      first = false;
      write(value);
    };
    if (Array.isArray(value)) {
      put("[");
      for (let i = 0; i < value.length && length <= MAX_SHOWN; i++) item("", value[i]);
      return put("]");
    }
    put("{");
    for (const key in value) {
      if (length > MAX_SHOWN) break;
      item(
        `${JSON.stringify(key.slice(0, MAX_SHOWN))}:`,
        (value as Record<string, unknown>)[key],
      );
    }
    put("}");
  };
  if (value === undefined) return "nothing";
  write(value);
  return shorten(pieces.join(""));
}

/** The object that a JSON value must be; its own fields only are meant to be read. */
export function asObject(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : null;
}
