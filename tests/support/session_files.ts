/**
 * Sessions' files in memory, taken apart without the library's own reader.
 *
 * @module
 */

import type { Session } from "../../src/llama/session.ts";
import { xxHash32 } from "../../src/files/xx_hash.ts";

/** A session's file, as a stream takes it. */
export async function savedBytes(session: Session): Promise<Uint8Array<ArrayBuffer>> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const [bytes] = await Promise.all([new Response(readable).arrayBuffer(), session.save(writable)]);
  return new Uint8Array(bytes);
}

/** A header's JSON, with what it says as it is. */
// deno-lint-ignore no-explicit-any
export type HeaderJson = any;

/** A file's header. */
export function headerOf(bytes: Uint8Array): { json: HeaderJson; byteLength: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const jsonBytes = view.getUint32(12, true);
  const json = JSON.parse(new TextDecoder().decode(bytes.subarray(24, 24 + jsonBytes)));
  return { json, byteLength: 24 + jsonBytes + 4 };
}

/** Where each section begins, and where the last one ends. */
export function sectionEdges(bytes: Uint8Array): number[] {
  const { json, byteLength } = headerOf(bytes);
  const { length, numAnchors, cache } = json;
  const edges = [byteLength];
  const add = (size: number) => edges.push(edges.at(-1)! + size + 4);
  for (let t = 0; t < length; t += 65536) add(4 * Math.min(65536, length - t));
  for (let t = 0; t < numAnchors; t += 16384) add(24 * Math.min(16384, numAnchors - t));
  add(cache.channelBytes);
  for (let t = 0; t < cache.length; t += cache.chunkSize) add(cache.chunkBytes);
  return edges;
}

/** A file with another header, whose sizes and checksum are right, whatever it says. */
export function withHeader(bytes: Uint8Array, json: HeaderJson): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof json === "string" ? json : JSON.stringify(json));
  const jsonBytes = Math.ceil(text.length / 4) * 4;
  const body = bytes.subarray(headerOf(bytes).byteLength);
  const changed = new Uint8Array(24 + jsonBytes + 4 + body.length);
  changed.set(bytes.subarray(0, 24));
  changed.fill(0x20, 24, 24 + jsonBytes);
  changed.set(text, 24);
  changed.set(body, 24 + jsonBytes + 4);
  const view = new DataView(changed.buffer);
  view.setUint32(12, jsonBytes, true);
  view.setBigUint64(16, BigInt(changed.length), true);
  view.setUint32(24 + jsonBytes, xxHash32(changed.subarray(0, 24 + jsonBytes)), true);
  return changed;
}

/** Makes a section's checksum right again. */
export function mendSection(bytes: Uint8Array, edges: readonly number[], section: number): void {
  const [start, end] = [edges[section]!, edges[section + 1]! - 4];
  const sum = xxHash32(bytes.slice(start, end), section);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(end, sum, true);
}
