/**
 * What numbers a file may have: every type of the golden vectors, and of safetensors, is read to the
 * last bit or refused by its name.
 */
import { deepEqual, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { WeightFormat } from "../src/backend/backend.ts";
import { ModelFormatError } from "../src/errors.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { readGguf } from "../src/files/gguf.ts";
import { readSafetensors } from "../src/files/safetensors.ts";
import type { TensorTable } from "../src/files/tensor_table.ts";
import { findWeights } from "../src/llama/weights.ts";
import { backends } from "./support/long_test_backends.ts";
import { ggufBytes, safetensorsBytes } from "./support/model_bytes.ts";
import { outputOf } from "./support/outputs.ts";
import { missing, readJson } from "./support/shared.ts";

const VECTORS = "golden/dequant_vectors.json";

/** ggml's numbers of the types that the golden vectors have. */
const GGML_TYPES: Readonly<Record<string, number>> = {
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ4_NL: 20,
  IQ4_XS: 23,
  BF16: 30,
};
const REFUSED = ["Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS"];

const COLS = 256;
const CONFIG = {
  architecture: "llama",
  hiddenSize: COLS,
  intermediateSize: COLS,
  numLayers: 1,
  numHeads: 4,
  numKvHeads: 4,
  headDim: 64,
  vocabSize: 1,
  rmsNormEpsilon: 1e-5,
  ropeTheta: 10000,
  qkvBias: false,
  outputBias: false,
  qkNorm: false,
  trainedLength: 64,
  tiedEmbeddings: true,
  eosTokens: [],
} as const;

/** Fails unless a table's only tensor is refused by its type. */
function refusesByName(table: Promise<TensorTable>, dtype: string): Promise<void> {
  return rejects(
    async () => findWeights(await table, CONFIG),
    (error: unknown) =>
      error instanceof ModelFormatError &&
      error.message.startsWith("Cannot load the weights: tensor") &&
      error.message.includes(`must be one of F32, F16, BF16, Q8_0`) &&
      error.message.includes(`got ${dtype} (`),
  );
}

test("all 13 types of the golden vectors are read to the last bit, or refused by name", {
  skip: missing(VECTORS),
}, async () => {
  const all = readJson<Record<string, { bytes_hex: string; values: number[] }>>(VECTORS);
  deepEqual(Object.keys(all).sort(), Object.keys(GGML_TYPES).sort());
  for (const [name, { bytes_hex: hex, values }] of Object.entries(all)) {
    const bytes = Uint8Array.from(hex.match(/../g)!, (byte) => parseInt(byte, 16));
    if (REFUSED.includes(name)) {
      const tensor = { name: "token_embd.weight", dimensions: [COLS, 1], type: GGML_TYPES[name]! };
      const file = ggufBytes({ tensors: [tensor], dataBytes: bytes.length });
      await refusesByName(readGguf(fromBytes(file, "x.gguf")), name);
      continue;
    }
    const cols = Math.min(COLS, values.length);
    const rows = values.length / cols;
    const tokens = Uint32Array.from({ length: rows }, (_, i) => i);
    for (const { label, open } of backends) {
      using backend = await open();
      using table = await backend.weight({
        name,
        format: name.toLowerCase() as WeightFormat,
        rows,
        cols,
        read: (target, offset) => {
          target.set(bytes.subarray(offset, offset + target.length));
          return Promise.resolve();
        },
      });
      const actual = await outputOf(
        backend,
        rows,
        cols,
        (out) => backend.embed(out, table, tokens),
      );
      deepEqual(actual, Float32Array.from(values), `${label}, ${name}`);
    }
  }
});

test("safetensors of integers, of 8 bits or fewer and of f64 are refused by name", async () => {
  const types = [
    ["I8", 8],
    ["U8", 8],
    ["F8_E4M3", 8],
    ["F8_E5M2", 8],
    ["F8_E4M3FNUZ", 8],
    ["F4", 4],
    ["I16", 16],
    ["I32", 32],
    ["I64", 64],
    ["F64", 64],
    ["BOOL", 8],
  ] as const;
  for (const [dtype, bits] of types) {
    const end = COLS * bits / 8;
    const entry = { dtype, shape: [1, COLS], data_offsets: [0, end] };
    const file = safetensorsBytes({ "model.embed_tokens.weight": entry }, end);
    await refusesByName(readSafetensors(fromBytes(file, "x.safetensors")), dtype);
  }
});
