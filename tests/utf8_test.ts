import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Utf8Decoder, Utf8DecoderStream } from "../src/text/utf8.ts";

const encoder = new TextEncoder();
const runs = { seed: 3, numRuns: 3000 } as const;

/** Bytes among which valid, invalid and incomplete sequences are all common. */
const bytesWithFaults = fc.array(
  fc.oneof(
    fc.string({ unit: "binary", maxLength: 3 }).map((text) => [...encoder.encode(text)]),
    fc.constantFrom(
      ...[[0x80], [0xbf, 0xbf], [0xc0, 0x80], [0xc3], [0xe2, 0x82], [0xe2], [0xed, 0xa0, 0x80]],
      ...[[0xf0, 0x9f, 0x91], [0xf4, 0x90, 0x80, 0x80], [0xff, 0xfe], [0xef, 0xbb, 0xbf]],
      ...[[0xef, 0xbf, 0xbd], [0xf0, 0x80], [0xe0, 0x9f], [0xf5]],
    ),
    fc.array(fc.nat(255), { maxLength: 3 }),
  ),
  { maxLength: 12, size: "max" },
).map((parts) => Uint8Array.from(parts.flat()));

const cuts = fc.array(fc.nat(30), { maxLength: 8, size: "max" });

function decodeParts(bytes: Uint8Array, places: readonly number[]): [string, Utf8Decoder] {
  const decoder = new Utf8Decoder();
  const sorted = [
    0,
    ...places.filter((at) => at < bytes.length).sort((a, b) => a - b),
    bytes.length,
  ];
  let text = "";
  for (let i = 1; i < sorted.length; i++) {
    text += decoder.push(bytes.subarray(sorted[i - 1], sorted[i]));
  }
  return [text + decoder.flush(), decoder];
}

test("Utf8Decoder gives TextDecoder's text however the bytes are cut", () => {
  fc.assert(
    fc.property(bytesWithFaults, cuts, (bytes, places) => {
      equal(decodeParts(bytes, places)[0], new TextDecoder().decode(bytes));
    }),
    runs,
  );
});

test("Utf8Decoder counts each replacement, and not the U+FFFD of the input itself", () => {
  fc.assert(
    fc.property(bytesWithFaults, cuts, (bytes, places) => {
      const [text, { replaced }] = decodeParts(bytes, places);
      const all = text.split("\ufffd").length - 1;
      let own = 0;
      for (let i = 0; i + 2 < bytes.length; i++) {
        if (bytes[i] === 0xef && bytes[i + 1] === 0xbf && bytes[i + 2] === 0xbd) own++;
      }
      equal(replaced, all - own);
    }),
    runs,
  );
});

test("Utf8Decoder maps the place of each character back to its bytes", () => {
  fc.assert(
    fc.property(bytesWithFaults, cuts, (bytes, places) => {
      const [text, decoder] = decodeParts(bytes, places);
      let offset = 0;
      let last = -1;
      for (const character of text) {
        const at = decoder.originalByteOffset(offset);
        const spelled = encoder.encode(character);
        ok(at > last);
        last = at;
        offset += spelled.length;
        const next = decoder.originalByteOffset(offset);
        if (character === "\ufffd") {
          ok(next - at >= 1 && next - at <= 3);
          equal(new TextDecoder().decode(bytes.subarray(at, next)), "\ufffd");
        } else deepEqual(bytes.slice(at, next), spelled);
      }
      equal(decoder.originalByteOffset(offset), bytes.length);
    }),
    runs,
  );
});

test("Utf8Decoder drops a byte order mark at the start, and no other", () => {
  const mark = [0xef, 0xbb, 0xbf];
  for (const places of [[], [1], [2], [3], [1, 2]]) {
    const bytes = Uint8Array.from([...mark, 0x61, ...mark]);
    const [text, decoder] = decodeParts(bytes, places);
    equal(text, "a\ufeff");
    equal(decoder.originalByteOffset(0), 3);
    equal(decoder.originalByteOffset(1), 4);
    equal(decoder.replaced, 0);
  }
  equal(decodeParts(Uint8Array.from([...mark, ...mark]), [])[0], "\ufeff");
});

test("Utf8Decoder gives back nothing for nothing", () => {
  const decoder = new Utf8Decoder();
  equal(decoder.push(new Uint8Array(0)) + decoder.flush(), "");
  equal(decoder.originalByteOffset(0), 0);
});

test("Utf8DecoderStream decodes, and counts, what is piped through it", async () => {
  const stream = new Utf8DecoderStream();
  const writer = stream.writable.getWriter();
  const written = (async () => {
    for (const part of [[0x61, 0xe4], [0xb8, 0xad, 0xff], [0xc3]]) {
      await writer.write(Uint8Array.from(part));
    }
    await writer.close();
  })();
  let text = "";
  for await (const part of stream.readable) text += part;
  await written;
  equal(text, "a中\ufffd\ufffd");
  equal(stream.decoder.replaced, 2);
});
