/**
 * A Llama model's shape, from a config.json or from GGUF's metadata.
 *
 * What would be computed wrongly (another architecture, biases, scaled rotary positions) is refused
 * by name.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import { asObject, shorten } from "../files/json.ts";
import type { MetadataValue, TensorTable } from "../files/tensor_table.ts";

/** The shape of a Llama-type decoder. */
export interface LlamaConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  /** Divides `numHeads`. */
  readonly numKvHeads: number;
  /** Even. */
  readonly headDim: number;
  readonly vocabSize: number;
  readonly rmsNormEpsilon: number;
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** The longest sequence of the training, as the file says it, in tokens. */
  readonly trainedLength: number;
  /** Whether the head is the embedding table. */
  readonly tiedEmbeddings: boolean;
  /** What a text begins with, if the model has such a token. */
  readonly bosToken?: number;
  /** Tokens that end a text. */
  readonly eosTokens: readonly number[];
}

/** Bounds of what a file may claim, a few times what the largest models have. */
export const CONFIG_BOUNDS: Readonly<
  Record<
    | "hiddenSize"
    | "intermediateSize"
    | "numLayers"
    | "numHeads"
    | "headDim"
    | "vocabSize"
    | "trainedLength"
    | "ropeTheta"
    | "eosTokens",
    number
  >
> = {
  hiddenSize: 2 ** 17,
  intermediateSize: 2 ** 19,
  numLayers: 1024,
  numHeads: 1024,
  headDim: 1024,
  vocabSize: 2 ** 22,
  trainedLength: 2 ** 30,
  ropeTheta: 1e12,
  eosTokens: 256,
};

/** The RMSNorm epsilon of Hugging Face's Llama where config.json has none. */
const DEFAULT_EPSILON = 1e-6;
const DEFAULT_ROPE_THETA = 10000;

/**
 * The shape in a parsed `config.json`.
 *
 * @param json The parsed file.
 * @param name The file's name, for messages.
 * @param generationJson The parsed `generation_config.json`, if there is one: its tokens go before
 * those of config.json, as in Hugging Face's library.
 * @throws {ModelFormatError} If a field is missing, of a wrong type or out of bounds, or if the
 * model is of a kind that is not supported.
 *
 * @example Usage
 * ```ts
 * import { parseHfConfig } from "./config.ts";
 * import { equal } from "node:assert/strict";
 *
 * const config = parseHfConfig({
 *   model_type: "llama",
 *   hidden_size: 256,
 *   intermediate_size: 512,
 *   num_hidden_layers: 4,
 *   num_attention_heads: 4,
 *   vocab_size: 1024,
 *   max_position_embeddings: 512,
 * }, "config.json");
 * equal(config.headDim, 64);
 * ```
 */
export function parseHfConfig(
  json: unknown,
  name: string,
  generationJson: unknown = null,
): LlamaConfig {
  const fail = failIn(name);
  const fields = asObject(json) ?? fail(`it must be an object, got ${show(json)}`);
  checkHfKind(fields, fail);
  const read = new Fields((key) => fields[key], fail);

  const rope = asObject(fields["rope_parameters"] ?? null);
  const shape = {
    hiddenSize: read.count("hidden_size", CONFIG_BOUNDS.hiddenSize),
    intermediateSize: read.count("intermediate_size", CONFIG_BOUNDS.intermediateSize),
    numLayers: read.count("num_hidden_layers", CONFIG_BOUNDS.numLayers),
    numHeads: read.count("num_attention_heads", CONFIG_BOUNDS.numHeads),
    vocabSize: read.count("vocab_size", CONFIG_BOUNDS.vocabSize),
    trainedLength: read.count("max_position_embeddings", CONFIG_BOUNDS.trainedLength),
    rmsNormEpsilon: read.epsilon("rms_norm_eps", DEFAULT_EPSILON),
    ropeTheta: rope?.["rope_theta"] == null
      ? read.theta("rope_theta")
      : new Fields((key) => rope[key], fail).theta("rope_theta"),
    tiedEmbeddings: read.boolean("tie_word_embeddings", false),
  };
  const numKvHeads = read.count("num_key_value_heads", CONFIG_BOUNDS.numHeads, shape.numHeads);
  const headDim = read.count(
    "head_dim",
    CONFIG_BOUNDS.headDim,
    shape.hiddenSize / shape.numHeads,
  );

  const generation = asObject(generationJson) ?? {};
  const token = (key: string) =>
    readTokens(generation[key] ?? fields[key], key, shape.vocabSize, fail);
  const [bosToken] = token("bos_token_id");
  return checkHeads({
    ...shape,
    numKvHeads,
    headDim,
    ...(bosToken === undefined ? {} : { bosToken }),
    eosTokens: token("eos_token_id"),
  }, fail);
}

/** Refuses what is not a plain Llama. */
function checkHfKind(fields: Readonly<Record<string, unknown>>, fail: Fail): void {
  const { architectures, model_type: modelType } = fields;
  const names = Array.isArray(architectures) ? architectures : [];
  const isLlama = (names.length > 0 || modelType != null) &&
    (names.length === 0 || names.includes("LlamaForCausalLM")) &&
    (modelType == null || modelType === "llama");
  if (!isLlama) {
    fail(
      `the architecture must be LlamaForCausalLM (model_type "llama"), got ` +
        `${show(architectures)} (model_type ${show(modelType)})`,
    );
  }
  for (const bias of ["attention_bias", "mlp_bias"]) {
    if (fields[bias] != null && fields[bias] !== false) {
      fail(`"${bias}" must be false: biases are not supported, got ${show(fields[bias])}`);
    }
  }
  const activation = fields["hidden_act"] ?? "silu";
  if (activation !== "silu") {
    fail(`"hidden_act" must be "silu", got ${show(activation)}`);
  }
  for (const key of ["rope_scaling", "rope_parameters"]) {
    const scaling = fields[key] ?? null;
    const type = asObject(scaling)?.["rope_type"] ?? asObject(scaling)?.["type"];
    const isPlain = scaling === null || type === "default" ||
      (key === "rope_parameters" && asObject(scaling) !== null && type === undefined);
    if (!isPlain) {
      fail(
        `"${key}" must be null: scaled rotary positions are not supported, got ${
          show(type ?? scaling)
        }`,
      );
    }
  }
  const rotary = fields["partial_rotary_factor"] ?? 1;
  if (rotary !== 1) {
    fail(`"partial_rotary_factor" must be 1: all of a head is rotated, got ${show(rotary)}`);
  }
  const quantization = fields["quantization_config"] ?? null;
  if (quantization !== null) {
    const method = asObject(quantization)?.["quant_method"];
    fail(`"quantization_config" must be null: not supported, got ${show(method ?? quantization)}`);
  }
}

/** GGUF's way to say that there is no such token. */
const NO_TOKEN = 0xffffffff;

/**
 * The shape in a GGUF file's metadata.
 *
 * @param table The file's header.
 * @throws {ModelFormatError} As {@linkcode parseHfConfig}.
 */
export function parseGgufConfig(table: TensorTable): LlamaConfig {
  const { metadata, tensors, name } = table;
  const fail = failIn(name);
  checkGgufKind(table, fail);
  const read = new Fields((key) => metadata.get(key), fail);

  const tokens = metadata.get("tokenizer.ggml.tokens");
  const vocabSize = read.count(
    "llama.vocab_size",
    CONFIG_BOUNDS.vocabSize,
    // Older files leave it to the table's rows, or to the vocabulary.
    tensors.get("token_embd.weight")?.shape[0] ?? (tokens as ArrayLike<unknown>)?.length,
  );
  const hiddenSize = read.count("llama.embedding_length", CONFIG_BOUNDS.hiddenSize);
  const numHeads = read.count("llama.attention.head_count", CONFIG_BOUNDS.numHeads);
  const headDim = read.count(
    "llama.attention.key_length",
    CONFIG_BOUNDS.headDim,
    hiddenSize / numHeads,
  );
  for (const key of ["llama.attention.value_length", "llama.rope.dimension_count"]) {
    const found = metadata.get(key) ?? headDim;
    if (found !== headDim) {
      fail(`"${key}" must be ${headDim}, the size of a head, got ${show(found)}`);
    }
  }
  const token = (key: string) => {
    const found = metadata.get(key);
    return readTokens(found === NO_TOKEN ? undefined : found, key, vocabSize, fail);
  };
  const [bosToken] = token("tokenizer.ggml.bos_token_id");
  return checkHeads({
    hiddenSize,
    intermediateSize: read.count("llama.feed_forward_length", CONFIG_BOUNDS.intermediateSize),
    numLayers: read.count("llama.block_count", CONFIG_BOUNDS.numLayers),
    numHeads,
    numKvHeads: read.count("llama.attention.head_count_kv", CONFIG_BOUNDS.numHeads, numHeads),
    headDim,
    vocabSize,
    rmsNormEpsilon: read.epsilon("llama.attention.layer_norm_rms_epsilon"),
    ropeTheta: read.theta("llama.rope.freq_base"),
    trainedLength: read.count("llama.context_length", CONFIG_BOUNDS.trainedLength),
    tiedEmbeddings: !tensors.has("output.weight"),
    ...(bosToken === undefined ? {} : { bosToken }),
    eosTokens: token("tokenizer.ggml.eos_token_id"),
  }, fail);
}

function checkGgufKind({ metadata, tensors }: TensorTable, fail: Fail): void {
  const architecture = metadata.get("general.architecture");
  if (architecture !== "llama") {
    fail(`"general.architecture" must be "llama", got ${show(architecture)}`);
  }
  const plain: [key: string, value: MetadataValue, what: string][] = [
    ["llama.rope.scaling.type", "none", "scaled rotary positions are not supported"],
    ["llama.rope.scale_linear", 1, "scaled rotary positions are not supported"],
    ["llama.expert_count", 0, "mixtures of experts are not supported"],
    ["split.count", 1, "a model split over several files is not supported"],
  ];
  for (const [key, value, what] of plain) {
    const found = metadata.get(key) ?? value;
    if (found !== value && !(key === "split.count" && found === 0)) {
      fail(`"${key}" must be ${show(value)}: ${what}, got ${show(found)}`);
    }
  }
  // Llama 3.1's scaling is a tensor of factors, with no word in the metadata.
  if (tensors.has("rope_freqs.weight")) {
    fail(`tensor "rope_freqs.weight" must be absent: scaled rotary positions are not supported`);
  }
}

type Fail = (message: string) => never;

function failIn(name: string): Fail {
  return (message) => {
    throw new ModelFormatError(`Cannot use the model's configuration: ${message}`, name, 0);
  };
}

/** Fields of a configuration, each checked as it is read. Null counts as missing. */
class Fields {
  readonly #get: (key: string) => unknown;
  readonly #fail: Fail;

  constructor(get: (key: string) => unknown, fail: Fail) {
    this.#get = get;
    this.#fail = fail;
  }

  #number(
    key: string,
    fallback: number | undefined,
    what: string,
    holds: (n: number) => boolean,
  ): number {
    const value = this.#get(key) ?? fallback;
    return typeof value === "number" && holds(value)
      ? value
      : this.#fail(`"${key}" must be ${what}, got ${show(value)}`);
  }

  /** An integer from 1 to `most`. */
  count(key: string, most: number, fallback?: number): number {
    return this.#number(
      key,
      fallback,
      `an integer from 1 to ${most}`,
      (n) => Number.isInteger(n) && n >= 1 && n <= most,
    );
  }

  epsilon(key: string, fallback?: number): number {
    return this.#number(key, fallback, "above 0 and below 1", (n) => n > 0 && n < 1);
  }

  theta(key: string): number {
    return this.#number(
      key,
      DEFAULT_ROPE_THETA,
      `from 1 to ${CONFIG_BOUNDS.ropeTheta}`,
      (n) => n >= 1 && n <= CONFIG_BOUNDS.ropeTheta,
    );
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.#get(key) ?? fallback;
    return typeof value === "boolean"
      ? value
      : this.#fail(`"${key}" must be true or false, got ${show(value)}`);
  }
}

/** Nothing, a token or a list of tokens. */
function readTokens(value: unknown, key: string, vocabSize: number, fail: Fail): number[] {
  const tokens: unknown[] = Array.isArray(value) ? value : value == null ? [] : [value];
  if (tokens.length > CONFIG_BOUNDS.eosTokens) {
    fail(`"${key}" must have at most ${CONFIG_BOUNDS.eosTokens} tokens, got ${tokens.length}`);
  }
  for (const token of tokens) {
    if (!Number.isInteger(token) || (token as number) < 0 || (token as number) >= vocabSize) {
      fail(`"${key}" must be below the vocabulary's ${vocabSize} tokens, got ${show(token)}`);
    }
  }
  return tokens as number[];
}

function checkHeads(config: LlamaConfig, fail: Fail): LlamaConfig {
  const { numHeads, numKvHeads, headDim } = config;
  if (numHeads % numKvHeads !== 0) {
    fail(`the KV heads must divide the ${numHeads} query heads, got ${numKvHeads}`);
  }
  if (headDim % 2 !== 0) fail(`the size of a head must be even, got ${headDim}`);
  return config;
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "bigint") return String(value);
  if (ArrayBuffer.isView(value)) return `an array of ${(value as Uint8Array).length} numbers`;
  return shorten(JSON.stringify(value) ?? String(value));
}
