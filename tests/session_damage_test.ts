/**
 * Sessions' files that are cut, damaged or made up: each is refused in words, before memory is taken for what
 * it only says it has.
 */
import { equal, ok, rejects } from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { OutOfMemoryError, SessionFileError } from "../src/errors.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import { MAX_HEADER_BYTES } from "../src/llama/session_header.ts";
import { watchedSource } from "./support/model_bytes.ts";
import { mulberry32 } from "./support/random.ts";
import {
  type HeaderJson,
  headerOf,
  mendSection,
  savedBytes,
  sectionEdges,
  withHeader,
} from "./support/session_files.ts";

let model: Model;
let whole: Uint8Array<ArrayBuffer>;
let edges: number[];
let held: number;
before(async () => {
  model = await loadModel(undefined, { threads: 1 });
  {
    using session = model.session({ scope: { globalSize: 4, localSize: 32 }, stepSize: 20 });
    const writer = session.writable().getWriter();
    await writer.write("It was a dark and stormy night; the rain fell in torrents. ".repeat(20));
    await writer.close();
    whole = await savedBytes(session);
  }
  edges = sectionEdges(whole);
  equal(edges.at(-1), whole.length);
  ok(edges.length > 4);
  // Activations, which stay with the model, are there from now on.
  await goOn(whole);
  held = model.backend.byteLength;
});
after(() => model[Symbol.dispose]());

/** Restores a file and writes a token, as who was given it would. */
async function goOn(bytes: Uint8Array): Promise<void> {
  using session = await model.restore(fromBytes(bytes, "a file"));
  for await (const _ of session.generate({ maxTokens: 1 }));
}

/** Checks that a file is refused by a reason, and that nothing was read or kept beyond what it justifies. */
async function refused(bytes: Uint8Array, reason: RegExp, mostRead = bytes.length): Promise<void> {
  const source = watchedSource(bytes, "a file");
  await rejects(model.restore(source), (error: unknown) => {
    ok(error instanceof SessionFileError, String(error));
    ok(reason.test(error.message), error.message);
    return true;
  });
  // The header's first bytes are read twice.
  ok(source.bytesRead <= mostRead + 24, `${source.bytesRead} bytes read`);
  equal(model.backend.byteLength, held);
}

test("a file that is cut at or beside any section's edge is refused by its length", async () => {
  for (const edge of [8, 12, 24, ...edges]) {
    for (const length of [edge - 1, edge, edge + 1]) {
      if (length === whole.length) continue;
      const bytes = new Uint8Array(length);
      bytes.set(whole.subarray(0, length));
      const reason = length < 8
        ? /is none$/
        : length < 24
        ? /ends after/
        : /as it says itself, got/;
      await refused(bytes, reason, 48);
    }
  }
});

test("every byte of the header counts", async () => {
  for (let i = 0; i < edges[0]!; i++) {
    const bytes = whole.slice();
    bytes[i]! ^= 1 << i % 8;
    await refused(bytes, /is none|version must|must have at most|says itself|is damaged/);
  }
});

test("damage in any section is found and named, whichever byte it is", async () => {
  const names = [/: its tokens are/, /places of its tokens are/, /channels of its keys are/];
  for (let section = 0; section + 1 < edges.length; section++) {
    const [start, end] = [edges[section]!, edges[section + 1]!];
    const name = names[section] ?? /: the keys and values of tokens \d+ to \d+ are/;
    for (const at of [start, start + 1, (start + end) >> 1, end - 5, end - 4, end - 1]) {
      const bytes = whole.slice();
      bytes[at]! ^= 0x10;
      await refused(bytes, new RegExp(`${name.source} damaged`));
    }
  }
});

test("sections that changed places are found", async () => {
  const bytes = whole.slice();
  const [a, b, c] = edges.slice(-3) as [number, number, number];
  equal(b - a, c - b); // two chunks
  bytes.set(whole.subarray(a, b), b);
  bytes.set(whole.subarray(b, c), a);
  await refused(bytes, /tokens 0 to 256 are damaged/);
});

test("what a source gives beyond its length, or less, is no session", async () => {
  const source = { ...watchedSource(whole, "a file", whole.length + 1) };
  await rejects(model.restore(source), SessionFileError);
  const ends = {
    name: "a file",
    byteLength: whole.length,
    read: (target: Uint8Array, start: number) => {
      if (start > edges[1]!) return Promise.reject(new Error("the disk is gone"));
      target.set(whole.subarray(start, start + target.length));
      return Promise.resolve();
    },
  };
  await rejects(model.restore(ends), /the disk is gone/);
  equal(model.backend.byteLength, held);
});

/** A header that says something else, all checksums and the size in order. */
async function saying(change: (json: HeaderJson) => void, reason: RegExp): Promise<void> {
  const { json } = headerOf(whole);
  change(json);
  await refused(withHeader(whole, json), reason, edges[0]! + 100);
}

test("counts that lie are refused by the file's size, before anything is allocated", async () => {
  const must = /what its header lists must fill|must be|must have/;
  for (const count of [2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1, 2 ** 53, 2 ** 80, -1, 0.5, null]) {
    await saying((json) => json.length = count, must);
    await saying((json) => json.numAnchors = count, must);
    await saying((json) => json.cache.length = count, must);
    await saying((json) => json.cache.chunkBytes = count, must);
    await saying((json) => json.cache.channelBytes = count, must);
    await saying((json) => json.cache.chunkSize = count, must);
    await saying((json) => json.cache.forgotten = [[0, count]], must);
  }
  await saying((json) => json.cache.forgotten = [[1, 1]], must);
  await saying((json) => json.cache.forgotten = [[1, 2], [0, 1]], must);
  await saying((json) => json.cache.forgotten = "all", must);
  await saying((json) => json.length++, must);
  await saying((json) => json.numAnchors--, must);
});

test("sizes that make up for each other do not pass either", async () => {
  // Half as many tokens in chunks of the double size: the sum is right, the store is another.
  await saying((json) => json.cache.chunkSize *= 2, /what its header lists must fill/);
  await saying((json) => {
    json.cache.channelBytes -= 8;
    json.cache.chunkBytes += 4;
  }, /laid out as this backend's/);
  await saying((json) => json.cache.layoutName = "planes 0", /laid out as this backend's/);
});

test("rules that cannot be are refused", async () => {
  for (
    const [key, value, reason] of [
      ["scope", null, /rules.scope must be an object/],
      ["scope", { globalSize: 4 }, /rules.scope must have the fields/],
      ["stepSize", 0, /stepSize must be a count/],
      ["select", "sometimes", /select must be always, ask, never/],
      ["selectLayers", [], /must be at least one/],
      ["selectLayers", [99], /from 0 to 3/],
      ["selectLayers", "none", /must be a list/],
      ["kvFormat", "i4", /kvFormat must be i16, f32/],
      ["beyondTrainedLength", 1, /must be true or false/],
    ] as const
  ) await saying((json) => json.rules[key] = value, reason);
  await saying((json) => json.rules.scope.spanSize = 3, /spanSize must be even/);
  await saying((json) => json.rules.scope.extra = 3, /must have the fields/);
});

test("a header that is no JSON, or endless, is refused", async () => {
  await refused(withHeader(whole, "{"), /Cannot parse JSON/);
  await refused(withHeader(whole, "[]"), /the header must be an object/);
  await refused(withHeader(whole, "[".repeat(2000)), /nesting/);
  await refused(withHeader(whole, '{"a":1,"a":2}'), /twice/);
  const long = withHeader(whole, " ".repeat(MAX_HEADER_BYTES + 4));
  await refused(long, /must have at most 1048576 bytes/, 24);
});

test("tokens and places that cannot be are refused, though their checksums are right", async () => {
  const forged = (section: number, change: (view: DataView) => void) => {
    const bytes = whole.slice();
    change(new DataView(bytes.buffer, edges[section]));
    mendSection(bytes, edges, section);
    return bytes;
  };
  await refused(forged(0, (view) => view.setUint32(40, 2 ** 32 - 1, true)), /must be below \d+/);
  for (const value of [NaN, Infinity, -1, 0.5, 1e15, 2 ** 60]) {
    for (const at of [0, 8, 16, 24]) {
      if (value === 0.5 && at === 16) continue;
      await refused(forged(1, (view) => view.setFloat64(at, value, true)), /anchors must ascend/);
    }
  }
});

test("keys and values that nobody computed are read on with, to whatever end", async () => {
  const random = mulberry32(3);
  for (let section = 2; section + 1 < edges.length; section++) {
    const bytes = whole.slice();
    for (let at = edges[section]!; at < edges[section + 1]! - 4; at++) bytes[at] = random() * 256;
    mendSection(bytes, edges, section);
    // Numbers that are none show.
    await goOn(bytes).catch((error) => ok(/logits must be numbers/.test(error.message), error));
    equal(model.backend.byteLength, held);
  }
});

/** Every place of a JSON value. */
function* placesOf(value: unknown, path: readonly string[] = []): Generator<readonly string[]> {
  if (path.length > 0) yield path;
  if (typeof value !== "object" || value === null) return;
  for (const key of Object.keys(value)) {
    yield* placesOf((value as Record<string, unknown>)[key], [...path, key]);
  }
}

test("whatever a header says, the answer is a session or an error in words", async () => {
  const { json } = headerOf(whole);
  const places = [...placesOf(json)];
  const change = fc.record({
    place: fc.constantFrom(...places),
    value: fc.oneof(
      fc.constantFrom<unknown>(0, 1, -1, 0.5, 20, 255, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 1e99),
      fc.constantFrom<unknown>(
        null,
        true,
        "",
        "Infinity",
        "ask",
        "f32",
        [],
        {},
        [[0, 1]],
        undefined,
      ),
      fc.jsonValue({ maxDepth: 2 }),
    ),
  });
  let accepted = 0;
  let kept = held; // with longer steps come more activations
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      const changed = structuredClone(json);
      for (const { place, value } of changes) {
        const parent = place.slice(0, -1).reduce((at, key) => at?.[key], changed);
        if (typeof parent === "object" && parent !== null) parent[place.at(-1)!] = value;
      }
      const bytes = withHeader(whole, changed);
      const source = watchedSource(bytes, "a file");
      const began = performance.now();
      try {
        {
          using session = await model.restore(source);
          accepted++;
          for await (const _ of session.generate({ maxTokens: 1 }));
        }
        kept = model.backend.byteLength;
      } catch (error) {
        ok(error instanceof Error && /^Cannot /.test(error.message), String(error));
        ok(
          error instanceof SessionFileError || error instanceof RangeError,
          `${error.name}: ${error.message}`,
        );
        ok(!(error instanceof OutOfMemoryError), error.message);
      }
      ok(source.bytesRead <= bytes.length + 24 && source.largestRead <= bytes.length);
      ok(performance.now() - began < 5000);
      equal(model.backend.byteLength, kept);
    }),
    { numRuns: 600, seed: 11 },
  );
  ok(accepted > 0);
});

test("whatever bytes a file begins with, the answer is an error in words", async () => {
  held = model.backend.byteLength;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ at: fc.nat(edges[0]! - 1), byte: fc.nat(255) }), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.option(fc.nat(whole.length)),
      async (changes, cut) => {
        const bytes = whole.slice(0, cut ?? whole.length);
        for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
        if (bytes.length === whole.length && bytes.every((byte, i) => byte === whole[i])) return;
        await refused(bytes, /./);
      },
    ),
    { numRuns: 300, seed: 12 },
  );
});
