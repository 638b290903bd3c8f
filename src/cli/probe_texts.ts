/**
 * Texts to probe a model with: facts hidden in generated or given prose, and stretches of a file.
 *
 * @module
 */

import { type ByteSource, readBytes } from "../files/byte_source.ts";
import type { Model } from "../llama/load.ts";
import { type Needle, seededRandom, writeHaystack } from "../eval/haystack.ts";

/** Bytes of the sample that says how long a text's tokens are. */
const SAMPLE_BYTES = 50_000;

/** Some of the prose that a seed generates. */
export function generatedSample(seed: number): string {
  let sample = "";
  for (const { text } of writeHaystack({ seed, length: SAMPLE_BYTES })) sample += text;
  return sample;
}

/** Some of a file, from its middle: prefaces and licences stand at the ends. */
export function fileSample(file: ByteSource): Promise<string> {
  const byteLength = Math.min(SAMPLE_BYTES, file.byteLength);
  return readStretch(file, (file.byteLength - byteLength) / 2, byteLength);
}

/** How long a token of such a text is: an estimate, to write or read as many as wanted. */
export function bytesPerToken(model: Model, sample: string): number {
  const tokens = model.tokenizer.encode(sample).length;
  return tokens === 0 ? 0 : new TextEncoder().encode(sample).length / tokens;
}

/**
 * A stretch of a text file, from a word's start to a word's end unless the file ends there.
 *
 * @param startByte Rounded down; clamped into the file, as the end is.
 */
export async function readStretch(
  file: ByteSource,
  startByte: number,
  byteLength: number,
): Promise<string> {
  const start = Math.max(0, Math.min(Math.floor(startByte), file.byteLength));
  const end = Math.min(file.byteLength, start + Math.ceil(byteLength));
  const text = new TextDecoder().decode(await readBytes(file, start, end));
  const first = start === 0 ? 0 : text.search(/\s\S/) + 1;
  const last = end === file.byteLength ? text.length : text.search(/\s\S*$/);
  return text.slice(first, Math.max(first, last));
}

/** A generated text with needles in it, of at least `length` bytes. */
export function generateText(seed: number, length: number, needles: readonly Needle[]): string {
  let whole = "";
  for (const { text } of writeHaystack({ seed, length, needles })) whole += text;
  return whole;
}

/**
 * A stretch of a file with needles in it; which stretch is the seed's choice.
 *
 * @param byteLength At most the file's.
 */
export async function textWithNeedles(
  file: ByteSource,
  seed: number,
  byteLength: number,
  needles: readonly Needle[],
): Promise<string> {
  const spare = Math.max(0, file.byteLength - Math.ceil(byteLength));
  const text = await readStretch(file, seededRandom(seed)(spare + 1), byteLength);
  return hideNeedles(text, needles);
}

/** The text with each needle after the first sentence, else word, that ends beyond its depth. */
export function hideNeedles(text: string, needles: readonly Needle[]): string {
  const parts: string[] = [];
  let from = 0;
  for (const { sentence, depth } of [...needles].sort((a, b) => a.depth - b.depth)) {
    const at = Math.max(from, Math.floor(depth * text.length));
    const near = text.slice(at, at + 1000);
    const sentenceEnd = /[.!?]["')\]]*(?=\s)/.exec(near);
    const end = sentenceEnd ? sentenceEnd.index + sentenceEnd[0].length : near.search(/\s/);
    const to = end < 0 ? at + near.length : at + end;
    parts.push(text.slice(from, to), sentence);
    from = to;
  }
  return parts.join("") + text.slice(from);
}
