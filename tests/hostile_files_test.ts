/**
 * Thousands of damaged headers. Whatever a file says, a reader answers with a table that is true of
 * the file or with a ModelFormatError; it never asks for more bytes than the file has, and never
 * takes long.
 */
import { ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { ModelFormatError } from "../src/errors.ts";
import type { ByteSource } from "../src/files/byte_source.ts";
import { readGguf } from "../src/files/gguf.ts";
import { readSafetensors, readShardedSafetensors } from "../src/files/safetensors.ts";
import { countElements, type TensorTable } from "../src/files/tensor_table.ts";
import { parseGgufConfig } from "../src/llama/config.ts";
import { openModelFiles } from "../src/llama/model_files.ts";
import {
  ByteWriter,
  GGUF,
  ggufBytes,
  ggufValue,
  safetensorsBytes,
  watchedSource,
} from "./support/model_bytes.ts";
import { missing, repository, sharedUrl } from "./support/shared.ts";

const RUNS = { numRuns: 3000, seed: 7 };

/** A change to some bytes: values that are likely to be boundaries of something, at any place. */
const INTERESTING = [
  0n,
  1n,
  7n,
  8n,
  32n,
  255n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const change = fc.record({
  at: fc.nat(),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 4 }),
    fc.constantFrom(...INTERESTING).map((value) => new ByteWriter().u64(value).bytes()),
    fc.constantFrom(
      '"',
      "{",
      "[",
      "]}",
      "-",
      "1e99",
      "99999999999999999999",
      "null",
      ",",
      "\\u0000",
    )
      .map((text) => new TextEncoder().encode(text)),
  ),
});
const damage = fc.record({
  changes: fc.array(change, { minLength: 1, maxLength: 4 }),
  // Half of the files keep their length; the others are cut somewhere.
  cut: fc.option(fc.nat()),
});
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

/** The damage falls on the header only: nobody reads the rest here. */
function damaged(bytes: Uint8Array, headerLength: number, { changes, cut }: Damage): Uint8Array {
  const result = bytes.slice(0, cut === null ? bytes.length : cut % bytes.length);
  for (const change of changes) {
    const at = change.at % headerLength;
    result.set(
      change.bytes.subarray(0, Math.max(0, result.length - at)),
      Math.min(at, result.length),
    );
  }
  return result;
}

/**
 * Reads a damaged file and checks that the answer is the one or the other. Returns whether it was
 * accepted.
 */
async function check(
  bytes: Uint8Array,
  read: (source: ByteSource) => Promise<TensorTable | undefined>,
): Promise<boolean> {
  const source = watchedSource(bytes, "damaged");
  let table: TensorTable | undefined;
  try {
    table = await read(source);
  } catch (error) {
    ok(error instanceof ModelFormatError, `${(error as Error).stack ?? error}`);
    ok(error.byteOffset >= 0 && error.byteOffset <= Math.max(bytes.length, 64), error.message);
    ok(error.message.length < 2000);
    return false;
  } finally {
    ok(source.bytesRead <= 4 * bytes.length, `${source.bytesRead} of ${bytes.length} bytes`);
  }
  let end = 0;
  const tensors = [...table?.tensors.values() ?? []]
    .sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  for (const { byteOffset, byteLength, shape, name } of tensors) {
    ok(byteOffset >= end && byteOffset + byteLength <= bytes.length, name);
    ok(countElements(shape)! <= 8 * byteLength, name);
    end = byteOffset + byteLength;
  }
  return true;
}

const small = safetensorsBytes({
  "__metadata__": { format: "pt", "model.embed_tokens.weight": "lm_head.weight" },
  "lm_head.weight": { dtype: "F32", shape: [4, 2], data_offsets: [0, 32] },
  "model.norm.weight": { dtype: "BF16", shape: [2], data_offsets: [32, 36] },
  empty: { dtype: "I64", shape: [0, 7], data_offsets: [36, 36] },
}, 36);

test("readSafetensors survives damage to a small header", async () => {
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      accepted += +await check(damaged(small, small.length - 36, how), readSafetensors);
    }),
    RUNS,
  );
  ok(accepted < RUNS.numRuns / 2, `${accepted} accepted`);
});

test("readSafetensors survives damage to the numbers of a header", async () => {
  const number = fc.oneof(
    fc.integer({ min: -2, max: 40 }),
    fc.constantFrom(0.5, -0, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e308, -1),
  );
  const entry = fc.record({
    dtype: fc.constantFrom("F32", "F16", "U8", "F4", "I64", "X"),
    shape: fc.array(number, { maxLength: 4 }),
    data_offsets: fc.array(number, { minLength: 1, maxLength: 3 }),
  }, { requiredKeys: [] });
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.string({ maxLength: 3 }), entry), async (header) => {
      await check(safetensorsBytes(header, 40), readSafetensors);
    }),
    RUNS,
  );
});

test("readShardedSafetensors survives damage to an index", async () => {
  const index = new TextEncoder().encode(
    '{"metadata":{"total_size":36},"weight_map":{"lm_head.weight":"a.safetensors","empty":"b.safetensors"}}',
  );
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      await check(damaged(index, index.length, how), async (source) => {
        await readShardedSafetensors(source, (name) => {
          ok(/^[\w-][\w.-]*$/.test(name), name);
          return Promise.resolve(watchedSource(small, name));
        });
        return undefined;
      });
    }),
    RUNS,
  );
});

const { array, bool, f32, string, u32, u64, u8 } = GGUF;
const words = [...ggufValue.string("<s>"), ...ggufValue.string("▁a"), ...ggufValue.string("")];
const llama = ggufBytes({
  pairs: [
    ["general.architecture", string, ggufValue.string("llama")],
    ["general.alignment", u32, ggufValue.u32(32)],
    ["llama.context_length", u32, ggufValue.u32(512)],
    ["llama.embedding_length", u32, ggufValue.u32(8)],
    ["llama.block_count", u64, ggufValue.u64(1)],
    ["llama.feed_forward_length", u32, ggufValue.u32(12)],
    ["llama.attention.head_count", u32, ggufValue.u32(2)],
    ["llama.attention.layer_norm_rms_epsilon", f32, ggufValue.f32(1e-5)],
    ["tokenizer.ggml.tokens", array, ggufValue.array(string, 3, words)],
    ["tokenizer.ggml.scores", array, ggufValue.array(f32, 1, [0, 0, 0, 0])],
    ["nested", array, ggufValue.array(array, 1, ggufValue.array(u8, 2, [1, 2]))],
    ["yes", bool, [1]],
  ],
  tensors: [
    { name: "token_embd.weight", dimensions: [8, 3], offset: 0 },
    { name: "output_norm.weight", dimensions: [8], type: 1, offset: 96 },
    { name: "blk.0.attn_q.weight", dimensions: [32, 2], type: 8, offset: 128 },
  ],
  dataBytes: 128 + 68,
});

test("readGguf and parseGgufConfig survive damage to a small header", async () => {
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      accepted += +await check(damaged(llama, llama.length - 196, how), async (source) => {
        const table = await readGguf(source);
        parseGgufConfig(table);
        return table;
      });
    }),
    RUNS,
  );
  ok(accepted < RUNS.numRuns / 2, `${accepted} accepted`);
});

test("readGguf survives damage to stories260K's header", {
  skip: missing("models/stories260K/stories260K.gguf"),
}, async () => {
  const whole = new Uint8Array(readFileSync(sharedUrl("models/stories260K/stories260K.gguf")));
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      await check(damaged(whole, 14176, how), readGguf);
    }),
    { ...RUNS, numRuns: 300 },
  );
});

test("readSafetensors survives damage to the embedded model's header", async () => {
  const whole = new Uint8Array(
    readFileSync(new URL("models/pocket/model.safetensors", repository)),
  );
  const headerLength = Number(new DataView(whole.buffer).getBigUint64(0, true));
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      await check(damaged(whole, 8 + headerLength, how), readSafetensors);
    }),
    { ...RUNS, numRuns: 300 },
  );
});

test("every truncation of the embedded model's header is refused", async () => {
  const url = new URL("models/pocket/model.safetensors", repository);
  const whole = new Uint8Array(readFileSync(url));
  const headerLength = Number(new DataView(whole.buffer).getBigUint64(0, true));
  for (let length = 0; length < 8 + headerLength; length += 1) {
    ok(!await check(whole.subarray(0, length), readSafetensors), `${length} bytes`);
  }
  ok(!await check(whole.subarray(0, whole.length - 1), readSafetensors));
});

test("openModelFiles survives damage to every JSON file of the embedded model", async () => {
  const names = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "reattention.json",
  ];
  const files = Object.fromEntries(
    [...names, "model.safetensors"].map((name) => [
      name,
      new Uint8Array(readFileSync(new URL(`models/pocket/${name}`, repository))),
    ]),
  );
  await fc.assert(
    fc.asyncProperty(damage, fc.constantFrom(...names), async (how, name) => {
      await check(damaged(files[name]!, files[name]!.length, how), async (source) => {
        const sources: Record<string, ByteSource> = {};
        for (const [key, bytes] of Object.entries(files)) sources[key] = watchedSource(bytes, key);
        sources[name] = source;
        await (await openModelFiles(sources)).close();
        return undefined;
      });
    }),
    { ...RUNS, numRuns: 1000 },
  );
});

test("a header of the largest size that is a lie costs no more than reading it", async () => {
  // 20 MB of opening brackets, of half an object, of one name over and over: each refused within
  // seconds.
  const start = performance.now();
  const texts: [piece: string, prefix: string][] = [
    ["[", ""],
    ['{"a":', ""],
    ['"a":0,', "{"],
    ["[],", "["],
    ['"', '{"'],
    ["\\", '{"'],
  ];
  for (const [piece, prefix] of texts) {
    const text = prefix + piece.repeat(20_000_000 / piece.length);
    ok(!await check(safetensorsBytes(text), readSafetensors), piece);
  }
  ok(performance.now() - start < 30_000);
});
