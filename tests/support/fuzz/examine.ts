/**
 * Reads a damaged file as the library does, and judges what comes of it.
 *
 * @module
 */

import type { Backend } from "../../../src/backend/backend.ts";
import { ModelFormatError, SessionFileError } from "../../../src/errors.ts";
import { type ByteSource, readBytes } from "../../../src/files/byte_source.ts";
import { readGguf } from "../../../src/files/gguf.ts";
import { readSplitGguf } from "../../../src/files/gguf_split.ts";
import { parseJson } from "../../../src/files/json.ts";
import { readSafetensors, readShardedSafetensors } from "../../../src/files/safetensors.ts";
import { countElements, type TensorTable } from "../../../src/files/tensor_table.ts";
import { findChatTemplate } from "../../../src/llama/chat.ts";
import { parseGgufConfig, parseHfConfig } from "../../../src/llama/config.ts";
import { loadModel } from "../../../src/llama/load.ts";
import { parseProfile } from "../../../src/llama/profile.ts";
import { readHeader } from "../../../src/llama/session_header.ts";
import { findWeights } from "../../../src/llama/weights.ts";
import { readGgufTokenizer } from "../../../src/text/gguf_tokenizer.ts";
import { createTokenizer } from "../../../src/text/tokenizer.ts";
import type { Allocations } from "./allocations.ts";
import type { Input } from "./inputs.ts";
import type { SeedFile } from "./seed.ts";
import { SESSION } from "./small_files.ts";

/** What came of an input. */
export interface Verdict {
  readonly accepted: boolean;
  /** What must not have happened; null if nothing. */
  readonly fault: string | null;
  /** All its files, in bytes. */
  readonly fileBytes: number;
  /** What was read of them, in bytes; more than once counts more than once. */
  readonly readBytes: number;
  /** The largest allocation and all of them, in bytes. */
  readonly largest: number;
  readonly sum: number;
  readonly milliseconds: number;
}

/** What any file justifies: the first guess at a header, tables of a tokenizer's rules. */
const FREE_BYTES = 64 * 1024;
/** Milliseconds within which a small file is judged, on a machine that others use as well. */
const PATIENCE = 5000;

/**
 * Errors of the library that are of no class of its own: they begin as no engine's do. A tokenizer
 * of another kind is no damaged file; neither is a folder without a model.
 */
const OWN_WORDS = /^Cannot (use the tokenizer|open the model "|load [^ ]+: a tokenizer)/;

/** Thrown where a backend would begin to load weights: what was wrong would have been found. */
const WOULD_LOAD = Symbol("the weights would be loaded");

const NO_BACKEND = {
  byteLength: 0,
  weight: () => Promise.reject(WOULD_LOAD),
} as unknown as Backend;

/** A source of a file that goes on, as long as it says, with bytes of no meaning. */
function sourceOf(
  name: string,
  { bytes, byteLength }: SeedFile,
  note: (read: number) => void,
): ByteSource {
  return {
    name,
    byteLength,
    read(target, start) {
      const end = start + target.byteLength;
      if (!(start >= 0 && end <= byteLength)) {
        return Promise.reject(new Error(`it was read from ${start} to ${end} of ${byteLength}`));
      }
      note(target.byteLength);
      target.fill(0x3f);
      if (start < bytes.length) target.set(bytes.subarray(start, end));
      return Promise.resolve();
    },
  };
}

/** Reads an input and judges it. */
export async function examine(input: Input, allocations: Allocations): Promise<Verdict> {
  const { seed, damaged } = input;
  let read = 0;
  const files = new Map<string, ByteSource>();
  let fileBytes = 0;
  for (const [name, file] of [...seed.beside, [seed.file, damaged] as const]) {
    files.set(name, sourceOf(name, file, (bytes) => read += bytes));
    fileBytes += file.byteLength;
  }
  allocations.largest = allocations.sum = 0;
  const start = performance.now();
  let accepted = false;
  let fault: string | null = null;
  try {
    const table = await readers[seed.reader](files, seed.file);
    if (table !== null) fault = faultOf(table);
    accepted = true;
  } catch (error) {
    accepted = error === WOULD_LOAD;
    if (!accepted) fault = unexpected(error);
  }
  const milliseconds = performance.now() - start;
  const { largest, sum } = allocations;
  if (read > 4 * fileBytes) fault ??= `${read} bytes were read of files of ${fileBytes}`;
  if (largest > fileBytes + FREE_BYTES) {
    fault ??= `${largest} bytes were allocated at once for files of ${fileBytes}`;
  }
  if (sum > 16 * fileBytes + 4 * FREE_BYTES) {
    fault ??= `${sum} bytes were allocated in all for files of ${fileBytes}`;
  }
  if (milliseconds > PATIENCE) fault ??= `it took ${Math.round(milliseconds)} ms`;
  return { accepted, fault, fileBytes, readBytes: read, largest, sum, milliseconds };
}

/**
 * Reads one file of any size.
 *
 * @returns The error of its own class in words, or "accepted".
 * @throws {Error} If something else came of it.
 */
export async function examineSource(
  reader: "gguf" | "safetensors" | "model",
  source: ByteSource,
): Promise<string> {
  try {
    const name = reader === "model" ? "model.gguf" : source.name;
    await readers[reader](new Map([[name, source]]), name);
    return "accepted";
  } catch (error) {
    if (error === WOULD_LOAD) return "accepted";
    const fault = unexpected(error);
    if (fault !== null) throw new Error(fault, { cause: error });
    return (error as Error).message;
  }
}

/** What is wrong with an error; null for one that tells a user what is wrong with the file. */
function unexpected(error: unknown): string | null {
  if (!(error instanceof Error)) return `${String(error)} was thrown`;
  const { message } = error;
  if (message.length > 3000) return `an error's message has ${message.length} characters`;
  if (error instanceof SessionFileError) return null;
  if (error instanceof ModelFormatError) {
    const { byteOffset } = error;
    return Number.isSafeInteger(byteOffset) && byteOffset >= 0
      ? null
      : `an error is at byte ${byteOffset}`;
  }
  return OWN_WORDS.test(message) ? null : `${error.stack ?? error}`;
}

/** What a table says that is not so; null if nothing. */
function faultOf({ tensors }: TensorTable): string | null {
  const ends = new Map<ByteSource, number>();
  const all = [...tensors.values()]
    .sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  for (const { name, shape, source, byteOffset, byteLength } of all) {
    const count = countElements(shape);
    const isThere = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(byteLength) &&
      byteOffset >= (ends.get(source) ?? 0) && byteOffset + byteLength <= source.byteLength;
    if (!isThere) return `tensor "${name}" is from ${byteOffset} on, ${byteLength} bytes`;
    if (count === null || count > 8 * byteLength) {
      return `tensor "${name}" has [${shape}] in ${byteLength} bytes`;
    }
    ends.set(source, byteOffset + byteLength);
  }
  return null;
}

type Files = ReadonlyMap<string, ByteSource>;

const open = (files: Files) => (name: string) => {
  const file = files.get(name);
  if (file !== undefined) return Promise.resolve(file);
  return Promise.reject(new ModelFormatError("Cannot open a file that is not there", name, 0));
};

/** All that asks for a table's tensors and metadata without reading on. */
function useGguf(table: TensorTable): TensorTable {
  findChatTemplate({ name: "x", jinja: null, tokenizerConfig: null, metadata: table.metadata });
  const config = parseGgufConfig(table);
  readGgufTokenizer(table.metadata, "x.gguf");
  findWeights(table, config);
  return table;
}

const readers: Readonly<
  Record<Input["seed"]["reader"], (files: Files, name: string) => Promise<TensorTable | null>>
> = {
  async gguf(files, name) {
    const table = await readGguf(files.get(name)!);
    const fault = faultOf(table);
    if (fault !== null) throw new Error(fault);
    return useGguf(table);
  },
  async split(files, name) {
    return useGguf(await readSplitGguf(files.get(name)!, name, open(files)));
  },
  async safetensors(files, name) {
    const table = await readSafetensors(files.get(name)!);
    const fault = faultOf(table);
    if (fault !== null) throw new Error(fault);
    findWeights(table, SESSION.model.config);
    return table;
  },
  index(files) {
    return readShardedSafetensors(files.get("model.safetensors.index.json")!, open(files));
  },
  async json(files, name) {
    const file = files.get(name)!;
    const { value } = parseJson(await readBytes(file, 0, file.byteLength), { name });
    if (name === "tokenizer.json") createTokenizer(value, null, { vocabSize: 8, name });
    else if (name === "reattention.json") parseProfile(value, name, 1);
    else parseHfConfig(value, name, value);
    return null;
  },
  async model(files) {
    await loadModel(Object.fromEntries(files), { backend: NO_BACKEND, memoryLimit: 2 ** 30 });
    return null;
  },
  async session(files, name) {
    await readHeader(files.get(name)!, SESSION.model);
    return null;
  },
};
