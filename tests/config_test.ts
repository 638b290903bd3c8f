import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ModelFormatError } from "../src/errors.ts";
import type { MetadataValue } from "../src/files/tensor_table.ts";
import { type LlamaConfig, parseGgufConfig, parseHfConfig } from "../src/llama/config.ts";
import { GGUF, ggufTable, HF } from "./support/configs.ts";
import { missing, readJson } from "./support/shared.ts";

function refusesHf(fields: Record<string, unknown>, message: RegExp, generation?: unknown): void {
  throws(() => parseHfConfig({ ...HF, ...fields }, "config.json", generation), (error: unknown) => {
    ok(error instanceof ModelFormatError, `${error}`);
    match(error.message, message);
    equal(error.source, "config.json");
    return true;
  });
}

test("parseHfConfig reads a Llama's config.json", () => {
  deepEqual(parseHfConfig(HF, "config.json"), {
    architecture: "llama",
    hiddenSize: 256,
    intermediateSize: 512,
    numLayers: 4,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 64,
    vocabSize: 1024,
    rmsNormEpsilon: 1e-5,
    ropeTheta: 200000,
    qkvBias: false,
    outputBias: false,
    qkNorm: false,
    trainedLength: 512,
    tiedEmbeddings: false,
    bosToken: 1022,
    eosTokens: [1023],
  });
});

test("parseHfConfig has Hugging Face's defaults for what may be missing or null", () => {
  const { model_type, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads } = HF;
  const { vocab_size, max_position_embeddings } = HF;
  const config = parseHfConfig({
    model_type,
    hidden_size,
    intermediate_size,
    num_hidden_layers,
    num_attention_heads,
    vocab_size,
    max_position_embeddings,
    head_dim: null,
    num_key_value_heads: null,
    rope_scaling: null,
    bos_token_id: null,
  }, "config.json");
  equal(config.numKvHeads, 4);
  equal(config.headDim, 64);
  equal(config.rmsNormEpsilon, 1e-6);
  equal(config.ropeTheta, 10000);
  equal(config.tiedEmbeddings, false);
  equal("bosToken" in config, false);
  deepEqual(config.eosTokens, []);
});

test("parseHfConfig takes the tokens of generation_config.json first", () => {
  const config = parseHfConfig(HF, "config.json", { eos_token_id: [1, 2], bos_token_id: 3 });
  deepEqual([config.bosToken, config.eosTokens], [3, [1, 2]]);
  deepEqual(parseHfConfig(HF, "config.json", { do_sample: true }).eosTokens, [1023]);
  deepEqual(parseHfConfig({ ...HF, eos_token_id: [5, 6, 7] }, "config.json").eosTokens, [5, 6, 7]);
  refusesHf({}, /"eos_token_id" must be below/, { eos_token_id: 1024 });
});

test("parseHfConfig reads the newer rope_parameters", () => {
  const rope = { rope_theta: 500000, rope_type: "default" };
  equal(
    parseHfConfig({ ...HF, rope_theta: undefined, rope_parameters: rope }, "c").ropeTheta,
    500000,
  );
  refusesHf({ rope_parameters: { ...rope, rope_type: "yarn" } }, /in "rope_parameters", "factor"/);
});

test("parseHfConfig reads every scaling, with Hugging Face's defaults", () => {
  const scaling = (fields: Record<string, unknown>) =>
    parseHfConfig({ ...HF, rope_scaling: fields }, "c").ropeScaling;
  equal(scaling({ rope_type: "default" }), undefined);
  deepEqual(scaling({ type: "linear", factor: 4 }), { type: "linear", factor: 4 });
  deepEqual(scaling({ type: "dynamic", factor: 2.5 }), {
    type: "dynamic",
    factor: 2.5,
    originalLength: 512,
  });
  const llama3 = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 128,
  };
  deepEqual(scaling(llama3), {
    type: "llama3",
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalLength: 128,
  });
  const yarn = { type: "yarn", factor: 4 };
  deepEqual(scaling(yarn), {
    type: "yarn",
    factor: 4,
    originalLength: 512,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: 0.1 * Math.log(4) + 1,
  });
  const factorOf = (fields: Record<string, unknown>) => {
    const found = scaling({ ...yarn, ...fields });
    return found?.type === "yarn" ? found.attentionFactor : null;
  };
  equal(factorOf({ attention_factor: 1.25 }), 1.25);
  equal(factorOf({ mscale: 1, mscale_all_dim: 1 }), 1);

  refusesHf({ rope_scaling: 5 }, /"rope_scaling" must be an object, got 5/);
  refusesHf({ rope_scaling: { type: "longrope", factor: 2 } }, /got "longrope"/);
  refusesHf({ rope_scaling: { type: "linear" } }, /"factor" must be from 1 to \d+, got nothing/);
  refusesHf({ rope_scaling: { type: "linear", factor: 0.5 } }, /"factor".*got 0.5/);
  refusesHf({ rope_scaling: { ...llama3, low_freq_factor: 4 } }, /must be above the low one's 4/);
  refusesHf(
    { rope_scaling: { ...llama3, original_max_position_embeddings: undefined } },
    /"original_max_position_embeddings" must be an integer/,
  );
  refusesHf({ rope_scaling: { ...yarn, truncate: false } }, /"truncate" must be true/);
});

test("parseHfConfig knows what sets each architecture apart", () => {
  const traits = (className: string, modelType: string, fields: Record<string, unknown> = {}) => {
    const config = parseHfConfig(
      { ...HF, architectures: [className], model_type: modelType, ...fields },
      "c",
    );
    const { architecture, qkvBias, outputBias, qkNorm } = config;
    equal(architecture, modelType);
    return [qkvBias, outputBias, qkNorm];
  };
  deepEqual(traits("LlamaForCausalLM", "llama", { attention_bias: true }), [true, true, false]);
  deepEqual(traits("MistralForCausalLM", "mistral"), [false, false, false]);
  deepEqual(traits("Qwen2ForCausalLM", "qwen2"), [true, false, false]);
  deepEqual(traits("Qwen3ForCausalLM", "qwen3"), [false, false, true]);
  deepEqual(traits("InternLM2ForCausalLM", "internlm2", { bias: false }), [false, false, false]);
  deepEqual(traits("InternLM2ForCausalLM", "internlm2", { bias: true }), [true, true, false]);
});

interface SeedModel {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kv: number;
  readonly head_dim: number;
  readonly ffn: number;
  readonly vocab: number;
  readonly rope_theta: number;
  readonly rope_scaling?: Readonly<Record<string, unknown>> | string | null;
  readonly max_pos: number;
  readonly sliding: string | number | null;
  readonly tied?: boolean;
}

test("the seed models' shapes are read as they are", {
  skip: missing("facts/seed_models.json"),
}, () => {
  const families: [prefix: string, modelType: string, biases: boolean, norms: boolean][] = [
    ["Llama-", "llama", false, false],
    ["SmolLM2-", "llama", false, false],
    ["Mistral-", "mistral", false, false],
    ["Qwen2-", "qwen2", true, false],
    ["Qwen2.5-", "qwen2", true, false],
    ["Qwen3-", "qwen3", false, true],
    ["InternLM2", "internlm2", false, false],
  ];
  let read = 0;
  for (
    const [name, seed] of Object.entries(
      readJson<Record<string, SeedModel>>("facts/seed_models.json"),
    )
  ) {
    const family = families.find(([prefix]) => name.startsWith(prefix));
    // One is GLM, which is none of these; of one the facts refer to another's.
    if (family === undefined || seed.layers === undefined) continue;
    const [, modelType, biases, norms] = family;
    const scaling = typeof seed.rope_scaling === "string" ? null : seed.rope_scaling ?? null;
    const config = parseHfConfig({
      model_type: modelType,
      hidden_size: seed.hidden,
      intermediate_size: seed.ffn,
      num_hidden_layers: seed.layers,
      num_attention_heads: seed.heads,
      num_key_value_heads: seed.kv,
      head_dim: seed.head_dim,
      vocab_size: seed.vocab,
      max_position_embeddings: seed.max_pos,
      rope_theta: seed.rope_theta,
      rope_scaling: scaling,
      // Qwen's files have one, and say that it is not used.
      sliding_window: seed.sliding === null ? null : 4096,
      use_sliding_window: false,
      tie_word_embeddings: seed.tied ?? false,
    }, name);
    const { qkvBias, qkNorm, trainedLength, headDim, numKvHeads, ropeScaling } = config;
    deepEqual(
      { qkvBias, qkNorm, trainedLength, headDim, numKvHeads, type: ropeScaling?.type ?? null },
      {
        qkvBias: biases,
        qkNorm: norms,
        trainedLength: seed.max_pos,
        headDim: seed.head_dim,
        numKvHeads: seed.kv,
        type: scaling?.["rope_type"] ?? scaling?.["type"] ?? null,
      },
      name,
    );
    read++;
  }
  equal(read, 14);
});

test("a sliding window bounds the trained length, where the architecture slides", () => {
  const lengths = (fields: Record<string, unknown>) => {
    const { trainedLength, slidingWindow } = parseHfConfig(
      { ...HF, architectures: undefined, ...fields },
      "c",
    );
    return [trainedLength, slidingWindow];
  };
  deepEqual(lengths({ model_type: "mistral", sliding_window: null }), [512, undefined]);
  deepEqual(lengths({ model_type: "mistral", sliding_window: 128 }), [128, 128]);
  deepEqual(lengths({ model_type: "mistral", sliding_window: 4096 }), [512, undefined]);
  const long = { model_type: "mistral", max_position_embeddings: 32768 };
  deepEqual(lengths(long), [4096, 4096]);
  deepEqual(lengths({ ...long, sliding_window: null }), [32768, undefined]);
  const qwen = { model_type: "qwen2", sliding_window: 128, max_window_layers: 4 };
  deepEqual(lengths({ ...qwen, use_sliding_window: false }), [512, undefined]);
  deepEqual(lengths({ ...qwen, use_sliding_window: true }), [512, undefined]);
  deepEqual(lengths({ ...qwen, use_sliding_window: true, max_window_layers: 0 }), [128, 128]);
  refusesHf(
    {
      ...qwen,
      architectures: undefined,
      use_sliding_window: true,
      max_window_layers: 2,
    },
    /"max_window_layers" must be 0, or all 4 layers/,
  );
  const { trainedLength } = parseGgufConfig(ggufTable({ "llama.attention.sliding_window": 1024 }));
  equal(trainedLength, 1024);
});

test("parseHfConfig names what it does not support", () => {
  refusesHf(
    { architectures: ["GemmaForCausalLM"], model_type: "gemma" },
    /must be LlamaForCausalLM, MistralForCausalLM.*GemmaForCausalLM.*"gemma"/,
  );
  refusesHf(
    { architectures: ["LlamaForSequenceClassification"] },
    /LlamaForSequenceClassification/,
  );
  refusesHf({ model_type: "qwen2" }, /"qwen2"/);
  refusesHf(
    { architectures: undefined, model_type: undefined },
    /got nothing \(model_type nothing\)/,
  );
  refusesHf(
    { architectures: ["MistralForCausalLM"], model_type: "mistral", attention_bias: true },
    /"attention_bias" must be false: such biases are not supported, got true/,
  );
  refusesHf({ attention_bias: 1 }, /"attention_bias" must be true or false, got 1/);
  refusesHf({ mlp_bias: true }, /"mlp_bias" must be false/);
  refusesHf({ hidden_act: "gelu" }, /"hidden_act" must be "silu", got "gelu"/);
  refusesHf({ partial_rotary_factor: 0.5 }, /"partial_rotary_factor" must be 1/);
  refusesHf(
    { quantization_config: { quant_method: "awq" } },
    /"quantization_config" must be null.*"awq"/,
  );
});

test("parseHfConfig reads the makers' own files", {
  skip: missing("facts/meta-llama-3.2-1B-Instruct.json", "facts/mistral-7B-instruct-v0.3.json"),
}, () => {
  const llama = parseHfConfig(readJson("facts/meta-llama-3.2-1B-Instruct.json"), "c");
  deepEqual(llama.ropeScaling, {
    type: "llama3",
    factor: 32,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalLength: 8192,
  });
  equal(llama.trainedLength, 131072);
  const mistral = parseHfConfig(readJson("facts/mistral-7B-instruct-v0.3.json"), "c");
  deepEqual(
    [mistral.architecture, mistral.headDim, mistral.trainedLength, mistral.slidingWindow],
    ["mistral", 128, 32768, undefined],
  );
});

test("parseHfConfig refuses wrong types, missing fields and sizes out of bounds", () => {
  for (
    const key of [
      "hidden_size",
      "intermediate_size",
      "num_hidden_layers",
      "num_attention_heads",
      "vocab_size",
      "max_position_embeddings",
    ]
  ) {
    for (const value of [undefined, null, "256", -1, 0, 1.5, 2 ** 53, NaN, [256], {}, true]) {
      refusesHf({ [key]: value }, new RegExp(`"${key}" must be an integer from 1 to \\d+, got`));
    }
  }
  for (const value of ["2", 0, -1, 1.5, 1e9]) {
    refusesHf({ num_key_value_heads: value }, /"num_key_value_heads" must be/);
    refusesHf({ head_dim: value }, /"head_dim" must be/);
  }
  refusesHf({ num_key_value_heads: 3 }, /must divide the 4 query heads, got 3/);
  refusesHf({ num_attention_heads: 3, num_key_value_heads: 3 }, /"head_dim" must be an integer/);
  refusesHf({ head_dim: 63 }, /the size of a head must be even, got 63/);
  for (const value of [0, 1, -1e-5, "1e-5", Infinity]) {
    refusesHf({ rms_norm_eps: value }, /"rms_norm_eps"/);
  }
  for (const value of [0, -1, "10000", 1e13, Infinity]) {
    refusesHf({ rope_theta: value }, /"rope_theta"/);
  }
  refusesHf({ tie_word_embeddings: 1 }, /"tie_word_embeddings" must be true or false/);
  for (const value of [-1, 1024, 1.5, "2", [1, "2"], {}, true]) {
    refusesHf({ eos_token_id: value }, /"eos_token_id" must be/);
  }
  refusesHf({ eos_token_id: Array(257).fill(0) }, /at most 256 tokens/);
  for (const json of [null, 5, "x", [HF]]) {
    throws(() => parseHfConfig(json, "c"), /must be an object/);
  }
});

test("configurations of arbitrary values are read or refused, never anything else", () => {
  const value = fc.oneof(fc.jsonValue(), fc.integer({ min: -2, max: 5000 }), fc.bigInt());
  const keys = [
    ...Object.keys(HF),
    "head_dim",
    "rope_scaling",
    "rope_parameters",
    "quantization_config",
    "hidden_act",
    "sliding_window",
    "attention_bias",
  ];
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...keys), value),
      fc.jsonValue(),
      (fields, generation) => {
        readsOrRefuses(() => parseHfConfig({ ...HF, ...fields }, "c", generation));
      },
    ),
    { numRuns: 2000, seed: 1 },
  );
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.constantFrom(
          ...Object.keys(GGUF),
          "llama.vocab_size",
          "llama.rope.scaling.type",
          "llama.rope.scaling.factor",
        ),
        value,
      ),
      (fields) => {
        readsOrRefuses(() => parseGgufConfig(ggufTable(fields as Record<string, MetadataValue>)));
      },
    ),
    { numRuns: 2000, seed: 1 },
  );
});

function readsOrRefuses(parse: () => LlamaConfig): void {
  let config: LlamaConfig;
  try {
    config = parse();
  } catch (error) {
    ok(error instanceof ModelFormatError, `${error}`);
    return;
  }
  equal(config.numHeads % config.numKvHeads, 0);
  equal(config.headDim % 2, 0);
  ok(config.eosTokens.every((token) => token < config.vocabSize));
}
