/**
 * Counts what is allocated for numbers and bytes, whoever does it.
 *
 * @module
 */

/** What was allocated since the last reset. */
export interface Allocations extends Disposable {
  /** The largest buffer, in bytes. */
  largest: number;
  /** All of them, in bytes. */
  sum: number;
}

const WATCHED = [
  "ArrayBuffer",
  "Uint8Array",
  "Int8Array",
  "Uint16Array",
  "Int16Array",
  "Uint32Array",
  "Int32Array",
  "Float32Array",
  "Float64Array",
  "BigUint64Array",
  "BigInt64Array",
] as const;

type Made = new (
  first: unknown,
  second: unknown,
  third: unknown,
) => { readonly byteLength: number };

/**
 * Counts from now on what the globals' constructors make, typed arrays over buffers that are there
 * left out, and `slice` of a buffer; until it is disposed of.
 */
export function watchAllocations(): Allocations {
  const globals = globalThis as unknown as Record<string, Made>;
  const before = WATCHED.map((name) => [name, globals[name]!] as const);
  const Buffer = ArrayBuffer;
  const sliced = ArrayBuffer.prototype.slice;
  const found = {
    largest: 0,
    sum: 0,
    [Symbol.dispose]() {
      for (const [name, constructor] of before) globals[name] = constructor;
      Buffer.prototype.slice = sliced;
    },
  };
  const note = (bytes: number) => {
    found.sum += bytes;
    if (bytes > found.largest) found.largest = bytes;
  };
  for (const [name, Original] of before) {
    // A function that returns another object costs little; a Proxy costs more than all reading.
    const watched = function (first: unknown, second: unknown, third: unknown) {
      const made = new Original(first, second, third);
      if (!(first instanceof Buffer)) note(made.byteLength);
      return made;
    };
    watched.prototype = Original.prototype;
    globals[name] = Object.setPrototypeOf(watched, Original);
  }
  Buffer.prototype.slice = function (this: ArrayBuffer, start: number, end?: number) {
    const made = sliced.call(this, start, end);
    note(made.byteLength);
    return made;
  };
  return found;
}
