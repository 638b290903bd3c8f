// A model's configuration from GGUF's metadata.

import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import { ModelFormatError } from "../src/errors.ts";
import type { MetadataValue, TensorInfo, TensorTable } from "../src/files/tensor_table.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { type LlamaConfig, parseGgufConfig } from "../src/llama/config.ts";
import { readFactors } from "../src/llama/rope_scaling.ts";
import { ggufTable } from "./support/configs.ts";

test("parseGgufConfig reads what stories260K says, and has defaults for what it does not", () => {
  const expected: LlamaConfig = {
    architecture: "llama",
    hiddenSize: 64,
    intermediateSize: 172,
    numLayers: 5,
    numHeads: 8,
    numKvHeads: 4,
    headDim: 8,
    vocabSize: 512,
    rmsNormEpsilon: 1e-5,
    ropeTheta: 10000,
    qkvBias: false,
    outputBias: false,
    qkNorm: false,
    trainedLength: 2048,
    tiedEmbeddings: true,
    bosToken: 1,
    eosTokens: [2],
  };
  deepEqual(parseGgufConfig(ggufTable({})), expected);
  deepEqual(parseGgufConfig(ggufTable({}, ["output.weight"])), {
    ...expected,
    tiedEmbeddings: false,
  });
  const none = 4294967295;
  const { bosToken: _, ...noBos } = expected;
  deepEqual(
    parseGgufConfig(
      ggufTable({ "tokenizer.ggml.bos_token_id": none, "tokenizer.ggml.eos_token_id": none }),
    ),
    { ...noBos, eosTokens: [] },
  );
  equal(parseGgufConfig(ggufTable({ "llama.attention.head_count_kv": undefined })).numKvHeads, 8);
  equal(parseGgufConfig(ggufTable({ "llama.rope.freq_base": 500000 })).ropeTheta, 500000);
});

test("parseGgufConfig names what it does not support", () => {
  const faults: [Record<string, MetadataValue | undefined>, RegExp][] = [
    [
      { "general.architecture": "gpt2" },
      /"general.architecture" must be one of "llama", .*, got "gpt2"/,
    ],
    [{ "general.architecture": undefined }, /got nothing/],
    [{ "llama.rope.scaling.type": "longrope" }, /"none", "linear" or "yarn", got "longrope"/],
    [{ "llama.rope.scale_linear": -2 }, /"rope.scale_linear" must be from 0/],
    [{ "llama.rope.scaling.attn_factor": 2 }, /"llama.rope.scaling.attn_factor" must be 1/],
    [{ "llama.expert_count": 8 }, /mixtures of experts are not supported, got 8/],
    [{ "split.count": 3 }, /split over several files is not supported, got 3/],
    [{ "llama.rope.dimension_count": 4 }, /"llama.rope.dimension_count" must be 8/],
    [{ "llama.attention.value_length": 16 }, /"llama.attention.value_length" must be 8/],
    [
      { "llama.block_count": "5" },
      /"llama.block_count" must be an integer from 1 to 1024, got "5"/,
    ],
    [{ "llama.block_count": 2n ** 60n }, /got 1152921504606846976/],
    [{ "llama.attention.head_count": new Uint32Array([8, 8]) }, /got an array of 2 numbers/],
    [{ "llama.context_length": undefined }, /"llama.context_length" must be .* got nothing/],
    [
      { "llama.attention.layer_norm_rms_epsilon": undefined },
      /must be above 0 and below 1, got nothing/,
    ],
    [{ "llama.vocab_size": 2 ** 23 }, /"llama.vocab_size"/],
    [{ "tokenizer.ggml.eos_token_id": 512 }, /must be below the vocabulary's 512 tokens, got 512/],
  ];
  for (const [fields, message] of faults) {
    throws(() => parseGgufConfig(ggufTable(fields)), (error: unknown) => {
      ok(error instanceof ModelFormatError, `${error}`);
      match(error.message, message);
      return true;
    });
  }
  throws(
    () => parseGgufConfig(ggufTable({}, ["rope_factors_long.weight"])),
    /"rope_factors_long.weight" must be absent: longrope/,
  );
});

test("parseGgufConfig reads scalings and biases", () => {
  const scaling = (fields: Record<string, MetadataValue>) =>
    parseGgufConfig(ggufTable(fields)).ropeScaling;
  equal(scaling({ "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4 }), undefined);
  const linear = { type: "linear", factor: 4 };
  deepEqual(scaling({ "llama.rope.scale_linear": 4 }), linear);
  deepEqual(scaling({ "llama.rope.scaling.factor": 4 }), linear);
  deepEqual(
    scaling({
      "llama.rope.scaling.type": "yarn",
      "llama.rope.scaling.factor": 4,
      "llama.rope.scaling.original_context_length": 512,
    }),
    {
      type: "yarn",
      factor: 4,
      originalLength: 512,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: 0.1 * Math.log(4) + 1,
    },
  );
  const { qkvBias, outputBias } = parseGgufConfig(
    ggufTable({}, ["blk.0.attn_q.bias", "blk.0.attn_output.bias"]),
  );
  deepEqual([qkvBias, outputBias], [true, true]);
});

test("GGUF's factors of frequencies are read, or refused", async () => {
  const factors = new Float32Array([1, 2.5, 8, 32]);
  const tensor = (fields: Partial<TensorInfo> = {}): TensorTable => {
    const source = fromBytes(new Uint8Array(factors.buffer), "x.gguf");
    const name = "rope_freqs.weight";
    const info = { name, dtype: "F32", shape: [4], source, byteOffset: 0, byteLength: 16 };
    return { ...ggufTable({}), tensors: new Map([[name, { ...info, ...fields }]]) };
  };
  const linear = { type: "linear", factor: 2 } as const;
  equal(await readFactors(ggufTable({}), 4, undefined), undefined);
  equal(await readFactors(ggufTable({}), 4, linear), linear);
  deepEqual(await readFactors(tensor(), 4, undefined), {
    type: "factors",
    factors: [1, 2.5, 8, 32],
  });
  await rejects(readFactors(tensor(), 4, linear), /must be absent where the metadata scales/);
  await rejects(readFactors(tensor(), 8, undefined), /must be F32 \[8\], got F32 \[4\]/);
  await rejects(readFactors(tensor({ dtype: "F16" }), 4, undefined), /got F16/);
  for (const wrong of [0, -1, NaN, Infinity]) {
    factors[2] = wrong;
    await rejects(readFactors(tensor(), 4, undefined), /factors above 0 and up to/);
  }
});
