/**
 * GGUF in several files, as llama.cpp's gguf-split writes them: `name-00001-of-00003.gguf` and so on.
 * The first has the metadata, each has tensors of its own.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import type { ByteSource } from "./byte_source.ts";
import { readGguf } from "./gguf.ts";
import { shorten, show } from "./json.ts";
import type { TensorInfo, TensorTable } from "./tensor_table.ts";

/** The most files of a model; the largest known models have some dozens. */
export const MAX_GGUF_SPLITS: number = 1000;

/** Which file of how many a name stands for. */
export interface GgufSplit {
  /** From 1 on. */
  readonly number: number;
  readonly count: number;
  /** The name of another file of the same model, from 1 on. */
  nameOf(number: number): string;
}

/** What a name says; null if it is not one of a split file. */
export function parseGgufSplit(fileName: string): GgufSplit | null {
  const match = /^(.*)-(\d{5})-of-(\d{5})(\.gguf)$/is.exec(fileName);
  if (match === null) return null;
  const [, start, number, count, end] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
  ];
  return {
    number: Number(number),
    count: Number(count),
    nameOf: (n) => `${start}-${String(n).padStart(5, "0")}-of-${count}${end}`,
  };
}

/**
 * Reads the headers of a GGUF file and of all that belong to it. Any of them may be named.
 *
 * @param fileName What `file` is called: the others' names follow from it.
 * @param open Opens another file of the same folder by its name.
 * @throws {ModelFormatError} If a file is not as the format says, or the files are not of one model.
 */
export async function readSplitGguf(
  file: ByteSource,
  fileName: string,
  open: (fileName: string) => Promise<ByteSource>,
): Promise<TensorTable> {
  const named = await readGguf(file);
  const count = named.metadata.get("split.count") ?? 1;
  if (count === 0 || count === 1) return named;
  const fail = (message: string, at = file): never => {
    throw new ModelFormatError(`Cannot read a model in several files: ${message}`, at.name, 0);
  };
  const split = parseGgufSplit(fileName) ??
    fail(`its name must end in -00001-of-0000N.gguf, got "${shorten(fileName)}"`);
  if (count !== split.count || count > MAX_GGUF_SPLITS || split.number > count) {
    fail(
      `"split.count" must be the ${split.count} of the file's name, and at most ` +
        `${MAX_GGUF_SPLITS}, got ${show(count)}`,
    );
  }
  const tensors = new Map<string, TensorInfo>();
  let first = named;
  for (let number = 1; number <= split.count; number++) {
    const source = number === split.number ? file : await open(split.nameOf(number));
    const part = source === file ? named : await readGguf(source);
    if (number === 1) first = part;
    for (const [key, wanted] of [["split.no", number - 1], ["split.count", count]] as const) {
      const found = part.metadata.get(key);
      if (found !== wanted) fail(`"${key}" must be ${wanted}, got ${show(found)}`, source);
    }
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name)) {
        fail(`tensor "${shorten(name)}" must not be in two files`, source);
      }
      tensors.set(name, tensor);
    }
  }
  const total = first.metadata.get("split.tensors.count") ?? tensors.size;
  if (total !== tensors.size) {
    fail(
      `there must be ${show(total)} tensors, as "split.tensors.count" says, got ${tensors.size}`,
    );
  }
  // What says that it is a part is true no more.
  const metadata = new Map([...first.metadata].filter(([key]) => !key.startsWith("split.")));
  return { ...first, name: named.name, tensors, metadata };
}
