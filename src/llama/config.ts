/**
 * A Llama-type model's shape, from a config.json or from GGUF's metadata.
 *
 * What would be computed wrongly (another architecture, biases of the feed-forward layer, part of a
 * head rotated) is refused by name.
 *
 * @module
 */

import { asObject, show } from "../files/json.ts";
import type { MetadataValue, TensorTable } from "../files/tensor_table.ts";
import type { RopeScaling } from "../reattention/rope.ts";
import { type Architecture, ARCHITECTURES, isArchitecture } from "./architectures.ts";
import { type Fail, failIn, Fields } from "./config_fields.ts";
import { readGgufScaling, readHfScaling } from "./rope_scaling.ts";

/** The shape of a Llama-type decoder. */
export interface LlamaConfig {
  readonly architecture: Architecture;
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
  /** How those are scaled, if they are. */
  readonly ropeScaling?: RopeScaling;
  /** Whether q, k and v have biases. */
  readonly qkvBias: boolean;
  /** Whether the attention's output has a bias. */
  readonly outputBias: boolean;
  /** Whether each head of q and k has an RMSNorm before it is rotated. */
  readonly qkNorm: boolean;
  /**
   * The longest sequence of the training, as the file says it, in tokens; at most the sliding
   * window: no key further away was ever attended to.
   */
  readonly trainedLength: number;
  /**
   * Tokens that each token of the training attended to, itself included, if it was a window that
   * slid: {@linkcode slidingWindow} is that as a scope.
   */
  readonly slidingWindow?: number;
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
  vocabSize: 2 ** 20,
  trainedLength: 2 ** 30,
  ropeTheta: 1e12,
  eosTokens: 256,
};

/** The RMSNorm epsilon of Hugging Face's Llama where config.json has none. */
const DEFAULT_EPSILON = 1e-6;
const DEFAULT_ROPE_THETA = 10000;
/** The window of Hugging Face's Mistral and Qwen where config.json has none; null is another thing. */
const DEFAULT_WINDOW = 4096;

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
  const architecture = findHfArchitecture(fields, fail);
  checkHfKind(fields, architecture, fail);
  const read = new Fields((key) => fields[key], fail);

  const rope = asObject(fields["rope_parameters"] ?? null);
  const shape = {
    architecture,
    hiddenSize: read.count("hidden_size", CONFIG_BOUNDS.hiddenSize),
    intermediateSize: read.count("intermediate_size", CONFIG_BOUNDS.intermediateSize),
    numLayers: read.count("num_hidden_layers", CONFIG_BOUNDS.numLayers),
    numHeads: read.count("num_attention_heads", CONFIG_BOUNDS.numHeads),
    vocabSize: read.count("vocab_size", CONFIG_BOUNDS.vocabSize),
    rmsNormEpsilon: read.epsilon("rms_norm_eps", DEFAULT_EPSILON),
    ropeTheta: readTheta(
      rope?.["rope_theta"] == null ? read : new Fields((key) => rope[key], fail),
      "rope_theta",
    ),
    tiedEmbeddings: read.boolean("tie_word_embeddings", false),
  };
  const numKvHeads = read.count("num_key_value_heads", CONFIG_BOUNDS.numHeads, shape.numHeads);
  const headDim = read.count(
    "head_dim",
    CONFIG_BOUNDS.headDim,
    shape.hiddenSize / shape.numHeads,
  );
  const { biasField, qkvBias, qkNorm } = ARCHITECTURES[architecture];
  const outputBias = biasField !== null && read.boolean(biasField, false);
  const length = read.count("max_position_embeddings", CONFIG_BOUNDS.trainedLength);
  const ropeScaling = readHfScaling(fields, length, fail);

  const generation = asObject(generationJson) ?? {};
  const token = (key: string) =>
    readTokens(generation[key] ?? fields[key], key, shape.vocabSize, fail);
  const [bosToken] = token("bos_token_id");
  return checkHeads({
    ...shape,
    numKvHeads,
    headDim,
    ...(ropeScaling === undefined ? {} : { ropeScaling }),
    qkvBias: qkvBias || outputBias,
    outputBias,
    qkNorm,
    ...within(length, readHfWindow(fields, architecture, read, shape.numLayers, fail)),
    ...(bosToken === undefined ? {} : { bosToken }),
    eosTokens: token("eos_token_id"),
  }, fail);
}

function readTheta(read: Fields, key: string): number {
  return read.between(key, 1, CONFIG_BOUNDS.ropeTheta, DEFAULT_ROPE_THETA);
}

/** The sliding window of config.json; undefined where all layers attend to everything. */
function readHfWindow(
  fields: Readonly<Record<string, unknown>>,
  architecture: Architecture,
  read: Fields,
  numLayers: number,
  fail: Fail,
): number | undefined {
  const { slidingWindow } = ARCHITECTURES[architecture];
  const isUsed = slidingWindow === "field" ||
    slidingWindow === "ifUsed" && read.boolean("use_sliding_window", false);
  if (!isUsed || fields["sliding_window"] === null) return undefined;
  // Qwen's first layers may have none.
  const full = fields["max_window_layers"] ?? 0;
  if (slidingWindow === "ifUsed" && full !== 0) {
    if (typeof full === "number" && full >= numLayers) return undefined;
    fail(
      `"max_window_layers" must be 0, or all ${numLayers} layers: windows in some layers alone are ` +
        `not supported, got ${show(full)}`,
    );
  }
  return read.count("sliding_window", CONFIG_BOUNDS.trainedLength, DEFAULT_WINDOW);
}

/** A window that reaches as far as the training slides nowhere. */
function within(
  length: number,
  window: number | undefined,
): Pick<LlamaConfig, "trainedLength" | "slidingWindow"> {
  return window === undefined || window >= length
    ? { trainedLength: length }
    : { trainedLength: window, slidingWindow: window };
}

/** Refuses what no architecture here is. */
function findHfArchitecture(fields: Readonly<Record<string, unknown>>, fail: Fail): Architecture {
  const { architectures, model_type: modelType } = fields;
  const names = Array.isArray(architectures) ? architectures : [];
  const known = Object.keys(ARCHITECTURES).filter(isArchitecture);
  const found = known.find((name) =>
    (names.length > 0 || modelType != null) &&
    (names.length === 0 || names.includes(ARCHITECTURES[name].className)) &&
    (modelType == null || modelType === name)
  );
  return found ?? fail(
    `the architecture must be ${known.map((name) => ARCHITECTURES[name].className).join(", ")} ` +
      `(model_type ${known.map((name) => `"${name}"`).join(", ")}), got ` +
      `${show(architectures)} (model_type ${show(modelType)})`,
  );
}

/** Refuses what would be computed wrongly. */
function checkHfKind(
  fields: Readonly<Record<string, unknown>>,
  architecture: Architecture,
  fail: Fail,
): void {
  for (const bias of ["attention_bias", "mlp_bias"]) {
    if (bias === ARCHITECTURES[architecture].biasField) continue;
    if (fields[bias] != null && fields[bias] !== false) {
      fail(`"${bias}" must be false: such biases are not supported, got ${show(fields[bias])}`);
    }
  }
  const activation = fields["hidden_act"] ?? "silu";
  if (activation !== "silu") {
    fail(`"hidden_act" must be "silu", got ${show(activation)}`);
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
 * @param table The file's header. Llama 3's rope scaling is in a tensor, and not read here.
 * @throws {ModelFormatError} As {@linkcode parseHfConfig}.
 */
export function parseGgufConfig(table: TensorTable): LlamaConfig {
  const { metadata, tensors, name } = table;
  const fail = failIn(name);
  const architecture = checkGgufKind(table, fail);
  const prefix = `${architecture}.`;
  const { qkvBias, qkNorm } = ARCHITECTURES[architecture];
  const read = new Fields((key) => metadata.get(key), fail);

  const tokens = metadata.get("tokenizer.ggml.tokens");
  const vocabSize = read.count(
    `${prefix}vocab_size`,
    CONFIG_BOUNDS.vocabSize,
    // Older files leave it to the table's rows, or to the vocabulary.
    tensors.get("token_embd.weight")?.shape[0] ?? (tokens as ArrayLike<unknown>)?.length,
  );
  const numTokens = (tokens as ArrayLike<unknown> | undefined)?.length ?? 0;
  if (numTokens > vocabSize) {
    fail(
      `the vocabulary must have at most ${vocabSize} tokens, as the model has, got ${numTokens}`,
    );
  }
  const hiddenSize = read.count(`${prefix}embedding_length`, CONFIG_BOUNDS.hiddenSize);
  const numHeads = read.count(`${prefix}attention.head_count`, CONFIG_BOUNDS.numHeads);
  const headDim = read.count(
    `${prefix}attention.key_length`,
    CONFIG_BOUNDS.headDim,
    hiddenSize / numHeads,
  );
  for (const key of [`${prefix}attention.value_length`, `${prefix}rope.dimension_count`]) {
    const found = metadata.get(key) ?? headDim;
    if (found !== headDim) {
      fail(`"${key}" must be ${headDim}, the size of a head, got ${show(found)}`);
    }
  }
  const length = read.count(`${prefix}context_length`, CONFIG_BOUNDS.trainedLength);
  const windowKey = `${prefix}attention.sliding_window`;
  // Some writers say 0 for none.
  const window = read.has(windowKey) && metadata.get(windowKey) !== 0
    ? read.count(windowKey, CONFIG_BOUNDS.trainedLength)
    : undefined;
  const ropeScaling = readGgufScaling(table, prefix, length, fail);
  const token = (key: string) => {
    const found = metadata.get(key);
    return readTokens(found === NO_TOKEN ? undefined : found, key, vocabSize, fail);
  };
  const [bosToken] = token("tokenizer.ggml.bos_token_id");
  return checkHeads({
    architecture,
    hiddenSize,
    intermediateSize: read.count(`${prefix}feed_forward_length`, CONFIG_BOUNDS.intermediateSize),
    numLayers: read.count(`${prefix}block_count`, CONFIG_BOUNDS.numLayers),
    numHeads,
    numKvHeads: read.count(`${prefix}attention.head_count_kv`, CONFIG_BOUNDS.numHeads, numHeads),
    headDim,
    vocabSize,
    rmsNormEpsilon: read.epsilon(`${prefix}attention.layer_norm_rms_epsilon`),
    ropeTheta: readTheta(read, `${prefix}rope.freq_base`),
    ...(ropeScaling === undefined ? {} : { ropeScaling }),
    // The metadata has no word on biases; which of them there are, the tensors of a layer say.
    qkvBias: qkvBias || tensors.has("blk.0.attn_q.bias"),
    outputBias: tensors.has("blk.0.attn_output.bias"),
    qkNorm,
    ...within(length, window),
    tiedEmbeddings: !tensors.has("output.weight"),
    ...(bosToken === undefined ? {} : { bosToken }),
    eosTokens: token("tokenizer.ggml.eos_token_id"),
  }, fail);
}

/** Refuses what would be computed wrongly. */
function checkGgufKind({ metadata }: TensorTable, fail: Fail): Architecture {
  const architecture = metadata.get("general.architecture");
  if (!isArchitecture(architecture)) {
    const known = Object.keys(ARCHITECTURES).map((name) => `"${name}"`).join(", ");
    return fail(`"general.architecture" must be one of ${known}, got ${show(architecture)}`);
  }
  const plain: [key: string, value: MetadataValue, what: string][] = [
    [`${architecture}.expert_count`, 0, "mixtures of experts are not supported"],
    ["split.count", 1, "a model split over several files is not supported"],
  ];
  for (const [key, value, what] of plain) {
    const found = metadata.get(key) ?? value;
    if (found !== value && !(key === "split.count" && found === 0)) {
      fail(`"${key}" must be ${show(value)}: ${what}, got ${show(found)}`);
    }
  }
  return architecture;
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
  const { numHeads, numKvHeads, headDim, qkNorm } = config;
  if (numHeads % numKvHeads !== 0) {
    fail(`the KV heads must divide the ${numHeads} query heads, got ${numKvHeads}`);
  }
  if (headDim % 2 !== 0) fail(`the size of a head must be even, got ${headDim}`);
  if (qkNorm && headDim % 4 !== 0) {
    fail(`the size of a head with a norm must be a multiple of 4, got ${headDim}`);
  }
  return config;
}
