/**
 * Safetensors: a length, a JSON header, the tensors' bytes. Only the header is read here, and all
 * of it is checked before anything is built on it.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import { type ByteSource, readBytes } from "./byte_source.ts";
import { asObject, parseJson, shorten, show } from "./json.ts";
import { countElements, type TensorInfo, type TensorTable } from "./tensor_table.ts";

/** What Hugging Face's layout calls a model in one file. */
export const WEIGHTS: string = "model.safetensors";
/** What it calls the index of a model in several. */
export const WEIGHTS_INDEX: string = "model.safetensors.index.json";

/** The longest header accepted, in bytes: the format's own limit. */
export const MAX_SAFETENSORS_HEADER_BYTES: number = 100_000_000;
/** The most dimensions of a tensor. */
export const MAX_SAFETENSORS_DIMENSIONS: number = 16;
/** The most files of a sharded model; the largest known has a few hundred. */
export const MAX_SHARDS: number = 4096;

/** Bits per number; the types of the format, usable here or not. */
const DTYPE_BITS: ReadonlyMap<string, number> = new Map(Object.entries({
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
}));

/**
 * Reads a safetensors header.
 *
 * @returns All tensors of the file, and `__metadata__`.
 * @throws {ModelFormatError} If anything of it is not as the format says; with the place.
 *
 * @example Usage
 * ```ts
 * import { fromBytes } from "./byte_source.ts";
 * import { readSafetensors } from "./safetensors.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const header = new
 * TextEncoder().encode('{"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}'); const file = new
 * Uint8Array(8 + header.length + 4); file[0] = header.length;
 * file.set(header, 8);
 * const { tensors } = await readSafetensors(fromBytes(file, "x.safetensors"));
 * deepEqual(tensors.get("x")?.shape, [2]);
 * ```
 */
export async function readSafetensors(source: ByteSource): Promise<TensorTable> {
  const fail = (message: string, byteOffset: number): never => {
    throw new ModelFormatError(
      `Cannot read safetensors header: ${message}`,
      source.name,
      byteOffset,
    );
  };
  if (source.byteLength < 8) {
    fail(`a file must have at least 8 bytes, got ${source.byteLength}`, 0);
  }
  const prefix = new DataView((await readBytes(source, 0, 8)).buffer);
  const headerLength = prefix.getBigUint64(0, true);
  if (headerLength < 2n || headerLength > BigInt(MAX_SAFETENSORS_HEADER_BYTES)) {
    fail(
      `its length must be from 2 to ${MAX_SAFETENSORS_HEADER_BYTES} bytes, got ${headerLength}`,
      0,
    );
  }
  const dataStart = 8 + Number(headerLength);
  if (dataStart > source.byteLength) {
    fail(
      `its ${headerLength} bytes must be within the file, which has ${source.byteLength} bytes`,
      0,
    );
  }
  const header = await readBytes(source, 8, dataStart);
  const json = parseJson(header, { name: source.name, byteOffset: 8 });
  const entries = asObject(json.value) ?? fail("it must be an object", 8);

  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of Object.entries(entries)) {
    const failHere = (message: string) => fail(message, json.offsetOf(name));
    if (name === "__metadata__") {
      for (const [key, value] of Object.entries(asObject(entry) ?? failHere(NO_STRINGS))) {
        metadata.set(key, typeof value === "string" ? value : failHere(NO_STRINGS));
      }
    } else {
      tensors.set(name, readEntry(name, entry, source, dataStart, failHere));
    }
  }
  checkOverlaps(tensors, (message, name) => fail(message, json.offsetOf(name)));
  return { name: source.name, format: "safetensors", tensors, metadata };
}

const NO_STRINGS = '"__metadata__" must be an object of strings';

function readEntry(
  name: string,
  entry: unknown,
  source: ByteSource,
  dataStart: number,
  fail: (message: string) => never,
): TensorInfo {
  const quoted = `"${shorten(name)}"`;
  const { dtype, shape, data_offsets: offsets } = asObject(entry) ??
    fail(`tensor ${quoted} must be an object`);
  const bits = typeof dtype === "string" ? DTYPE_BITS.get(dtype) : undefined;
  if (typeof dtype !== "string" || bits === undefined) {
    return fail(`tensor ${quoted} must have a known dtype, got ${show(dtype)}`);
  }
  if (!isCounts(shape) || shape.length > MAX_SAFETENSORS_DIMENSIONS) {
    return fail(
      `the shape of ${quoted} must be at most ${MAX_SAFETENSORS_DIMENSIONS} integers from 0 to 2^53 - 1, ` +
        `got ${show(shape)}`,
    );
  }
  if (!isCounts(offsets) || offsets.length !== 2) {
    return fail(
      `the data_offsets of ${quoted} must be two integers from 0 to 2^53 - 1, got ${show(offsets)}`,
    );
  }
  const [begin, end] = offsets as [number, number];
  const dataLength = source.byteLength - dataStart;
  if (begin > end || end > dataLength) {
    return fail(
      `the data_offsets of ${quoted} must be ascending and within the file's ${dataLength} bytes of data, ` +
        `got [${begin}, ${end}]`,
    );
  }
  const elements = countElements(shape);
  const expected = elements === null ? null : elements * bits / 8;
  if (end - begin !== expected) {
    return fail(
      `the data_offsets of ${quoted} must span ${
        expected ?? "more than 2^53"
      } bytes, as ${dtype} ` +
        `[${shape}] needs, got ${end - begin}`,
    );
  }
  return {
    name,
    dtype,
    shape,
    source,
    byteOffset: dataStart + begin,
    byteLength: end - begin,
  };
}

/**
 * Two tensors over the same bytes are a lie. Holes and a tail after the last tensor are accepted,
 * though the format forbids them: such files exist, and what they hold is clear.
 */
function checkOverlaps(
  tensors: ReadonlyMap<string, TensorInfo>,
  fail: (message: string, name: string) => void,
): void {
  const ordered = [...tensors.values()].sort((a, b) =>
    a.byteOffset - b.byteOffset || a.byteLength - b.byteLength
  );
  let end = 0;
  for (const { name, byteOffset, byteLength } of ordered) {
    if (byteOffset < end) {
      fail(
        `tensor "${
          shorten(name)
        }" must not overlap the one before it, which ends at byte ${end} of the file, ` +
          `got ${byteOffset}`,
        name,
      );
    }
    end = byteOffset + byteLength;
  }
}

/**
 * Reads `model.safetensors.index.json` and the headers of all shards that it names.
 *
 * @param index The index file.
 * @param openShard Opens a file of the same folder by its name; called once per shard.
 * @throws {ModelFormatError} If the index or a shard is not as it must be, or a tensor is not in
 * the shard that the index says.
 */
export async function readShardedSafetensors(
  index: ByteSource,
  openShard: (fileName: string) => Promise<ByteSource>,
): Promise<TensorTable> {
  const fail = (message: string, byteOffset = 0): never => {
    throw new ModelFormatError(
      `Cannot read the index of shards: ${message}`,
      index.name,
      byteOffset,
    );
  };
  if (index.byteLength > MAX_SAFETENSORS_HEADER_BYTES) {
    fail(`it must have at most ${MAX_SAFETENSORS_HEADER_BYTES} bytes, got ${index.byteLength}`);
  }
  const json = parseJson(await readBytes(index, 0, index.byteLength), { name: index.name });
  const weightMap = asObject(asObject(json.value)?.["weight_map"]) ??
    fail('"weight_map" must be an object from tensor to file name');
  const mapOffset = json.offsetOf("weight_map");
  const fileNames = new Set<string>();
  for (const fileName of Object.values(weightMap)) {
    if (typeof fileName !== "string" || !isPlainName(fileName)) {
      return fail(
        `a shard must be a plain file name in the same folder, got ${show(fileName)}`,
        mapOffset,
      );
    }
    fileNames.add(fileName);
  }
  if (fileNames.size === 0 || fileNames.size > MAX_SHARDS) {
    fail(`there must be 1 to ${MAX_SHARDS} shards, got ${fileNames.size}`, mapOffset);
  }

  const shards = new Map<string, TensorTable>();
  for (const fileName of fileNames) {
    shards.set(fileName, await readSafetensors(await openShard(fileName)));
  }
  const tensors = new Map<string, TensorInfo>();
  for (const [name, fileName] of Object.entries(weightMap)) {
    const tensor = shards.get(fileName as string)!.tensors.get(name) ??
      fail(`tensor "${shorten(name)}" must be in ${fileName}, but is not`, mapOffset);
    tensors.set(name, tensor);
  }
  const metadata = new Map([...shards.values()].flatMap((shard) => [...shard.metadata]));
  return { name: index.name, format: "safetensors", tensors, metadata };
}

/** Whether a name from a file can only mean a file beside it. */
function isPlainName(name: string): boolean {
  return /^[\w-][\w.-]{0,199}$/.test(name);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) &&
    // -0 is an integer, but as an offset or size it is a lie.
    value.every((n) => Number.isSafeInteger(n) && n >= 0 && !Object.is(n, -0));
}
