/**
 * A file to damage, in parts, and how it is put together.
 *
 * @module
 */

import { xxHash32 } from "../../../src/files/xx_hash.ts";
import { joinParts, numberBytes, type Part } from "./parts.ts";

/** What is around the parts. */
export type Container = "gguf" | "safetensors" | "json" | "session";

/** Who reads it: src/files and the configuration alone, all that loads a model, or a session's header. */
export type Reader = "gguf" | "safetensors" | "index" | "split" | "json" | "model" | "session";

/** A file to damage, and whole ones beside it. */
export interface Seed {
  readonly name: string;
  /** What the file is called. */
  readonly file: string;
  readonly reader: Reader;
  readonly container: Container;
  readonly parts: readonly Part[];
  /** What follows the header: never looked at, so it need not be there. */
  readonly dataBytes: number;
  /** Other files of the model. */
  readonly beside: ReadonlyMap<string, SeedFile>;
  /** How often it is taken, beside the others. */
  readonly weight: number;
}

/** Bytes, and how many more a source says it has. */
export interface SeedFile {
  readonly bytes: Uint8Array;
  readonly byteLength: number;
}

/** What the tensors of a GGUF begin at multiples of, in bytes. */
export const ALIGNMENT = 32;

/** Bytes of a session's header before its JSON. */
export const SESSION_FIXED_BYTES = 24;

/**
 * A file of parts.
 *
 * @param lie What the length says that safetensors and sessions begin with, if not what is so.
 */
export function assemble(
  { container, dataBytes }: Pick<Seed, "container" | "dataBytes">,
  parts: readonly Part[],
  lie: bigint | null = null,
): SeedFile {
  const body = joinParts(parts);
  switch (container) {
    case "json":
      return { bytes: body, byteLength: body.length };
    case "gguf":
      return {
        bytes: body,
        byteLength: Math.ceil(body.length / ALIGNMENT) * ALIGNMENT + dataBytes,
      };
    case "safetensors": {
      const bytes = new Uint8Array(8 + body.length);
      bytes.set(numberBytes(lie ?? BigInt(body.length), 8));
      bytes.set(body, 8);
      return { bytes, byteLength: bytes.length + dataBytes };
    }
    case "session": {
      const jsonBytes = Math.ceil(body.length / 4) * 4;
      const bytes = new Uint8Array(SESSION_FIXED_BYTES + jsonBytes + 4).fill(0x20);
      const byteLength = bytes.length + dataBytes;
      bytes.set([0x89, 0x52, 0x53, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]);
      bytes.set(numberBytes(1n, 4), 8);
      bytes.set(numberBytes(BigInt(jsonBytes), 4), 12);
      bytes.set(numberBytes(lie ?? BigInt(byteLength), 8), 16);
      bytes.set(body, SESSION_FIXED_BYTES);
      const sum = xxHash32(bytes.subarray(0, -4));
      bytes.set(numberBytes(BigInt(sum), 4), bytes.length - 4);
      return { bytes, byteLength };
    }
  }
}
