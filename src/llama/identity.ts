/**
 * Which model it is, so that a session's file is not read by another one.
 *
 * @module
 */

import type { WeightSource } from "../backend/backend.ts";
import { fingerprint } from "../files/xx_hash.ts";
import type { LlamaConfig } from "./config.ts";

/** What tells a model from others; the same on every backend and however its files are cut. */
export interface ModelIdentity {
  /** Its shape, all of it. */
  readonly config: LlamaConfig;
  /** The fingerprint of tokenizer.json, all of it; of a GGUF's own tokenizer what would be in its files. */
  readonly tokenizer: string;
  /** The fingerprint of the weights: see {@linkcode watchWeights}. */
  readonly weights: string;
}

/** A model, as far as its sessions' files ask for it. */
export interface Identified {
  /** What ties them to it; without, there can be none. */
  readonly identity?: ModelIdentity;
}

/** @throws {TypeError} If a model has none. */
export function identityOf({ identity }: Identified): ModelIdentity {
  if (identity !== undefined) return identity;
  throw new TypeError(
    "Cannot tell whose session it is: the model must have an identity, as those of loadModel have",
  );
}

/** Bytes of a stretch of a tensor, and how many of them count. */
const STRETCH = 4096;
const STRETCHES = 16;

/** Sees the weights pass while they are loaded. */
export interface WeightWatch {
  /** The same source, watched; `byteLength` is what it has. */
  watch(source: WeightSource, byteLength: number): WeightSource;
  /** Of all that were read since. */
  fingerprint(): string;
}

/**
 * A fingerprint that costs no reading of its own: of each tensor the name, the format, the shape and up to
 * sixteen stretches of 4 KiB, evenly spread from its first byte to its last, so all of a tensor of 64 KiB.
 *
 * It tells models apart, and training that touched every tensor. It does not see a change between the
 * stretches.
 */
export function watchWeights(): WeightWatch {
  const seen: { readonly title: string; readonly bytes: Uint8Array }[] = [];
  return {
    watch(source: WeightSource, byteLength: number): WeightSource {
      const { name, format, rows, cols } = source;
      const whole = byteLength <= STRETCH * STRETCHES;
      const starts = whole
        ? [0]
        : Array.from({ length: STRETCHES }, (_, i) =>
          Math.floor(i * (byteLength - STRETCH) / (STRETCHES - 1)));
      const length = whole ? byteLength : STRETCH;
      const bytes = new Uint8Array(starts.length * length);
      seen.push({ title: `${name} ${format} ${rows} ${cols}`, bytes });
      return {
        ...source,
        async read(target: Uint8Array, byteOffset: number): Promise<void> {
          await source.read(target, byteOffset);
          starts.forEach((start, i) => {
            const from = Math.max(start, byteOffset);
            const to = Math.min(start + length, byteOffset + target.byteLength);
            if (from >= to) return;
            const part = target.subarray(from - byteOffset, to - byteOffset);
            bytes.set(part, i * length + from - start);
          });
        },
      };
    },
    fingerprint(): string {
      const lines = seen.map(({ title, bytes }) => `${title} ${fingerprint(bytes)}\n`);
      return fingerprint(new TextEncoder().encode(lines.join("")));
    },
  };
}
