/**
 * What every source of bytes must do.
 *
 * @module
 */

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { type ByteSource, readBytes } from "../../src/files/byte_source.ts";

/** What the sources that are tested hold. */
export const BYTES: Uint8Array<ArrayBuffer> = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);

/** Every source of BYTES must pass this. */
export async function checkSource(source: ByteSource): Promise<void> {
  equal(source.byteLength, BYTES.length);
  deepEqual(await readBytes(source, 0, 1000), BYTES);
  deepEqual(await readBytes(source, 999, 1000), BYTES.slice(999));
  equal((await readBytes(source, 1000, 1000)).length, 0);
  const target = new Uint8Array(30).fill(1);
  await source.read(target.subarray(10, 20), 500);
  deepEqual(target.slice(10, 20), BYTES.slice(500, 510));
  ok(target.subarray(0, 10).every((byte) => byte === 1), "nothing before the target is touched");
  ok(target.subarray(20).every((byte) => byte === 1), "nothing after the target is touched");

  const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const shared = new Uint8Array(buffer, 8, 100);
  await source.read(shared, 200);
  deepEqual(Uint8Array.from(shared), BYTES.slice(200, 300));

  for (const start of [-1, 901, 0.5, NaN, Infinity, 2 ** 53]) {
    await rejects(() => source.read(new Uint8Array(100), start), RangeError, `start ${start}`);
  }
  await rejects(() => readBytes(source, 5, 4), RangeError);
}
