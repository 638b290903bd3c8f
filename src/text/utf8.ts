/**
 * Bytes to text as they come, counting what was no UTF-8, and text offsets back to byte offsets.
 *
 * @module
 */

/**
 * How many bytes at the end may be the start of a character that is not complete yet: 0 to 3.
 * Bytes that no continuation can make valid do not count.
 *
 * @example Usage
 * ```ts
 * import { incompleteLength } from "./utf8.ts";
 * import { equal } from "node:assert/strict";
 *
 * equal(incompleteLength(Uint8Array.of(0x61, 0xe2, 0x82)), 2); // "a" and two thirds of "€"
 * equal(incompleteLength(Uint8Array.of(0x61, 0xff)), 0);
 * ```
 */
export function incompleteLength(bytes: Uint8Array): number {
  const { length } = bytes;
  for (let back = 1; back <= 3 && back <= length; back++) {
    const byte = bytes[length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    return sequenceLength(bytes, length - back) === 0 ? back : 0;
  }
  return 0;
}

/**
 * The UTF-8 sequence at a place: its length if it is valid; 0 if the bytes end before it does; minus
 * the number of bytes that one U+FFFD replaces otherwise (a maximal subpart, Unicode 3.9).
 */
function sequenceLength(bytes: Uint8Array, start: number): number {
  const lead = bytes[start]!;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return -1;
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte is narrower where longer forms, surrogates or numbers beyond Unicode would begin.
  let least = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  let most = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  for (let i = 1; i < length; i++) {
    if (start + i === bytes.length) return 0;
    const byte = bytes[start + i]!;
    if (byte < least || byte > most) return -i;
    least = 0x80;
    most = 0xbf;
  }
  return length;
}

/** Input bytes of a byte order mark, which is no text. */
const BYTE_ORDER_MARK: readonly number[] = [0xef, 0xbb, 0xbf];

/**
 * Decodes UTF-8 that arrives in parts. Each invalid sequence becomes U+FFFD, exactly as in
 * `TextDecoder`, and is counted. A byte order mark at the very start is dropped, others stay.
 *
 * Memory: the at most 3 bytes of an incomplete character, and 32 bytes for each run of equal
 * replacements, so that offsets can be mapped back exactly.
 *
 * @example Usage
 * ```ts
 * import { Utf8Decoder } from "./utf8.ts";
 * import { equal } from "node:assert/strict";
 *
 * const decoder = new Utf8Decoder();
 * equal(decoder.push(Uint8Array.of(0x61, 0xff, 0x62, 0xc3)), "a\ufffdb");
 * equal(decoder.push(Uint8Array.of(0xa9)) + decoder.flush(), "é");
 * equal(decoder.replaced, 1);
 * equal(decoder.originalByteOffset(4), 2); // "b" is after 1 + 3 bytes of text, 2 of input
 * ```
 */
export class Utf8Decoder {
  // Strict for valid input, which is nearly all; the lenient one replaces.
  readonly #strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  readonly #lenient = new TextDecoder("utf-8", { ignoreBOM: true });
  #held = new Uint8Array(0);
  #inputOffset = 0; // bytes of input that are decoded
  #textOffset = 0; // bytes of UTF-8 that they became
  #replaced = 0;
  // f64[runs, 4]: equal replacements side by side. Where the first starts in the text and in the
  // input, the input bytes of each, and how many there are.
  #runs = new Float64Array(0);
  #numRuns = 0;

  /** Invalid sequences so far, each of which became one U+FFFD. */
  get replaced(): number {
    return this.#replaced;
  }

  /** Takes some more bytes and gives back the text that they complete. */
  push(bytes: Uint8Array): string {
    return this.#decode(bytes, false);
  }

  /** Ends the input: a character that stayed incomplete becomes U+FFFD. */
  flush(): string {
    return this.#decode(new Uint8Array(0), true);
  }

  /**
   * Where in the input a place in the text is.
   *
   * @param textByteOffset Bytes from the start of the text as UTF-8; within a character that
   * replaces others, its start is meant.
   * @returns Bytes from the start of the input, a byte order mark included.
   */
  originalByteOffset(textByteOffset: number): number {
    let low = 0;
    let high = this.#numRuns;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#runs[4 * middle]! <= textByteOffset) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return textByteOffset;
    const [textStart, inputStart, size, count] = this.#runs.subarray(
      4 * (low - 1),
    ) as unknown as readonly [number, number, number, number];
    const inRun = Math.min(textByteOffset - textStart, 3 * count);
    return inputStart + Math.floor(inRun / 3) * size + (textByteOffset - textStart - inRun);
  }

  #decode(bytes: Uint8Array, final: boolean): string {
    let joined = bytes;
    if (this.#held.length > 0) {
      joined = new Uint8Array(this.#held.length + bytes.length);
      joined.set(this.#held);
      joined.set(bytes, this.#held.length);
    }
    const end = final ? joined.length : joined.length - incompleteLength(joined);
    this.#held = joined.slice(end);
    let body = joined.subarray(0, end);
    if (this.#inputOffset === 0 && BYTE_ORDER_MARK.every((byte, i) => body[i] === byte)) {
      body = body.subarray(BYTE_ORDER_MARK.length);
      this.#inputOffset = BYTE_ORDER_MARK.length;
      this.#addRun(0, 0);
    }
    try {
      const text = this.#strict.decode(body);
      this.#inputOffset += body.length;
      this.#textOffset += body.length;
      return text;
    } catch {
      this.#replace(body);
      return this.#lenient.decode(body);
    }
  }

  /** Counts, and remembers, what of these bytes is replaced. */
  #replace(body: Uint8Array): void {
    for (let i = 0; i < body.length;) {
      const length = sequenceLength(body, i);
      if (length > 0) {
        i += length;
        this.#inputOffset += length;
        this.#textOffset += length;
        continue;
      }
      const size = length === 0 ? body.length - i : -length;
      const last = 4 * (this.#numRuns - 1);
      if (
        last >= 0 && this.#runs[last + 2] === size &&
        this.#runs[last]! + 3 * this.#runs[last + 3]! === this.#textOffset
      ) this.#runs[last + 3]!++;
      else this.#addRun(size, 1);
      this.#replaced++;
      i += size;
      this.#inputOffset += size;
      this.#textOffset += 3;
    }
  }

  #addRun(size: number, count: number): void {
    const at = 4 * this.#numRuns++;
    if (at === this.#runs.length) {
      const larger = new Float64Array(Math.max(64, 2 * at));
      larger.set(this.#runs);
      this.#runs = larger;
    }
    this.#runs.set([this.#textOffset, this.#inputOffset, size, count], at);
  }
}

/**
 * A stream of bytes to a stream of text: {@linkcode Utf8Decoder} as a `TransformStream`.
 *
 * @example Usage
 * ```ts
 * import { Utf8DecoderStream } from "./utf8.ts";
 * import { equal } from "node:assert/strict";
 *
 * const stream = new Utf8DecoderStream();
 * const writer = stream.writable.getWriter();
 * writer.write(Uint8Array.of(0x61, 0xff));
 * writer.close();
 * let text = "";
 * for await (const part of stream.readable) text += part;
 * equal(text, "a\ufffd");
 * equal(stream.decoder.replaced, 1);
 * ```
 */
export class Utf8DecoderStream extends TransformStream<Uint8Array, string> {
  /** Counts what was replaced, and maps offsets. */
  readonly decoder: Utf8Decoder;

  /** A stream at the start of an input. */
  constructor() {
    const decoder = new Utf8Decoder();
    super({
      transform(bytes, controller) {
        const text = decoder.push(bytes);
        if (text !== "") controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.flush();
        if (text !== "") controller.enqueue(text);
      },
    });
    this.decoder = decoder;
  }
}
