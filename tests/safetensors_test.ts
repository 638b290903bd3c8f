import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { ModelFormatError } from "../src/errors.ts";
import { type ByteSource, fromBytes, readBytes } from "../src/files/byte_source.ts";
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  readSafetensors,
  readShardedSafetensors,
} from "../src/files/safetensors.ts";
import { summarizeDtypes } from "../src/files/tensor_table.ts";
import { openFile, pathOf } from "../src/system/file_source.ts";
import { safetensorsBytes, watchedSource } from "./support/model_bytes.ts";
import { missing, sharedUrl } from "./support/shared.ts";

const TINY_STORIES = "models/TinyStories-656K/model.safetensors";
const POCKET = "models/pocket/model.safetensors";
const TINY = "models/hostile/tiny.safetensors";

/** Opens a file of ../shared for as long as `use` takes. */
async function withShared(path: string, use: (source: ByteSource) => Promise<void>) {
  const source = await openFile(pathOf(sharedUrl(path)));
  try {
    await use(source);
  } finally {
    await source.close!();
  }
}

/** A tensor of zero to two bytes, of which most headers below are made. */
const entry = (begin: number, end: number, shape = [end - begin]) => ({
  dtype: "U8",
  shape,
  data_offsets: [begin, end],
});

async function refuses(bytes: Uint8Array, message: RegExp, byteOffset?: number): Promise<void> {
  const source = watchedSource(bytes, "x.safetensors");
  await rejects(() => readSafetensors(source), (error: unknown) => {
    ok(error instanceof ModelFormatError, `${error}`);
    match(error.message, message);
    equal(error.source, "x.safetensors");
    if (byteOffset !== undefined) equal(error.byteOffset, byteOffset);
    return true;
  });
  ok(source.largestRead <= bytes.length);
}

test("readSafetensors lists TinyStories-656K", { skip: missing(TINY_STORIES) }, async () => {
  await withShared(TINY_STORIES, async (source) => {
    const table = await readSafetensors(source);
    equal(table.format, "safetensors");
    equal(table.metadata.get("model.embed_tokens.weight"), "lm_head.weight");
    equal(table.tensors.size, 20);
    const { dtype, shape, byteLength } = table.tensors.get("lm_head.weight")!;
    deepEqual({ dtype, shape, byteLength }, {
      dtype: "F32",
      shape: [2048, 128],
      byteLength: 2 ** 20,
    });
    const [all, ...others] = summarizeDtypes(table);
    deepEqual(others, []);
    equal(all!.byteLength, 4 * all!.parameters);
    equal(all!.parameters, 656000);
  });
});

test(
  "readSafetensors reads the header of pocket and nothing else",
  { skip: missing(POCKET) },
  async () => {
    await withShared(POCKET, async (file) => {
      let bytesRead = 0;
      const { tensors } = await readSafetensors({
        name: file.name,
        byteLength: file.byteLength,
        read(target, start) {
          bytesRead += target.length;
          return file.read(target, start);
        },
      });
      equal(tensors.size, 38);
      ok(bytesRead < 8192, `${bytesRead} bytes`);
      equal(
        [...tensors.values()].reduce((sum, t) => sum + t.byteLength, bytesRead),
        file.byteLength,
      );
    });
  },
);

test(
  "readSafetensors reads a file with a tail after its tensors",
  { skip: missing(TINY) },
  async () => {
    await withShared(TINY, async (source) => {
      const tensor = (await readSafetensors(source)).tensors.get("test.weight.0")!;
      deepEqual(tensor.shape, [64, 128]);
      equal(tensor.byteOffset, 8 + 75);
    });
  },
);

test("readSafetensors gives places in the file, strings of metadata, and empty tensors", async () => {
  const header = {
    "__metadata__": { format: "pt", "": "ü" },
    b: { dtype: "BF16", shape: [2, 3], data_offsets: [4, 16] },
    a: { dtype: "F32", shape: [], data_offsets: [0, 4] },
    empty: { dtype: "I64", shape: [5, 0], data_offsets: [4, 4] },
    __proto: { dtype: "F4", shape: [4], data_offsets: [16, 18] },
  };
  const bytes = safetensorsBytes(header, 18);
  const { tensors, metadata } = await readSafetensors(fromBytes(bytes, "x"));
  const dataStart = bytes.length - 18;
  deepEqual([...metadata], [["format", "pt"], ["", "ü"]]);
  deepEqual(
    [...tensors.values()].map((
      t,
    ) => [t.name, t.dtype, t.shape, t.byteOffset - dataStart, t.byteLength]),
    [
      ["b", "BF16", [2, 3], 4, 12],
      ["a", "F32", [], 0, 4],
      ["empty", "I64", [5, 0], 4, 0],
      ["__proto", "F4", [4], 16, 2],
    ],
  );
});

test("readSafetensors accepts names that are special in JavaScript", async () => {
  const bytes = safetensorsBytes(
    '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' +
      '"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
    2,
  );
  const { tensors } = await readSafetensors(fromBytes(bytes, "x"));
  deepEqual([...tensors.keys()], ["__proto__", "constructor"]);
});

test("readSafetensors refuses a length of the header that is a lie, before reading it", async () => {
  for (
    const length of [0n, 1n, BigInt(MAX_SAFETENSORS_HEADER_BYTES) + 1n, 2n ** 53n, 2n ** 64n - 1n]
  ) {
    await refuses(safetensorsBytes("{}", 0, length), /its length must be from 2 to 100000000/, 0);
  }
  await refuses(safetensorsBytes("{}", 0, 3n), /its 3 bytes must be within the file/, 0);
  // A file large enough for its claim: nothing but the 8 bytes is read of it.
  const huge = watchedSource(safetensorsBytes("{}", 0, 2n ** 40n), "huge", 2 ** 41);
  await rejects(() => readSafetensors(huge), ModelFormatError);
  equal(huge.bytesRead, 8);
});

test("readSafetensors refuses every truncation", async () => {
  const whole = safetensorsBytes({ a: entry(0, 3), b: entry(3, 8, [1, 5]) }, 8);
  await readSafetensors(fromBytes(whole, "x"));
  for (let length = 0; length < whole.length; length++) {
    await refuses(whole.slice(0, length), /x\.safetensors/);
  }
});

test("readSafetensors refuses a header that is no JSON, no UTF-8 or no object", async () => {
  await refuses(safetensorsBytes("{a}"), /Cannot parse JSON/, 8);
  await refuses(safetensorsBytes("     "), /it is empty/, 8);
  await refuses(safetensorsBytes('{"a": tru'), /Cannot parse JSON/, 8);
  await refuses(safetensorsBytes("[1, 2]"), /must be an object/, 8);
  await refuses(safetensorsBytes("null"), /must be an object/, 8);
  const bad = safetensorsBytes('{"a?":0}');
  bad[8 + 3] = 0xff;
  await refuses(bad, /must be UTF-8/, 8);
});

test("readSafetensors refuses deep nesting without running out of stack", async () => {
  await refuses(safetensorsBytes("[".repeat(1_000_000)), /at most 64 deep/, 8 + 64);
  await refuses(safetensorsBytes('{"a":'.repeat(100_000)), /at most 64 deep/);
  await refuses(safetensorsBytes(`{"a":${"[".repeat(60)}1${"]".repeat(60)}}`), /must be an object/);
});

test("readSafetensors refuses names given twice, escaped or not, and says where", async () => {
  const one = '"dtype":"U8","shape":[1],"data_offsets":[0,1]';
  await refuses(
    safetensorsBytes(`{"a":{${one}},"a":{${one}}}`, 1),
    /"a" must not be given twice/,
    61,
  );
  await refuses(safetensorsBytes(`{"a":{${one}},"\\u0061":{${one}}}`, 1), /"a" must not be given/);
  await refuses(
    safetensorsBytes(`{"a":{${one},"dtype":"U8"}}`, 1),
    /"dtype" must not be given twice/,
  );
  await refuses(
    safetensorsBytes(`{"ü":{${one}},"ü":{${one}}}`, 1),
    /"ü" must not be given twice/,
    62,
  );
});

test("readSafetensors refuses entries that are not as the format says, and names them", async () => {
  const faults: [fields: Record<string, unknown>, message: RegExp][] = [
    [{ dtype: "F33" }, /"second" must have a known dtype, got "F33"/],
    [{ dtype: 5 }, /known dtype, got 5/],
    [{ dtype: undefined }, /known dtype, got nothing/],
    [{ dtype: "toString" }, /known dtype/],
    [{ shape: 4 }, /the shape of "second" must be at most 16 integers/],
    [{ shape: [-4] }, /the shape of "second"/],
    [{ shape: [1.5] }, /the shape of "second"/],
    [{ shape: ["4"] }, /the shape of "second"/],
    [{ shape: [2 ** 53] }, /the shape of "second"/],
    [{ shape: Array(17).fill(1) }, /at most 16 integers/],
    [{ data_offsets: [0] }, /the data_offsets of "second" must be two integers/],
    [{ data_offsets: [-4, 0] }, /must be two integers/],
    [{ data_offsets: [0, 4.5] }, /must be two integers/],
    [{ data_offsets: [0, 2 ** 53] }, /must be two integers/],
    [{ data_offsets: null }, /must be two integers/],
    [
      { data_offsets: [8, 4] },
      /must be ascending and within the file's 8 bytes of data, got \[8, 4\]/,
    ],
    [{ data_offsets: [4, 9] }, /within the file's 8 bytes of data, got \[4, 9\]/],
    [{ data_offsets: [2 ** 52, 2 ** 52 + 4] }, /within the file's 8 bytes/],
    [{ shape: [5] }, /must span 5 bytes, as U8 \[5\] needs, got 4/],
    [{ dtype: "F64" }, /must span 32 bytes/],
    [{ shape: [2 ** 27, 2 ** 27] }, /must span more than 2\^53 bytes/],
    [{ shape: [2 ** 32, 2 ** 32, 2 ** 32, 2 ** 32] }, /must span more than 2\^53 bytes/],
    [{ dtype: "F6_E2M3", shape: [5] }, /must span 3.75 bytes/],
  ];
  for (const [fields, message] of faults) {
    const header = { first: entry(0, 4), second: { ...entry(4, 8), ...fields } };
    const at = 8 + JSON.stringify(header).indexOf('"second"');
    await refuses(safetensorsBytes(header, 8), message, at);
  }
  await refuses(safetensorsBytes({ a: 1 }), /tensor "a" must be an object/, 9);
  await refuses(safetensorsBytes({ "__metadata__": { a: 1 } }), /must be an object of strings/, 9);
  await refuses(safetensorsBytes({ "__metadata__": [] }), /must be an object of strings/, 9);
});

test("readSafetensors refuses tensors that overlap, in whatever order they are listed", async () => {
  for (const [a, b] of [[[0, 4], [2, 6]], [[2, 6], [0, 4]], [[0, 8], [3, 4]], [[0, 4], [0, 4]]]) {
    const header = { a: entry(a![0]!, a![1]!), b: entry(b![0]!, b![1]!) };
    await refuses(safetensorsBytes(header, 8), /must not overlap the one before it/);
  }
});

/** A model in shards, of which each is a whole file. */
function shards(weightMap: unknown, files: Record<string, Uint8Array>) {
  const index = new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map: weightMap }));
  const opened: string[] = [];
  return {
    opened,
    read: () =>
      readShardedSafetensors(fromBytes(index, "index"), (name) => {
        opened.push(name);
        return Promise.resolve(fromBytes(files[name]!, name));
      }),
  };
}

test("readShardedSafetensors finds each tensor in its shard, and opens each shard once", async () => {
  const first = safetensorsBytes({
    "__metadata__": { format: "pt" },
    a: entry(0, 1),
    b: entry(1, 2),
  }, 2);
  const second = safetensorsBytes({ c: entry(0, 1), unlisted: entry(1, 2) }, 2);
  first[first.length - 1] = 7;
  const { read, opened } = shards({ a: "1.safetensors", c: "2.safetensors", b: "1.safetensors" }, {
    "1.safetensors": first,
    "2.safetensors": second,
  });
  const table = await read();
  deepEqual(opened, ["1.safetensors", "2.safetensors"]);
  deepEqual([...table.tensors.keys()], ["a", "c", "b"]);
  equal(table.metadata.get("format"), "pt");
  const { source, byteOffset } = table.tensors.get("b")!;
  equal((await readBytes(source, byteOffset, byteOffset + 1))[0], 7);
});

test("readShardedSafetensors opens nothing outside the folder", async () => {
  const names = [
    "../a.safetensors",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "",
    "a\\b",
    "C:a",
    "x\0",
    "http://a",
    7,
    null,
  ];
  for (const name of names) {
    const { read, opened } = shards({ a: name }, {});
    await rejects(read, /a shard must be a plain file name in the same folder/, `${name}`);
    deepEqual(opened, []);
  }
});

test("readShardedSafetensors refuses an index that lies", async () => {
  const files = { s: safetensorsBytes({ a: entry(0, 1) }, 1) };
  await rejects(shards({ b: "s" }, files).read, /tensor "b" must be in s, but is not/);
  await rejects(shards({ toString: "s" }, files).read, /must be in s/);
  await rejects(shards({}, files).read, /there must be 1 to 4096 shards, got 0/);
  await rejects(shards([], files).read, /"weight_map" must be an object/);
  await rejects(shards(undefined, files).read, /"weight_map" must be an object/);
  const many = Object.fromEntries(Array.from({ length: 4097 }, (_, i) => [`t${i}`, `s${i}`]));
  await rejects(shards(many, files).read, /1 to 4096 shards, got 4097/);
});
