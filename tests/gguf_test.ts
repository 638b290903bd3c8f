import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { ModelFormatError } from "../src/errors.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { readGguf } from "../src/files/gguf.ts";
import {
  countElements,
  type MetadataValue,
  summarizeDtypes,
  type TensorTable,
} from "../src/files/tensor_table.ts";
import { openFile, pathOf } from "../src/system/file_source.ts";
import {
  ByteWriter,
  GGUF,
  ggufBytes,
  type GgufParts,
  type GgufTensor,
  ggufValue,
  watchedSource,
} from "./support/model_bytes.ts";
import { missing, sharedUrl } from "./support/shared.ts";

function parametersOf({ tensors }: Pick<TensorTable, "tensors">): number {
  return [...tensors.values()].reduce((sum, { shape }) => sum + countElements(shape)!, 0);
}

/** The header of a file of ../shared. */
async function readShared(path: string): Promise<TensorTable> {
  const source = await openFile(pathOf(sharedUrl(path)));
  try {
    return await readGguf(source);
  } finally {
    await source.close!();
  }
}

async function refuses(
  file: Uint8Array | GgufParts,
  message: RegExp,
  byteOffset?: number,
): Promise<void> {
  const bytes = file instanceof Uint8Array ? file : ggufBytes(file);
  const source = watchedSource(bytes, "x.gguf");
  await rejects(() => readGguf(source), (error: unknown) => {
    ok(error instanceof ModelFormatError, `${error}`);
    match(error.message, message);
    equal(error.source, "x.gguf");
    if (byteOffset !== undefined) equal(error.byteOffset, byteOffset);
    return true;
  });
  ok(source.largestRead <= bytes.length);
}

const { u8, u32, array, string, bool, u64, i64 } = GGUF;
/** The first tensor info's place in a file without metadata; the first pair's, too. */
const FIRST = 24;

test("readGguf reads every type of metadata", {
  skip: missing("models/hostile/every_metadata_type.gguf"),
}, async () => {
  const { metadata, tensors } = await readShared("models/hostile/every_metadata_type.gguf");
  const expected: Record<string, MetadataValue> = {
    uint8: 0x12,
    int8: -0x13,
    uint16: 0x1234,
    int16: -0x1235,
    uint32: 0x12345678,
    int32: -0x12345679,
    float32: Math.fround(0.12345679),
    uint64: 0x123456789abcdef0n,
    int64: -0x123456789abcdef1n,
    float64: 0.12345678901234568,
    bool: true,
    string: "hello world",
    "arr.i16": Int16Array.of(1, 2, 3, 4),
    "arr.f32": Float32Array.of(3.145, 2.718, 1.414),
    "arr.str": ["hello", "world", "!"],
  };
  equal(metadata.size, 15);
  for (const [key, value] of Object.entries(expected)) {
    deepEqual(metadata.get(`some.parameter.${key}`), value, key);
  }
  equal(tensors.size, 10);
  deepEqual(tensors.get("tensor_0")!.shape, [4, 6, 8, 7]);
});

test("readGguf lists stories260K and its quantisations", {
  skip: missing("models/stories260K/stories260K.gguf"),
}, async () => {
  const { tensors, metadata, format } = await readShared("models/stories260K/stories260K.gguf");
  equal(format, "gguf");
  equal(tensors.size, 48);
  equal(metadata.get("tokenizer.ggml.padding_token_id"), 4294967295);
  equal((metadata.get("tokenizer.ggml.tokens") as string[])[300], "▁ha");
  deepEqual(tensors.get("blk.0.ffn_gate.weight")!.shape, [172, 64]);
  for (
    const [name, dtypes] of [["f16", ["F16", "F32"]], ["q8_0", ["Q8_0", "F32"]], ["q5_0", [
      "Q5_0",
      "F32",
    ]]] as const
  ) {
    const table = await readShared(`models/stories260K/stories260K-${name}.gguf`);
    const summary = summarizeDtypes(table);
    ok(
      dtypes.every((dtype) => summary.some((s) => s.dtype === dtype)),
      `${name}: ${summary.map((s) => s.dtype)}`,
    );
    equal(parametersOf(table), parametersOf({ tensors }), name);
  }
});

test("readGguf reads vocabularies, which have no tensors", {
  skip: missing("tokenizers/ggml-vocab-gpt-2.gguf"),
}, async () => {
  const { metadata, tensors } = await readShared("tokenizers/ggml-vocab-gpt-2.gguf");
  equal(tensors.size, 0);
  equal((metadata.get("tokenizer.ggml.tokens") as string[]).length, 50257);
});

test(
  "readGguf reads a file without tensors",
  { skip: missing("models/hostile/empty.gguf") },
  async () => {
    const { metadata, tensors } = await readShared("models/hostile/empty.gguf");
    deepEqual([...metadata], [["general.architecture", "llama"]]);
    equal(tensors.size, 0);
  },
);

test("readGguf refuses a file whose tensors are missing", {
  skip: missing("models/hostile/truncated.gguf"),
}, async () => {
  await rejects(
    () => readShared("models/hostile/truncated.gguf"),
    /"test\.weight\.0" must be within the file's 122 bytes, got 32768 bytes from byte 128/,
  );
});

/** A small file with a bit of everything. */
const SMALL: GgufParts = {
  pairs: [
    ["general.alignment", u32, ggufValue.u32(64)],
    ["text", string, ggufValue.string("größer")],
    ["yes", bool, [1]],
    ["big", u64, ggufValue.u64(2n ** 53n)],
    ["small", u64, ggufValue.u64(2n ** 53n - 1n)],
    ["negative", i64, ggufValue.u64(2n ** 64n - 5n)],
    ["bytes", array, ggufValue.array(u8, 3, [1, 2, 3])],
    ["bools", array, ggufValue.array(bool, 2, [1, 0])],
    [
      "words",
      array,
      ggufValue.array(string, 2, [...ggufValue.string("a"), ...ggufValue.string("")]),
    ],
    [
      "nested",
      array,
      ggufValue.array(array, 2, [
        ...ggufValue.array(u8, 1, [9]),
        ...ggufValue.array(string, 0, []),
      ]),
    ],
    ["__proto__", u8, [1]],
  ],
  tensors: [
    { name: "a", dimensions: [3, 2], type: 1, offset: 64 },
    { name: "b", dimensions: [256], type: 12, offset: 128 },
    { name: "c", dimensions: [], type: 0, offset: 0 },
  ],
  alignment: 64,
  dataBytes: 128 + 144,
};

test("readGguf reads nested arrays, large numbers and an alignment of its own", async () => {
  for (const version of [2, 3]) {
    const bytes = ggufBytes({ ...SMALL, version });
    const { metadata, tensors } = await readGguf(fromBytes(bytes, "x"));
    const dataStart = bytes.length - 128 - 144;
    equal(dataStart % 64, 0);
    deepEqual(Object.fromEntries([...metadata].filter(([key]) => key !== "__proto__")), {
      "general.alignment": 64,
      text: "größer",
      yes: true,
      big: 2n ** 53n,
      small: 2 ** 53 - 1,
      negative: -5,
      bytes: Uint8Array.of(1, 2, 3),
      bools: [true, false],
      words: ["a", ""],
      nested: [Uint8Array.of(9), []],
    });
    equal(metadata.get("__proto__"), 1);
    deepEqual(
      [...tensors.values()].map((
        t,
      ) => [t.name, t.dtype, t.shape, t.byteOffset - dataStart, t.byteLength]),
      [["a", "F16", [2, 3], 64, 12], ["b", "Q4_K", [256], 128, 144], ["c", "F32", [], 0, 4]],
    );
  }
});

test("readGguf refuses every truncation", async () => {
  const whole = ggufBytes(SMALL);
  for (let length = 0; length < whole.length; length++) {
    await refuses(whole.slice(0, length), /x\.gguf/);
  }
});

test("readGguf reads a header longer than its first read, and no more of the file than that takes", async () => {
  const text = "ab".repeat(1_000_000);
  const bytes = ggufBytes({
    pairs: [["a", u8, [1]], ["text", string, ggufValue.string(text)], ["b", u8, [2]]],
  });
  const source = watchedSource(bytes, "x.gguf", 2 ** 40);
  const { metadata } = await readGguf(source);
  equal(metadata.get("text"), text);
  equal(metadata.get("b"), 2);
  ok(source.bytesRead <= 4 * bytes.length, `${source.bytesRead} bytes`);
});

test("readGguf refuses other magic, versions and big-endian files", async () => {
  await refuses({ magic: 0 }, /magic must be 0x46554747 \("GGUF"\), got 0x0/, 0);
  for (const version of [0, 1, 4]) {
    await refuses({ version }, new RegExp(`the version must be 2 or 3, got ${version}`), 4);
  }
  await refuses({ version: 0x03000000 }, /got a big-endian file/, 4);
});

test("readGguf refuses counts that the file cannot hold, before it believes them", async () => {
  for (const count of [1_000_001, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
    await refuses({ tensorCount: count }, /the number of tensors must be at most 262144/, 8);
    await refuses({ pairCount: count }, /the number of metadata pairs must be at most 65536/, 16);
  }
  await refuses(
    { tensorCount: 1000 },
    /the number of tensors is 1000, for which the 8 bytes left/,
    8,
  );
  await refuses({ pairCount: 1000 }, /the number of metadata pairs is 1000/, 16);
});

test("readGguf refuses lengths of strings and arrays that are lies", async () => {
  for (const length of [100n, 2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
    const raw = new ByteWriter().u64(length).raw([65, 65]).bytes();
    await refuses({ pairs: [["k", string, raw]] }, /the length of "k"/, FIRST + 13);
    for (const type of Object.values(GGUF)) {
      const value = ggufValue.array(type, length, [1, 2, 3, 4]);
      await refuses({ pairs: [["k", array, value]] }, /the length of "k"/, FIRST + 17);
    }
    const key = new ByteWriter().u64(length).raw(new Uint8Array(20)).bytes();
    await refuses(
      Uint8Array.of(...ggufBytes({ pairCount: 1 }), ...key),
      /the length of metadata key 0/,
      FIRST,
    );
    await refuses(
      Uint8Array.of(...ggufBytes({ tensorCount: 1 }), ...key),
      /the length of the name of tensor 0/,
      FIRST,
    );
  }
  // The file is large enough for these, but nothing sensible needs them.
  const claims: [GgufParts, RegExp][] = [
    [
      { pairs: [["k", string, ggufValue.u64(2n ** 24n + 1n)]] },
      /the length of "k" must be at most 16777216/,
    ],
    [
      { pairs: [["k", array, ggufValue.array(u8, 2n ** 27n + 1n, [])]] },
      /must be at most 134217728/,
    ],
    [
      { pairs: [["k", array, ggufValue.array(u8, 2n ** 27n, [])]] },
      /within the first 134217728 bytes/,
    ],
  ];
  for (const [parts, message] of claims) {
    const source = watchedSource(ggufBytes(parts), "x.gguf", 2 ** 40);
    await rejects(() => readGguf(source), message);
    ok(source.bytesRead < 2 ** 20);
  }
});

test("readGguf refuses unknown types, bad booleans, bad UTF-8, deep nesting and names given twice", async () => {
  await refuses(
    { pairs: [["k", 13, [1]]] },
    /the type of "k" must be from 0 to 12, got 13/,
    FIRST + 9,
  );
  await refuses(
    { pairs: [["k", array, ggufValue.array(13, 1, [1])]] },
    /the type of the items of "k"/,
  );
  await refuses({ pairs: [["k", bool, [2]]] }, /"k" must be 0 or 1, got 2/, FIRST + 13);
  const badText = new ByteWriter().u64(2).raw([0xc3, 0x28]).bytes();
  await refuses({ pairs: [["k", string, badText]] }, /"k" must be UTF-8/, FIRST + 21);
  let nested = ggufValue.array(u8, 0, []);
  for (let depth = 0; depth < 4; depth++) nested = ggufValue.array(array, 1, nested);
  await refuses({ pairs: [["k", array, nested]] }, /nested at most 4 deep/);
  await refuses(
    { pairs: [["k", u8, [1]], ["k", u8, [1]]] },
    /"k" must not be given twice/,
    FIRST + 14,
  );
  const twice: GgufTensor[] = [{ name: "t", dimensions: [1] }, {
    name: "t",
    dimensions: [1],
    offset: 32,
  }];
  await refuses(
    { tensors: twice, dataBytes: 64 },
    /tensor "t" must not be given twice/,
    FIRST + 33,
  );
});

test("readGguf refuses an alignment that is no multiple of 8, and takes the others", async () => {
  const pair = (
    value: Uint8Array,
    type: number = u32,
  ): GgufParts["pairs"] => [["general.alignment", type, value]];
  for (const alignment of [0, 1, 7, 12, 2 ** 20 + 8, 2 ** 32 - 1]) {
    await refuses(
      { pairs: pair(ggufValue.u32(alignment)) },
      /must be a multiple of 8 from 8 to 1048576/,
    );
  }
  await refuses({ pairs: pair(ggufValue.string("32"), string) }, /must be a multiple of 8/);
  await refuses({ pairs: pair(ggufValue.f32(NaN), GGUF.f32) }, /must be a multiple of 8/);
  const parts: GgufParts = { pairs: pair(ggufValue.u32(24)), alignment: 24, dataBytes: 4 };
  await readGguf(
    fromBytes(ggufBytes({ ...parts, tensors: [{ name: "t", dimensions: [1] }] }), "x"),
  );
});

test("readGguf refuses tensors that cannot be, and names them", async () => {
  const one = (tensor: Partial<GgufTensor>): GgufParts => ({
    tensors: [{ name: "t", dimensions: [32], ...tensor }],
    dataBytes: 256,
  });
  await readGguf(fromBytes(ggufBytes(one({})), "x"));
  const faults: [Partial<GgufTensor>, RegExp][] = [
    [{ dimensions: [1, 1, 1, 1, 1] }, /"t" must have at most 4 dimensions, got 5/],
    [{ dimensions: [2n ** 53n] }, /must have fewer than 2\^50 numbers/],
    [{ dimensions: [2n ** 64n - 1n] }, /must have fewer than 2\^50 numbers/],
    [{ dimensions: [2n ** 32n, 2n ** 32n] }, /must have fewer than 2\^50 numbers/],
    [
      { dimensions: [2n ** 16n, 2n ** 16n, 2n ** 16n, 2n ** 16n] },
      /must have fewer than 2\^50 numbers/,
    ],
    [{ dimensions: [2n ** 51n] }, /must have fewer than 2\^50 numbers/],
    [{ dimensions: [2n ** 49n] }, /must be within the file/],
    [{ dimensions: [65] }, /must be within the file/],
    [{ type: 4 }, /the type of "t" must be one that is known, got 4/],
    [{ type: 2 ** 32 - 1 }, /must be one that is known/],
    [{ type: 2, dimensions: [33] }, /a row of "t" must be a multiple of Q4_0's 32 numbers/],
    [{ type: 12, dimensions: [128, 2] }, /a row of "t" must be a multiple of Q4_K's 256 numbers/],
    [{ offset: 8 }, /the offset of "t" must be a multiple of 32, got 8/],
    [{ offset: 160 }, /must be within the file/],
    [{ offset: 2n ** 53n }, /must be within the file/],
    [{ offset: 2n ** 64n - 32n }, /must be within the file/],
  ];
  for (const [fault, message] of faults) await refuses(one(fault), message, FIRST);
});

test("readGguf refuses tensors that overlap, in whatever order they are listed", async () => {
  for (const [a, b] of [[0, 32], [32, 0], [0, 0]]) {
    const tensors = [{ name: "a", dimensions: [16], offset: a! }, {
      name: "b",
      dimensions: [16],
      offset: b!,
    }];
    await refuses({ tensors, dataBytes: 256 }, /must not overlap the one before it/);
  }
});
