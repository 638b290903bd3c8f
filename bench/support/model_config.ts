/**
 * A shape as config.json, and as GGUF's metadata.
 *
 * @module
 */

import { ARCHITECTURES } from "../../src/llama/architectures.ts";
import type { RopeScaling } from "../../src/reattention/rope.ts";
import type { Shape } from "../shapes.ts";
import { FILE_TYPES, type Value } from "./gguf_writer.ts";
import type { Format } from "./quantize.ts";
import type { Vocabulary } from "./vocabulary.ts";

const EPSILON = 1e-5;

/** All of GGUF's metadata, the vocabulary's included. */
export function ggufMetadata(
  name: string,
  shape: Shape,
  format: Format,
  { tokens, control, merges, bos, eos, pre }: Vocabulary,
): Readonly<Record<string, Value>> {
  const { architecture = "llama" } = shape;
  // llama.cpp's converter writes Mistral as the Llama that it is.
  const prefix = architecture === "mistral" ? "llama" : architecture;
  const own: Readonly<Record<string, Value>> = {
    vocab_size: { u32: shape.vocabSize },
    context_length: { u32: shape.trainedLength },
    embedding_length: { u32: shape.hiddenSize },
    block_count: { u32: shape.numLayers },
    feed_forward_length: { u32: shape.intermediateSize },
    "attention.head_count": { u32: shape.numHeads },
    "attention.head_count_kv": { u32: shape.numKvHeads },
    "attention.key_length": { u32: shape.headDim },
    "attention.value_length": { u32: shape.headDim },
    "attention.layer_norm_rms_epsilon": { f32: EPSILON },
    "rope.freq_base": { f32: shape.ropeTheta },
    "rope.dimension_count": { u32: shape.headDim },
    ...shape.slidingWindow === undefined
      ? {}
      : { "attention.sliding_window": { u32: shape.slidingWindow } },
    ...ggufScaling(shape.ropeScaling),
  };
  return {
    "general.architecture": { string: prefix },
    "general.name": { string: `random weights, ${name}` },
    "general.file_type": { u32: FILE_TYPES[format] },
    "general.quantization_version": { u32: 2 },
    ...Object.fromEntries(Object.entries(own).map(([key, value]) => [`${prefix}.${key}`, value])),
    "tokenizer.ggml.model": { string: "gpt2" },
    "tokenizer.ggml.pre": { string: pre },
    "tokenizer.ggml.tokens": { strings: tokens },
    // 1 is text, 3 control.
    "tokenizer.ggml.token_type": {
      i32s: Int32Array.from(tokens, (_, i) => control.has(i) ? 3 : 1),
    },
    "tokenizer.ggml.merges": { strings: merges },
    ...bos === null ? {} : { "tokenizer.ggml.bos_token_id": { u32: bos } },
    "tokenizer.ggml.eos_token_id": { u32: eos },
    "tokenizer.ggml.add_bos_token": { bool: bos !== null },
  };
}

/** Llama 3's is a tensor, and GGUF has no word for dynamic NTK. */
function ggufScaling(scaling: RopeScaling | undefined): Readonly<Record<string, Value>> {
  if (scaling?.type !== "linear" && scaling?.type !== "yarn") return {};
  return {
    "rope.scaling.type": { string: scaling.type },
    "rope.scaling.factor": { f32: scaling.factor },
    ...scaling.type === "yarn"
      ? { "rope.scaling.original_context_length": { u32: scaling.originalLength } }
      : {},
  };
}

/** config.json. */
export function hfConfig(
  shape: Shape,
  { bos, eos }: Vocabulary,
): Readonly<Record<string, unknown>> {
  const { architecture = "llama", ropeScaling, slidingWindow } = shape;
  const { className, biasField } = ARCHITECTURES[architecture];
  return {
    architectures: [className],
    model_type: architecture,
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    num_hidden_layers: shape.numLayers,
    num_attention_heads: shape.numHeads,
    num_key_value_heads: shape.numKvHeads,
    head_dim: shape.headDim,
    vocab_size: shape.vocabSize,
    max_position_embeddings: shape.trainedLength,
    rope_theta: shape.ropeTheta,
    ...ropeScaling === undefined ? {} : { rope_scaling: hfScaling(ropeScaling) },
    ...slidingWindow === undefined ? {} : { sliding_window: slidingWindow },
    ...biasField === null ? {} : { [biasField]: shape.attentionBias ?? false },
    rms_norm_eps: EPSILON,
    tie_word_embeddings: shape.tiedEmbeddings,
    ...bos === null ? {} : { bos_token_id: bos },
    eos_token_id: eos,
  };
}

function hfScaling(scaling: RopeScaling): Readonly<Record<string, unknown>> {
  const { type } = scaling;
  switch (type) {
    case "factors":
      throw new TypeError("Cannot write config.json: factors of frequencies are GGUF's alone");
    case "linear":
    case "dynamic":
      return { rope_type: type, factor: scaling.factor };
    case "yarn":
      return {
        rope_type: type,
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalLength,
      };
    case "llama3":
      return {
        rope_type: type,
        factor: scaling.factor,
        low_freq_factor: scaling.lowFrequencyFactor,
        high_freq_factor: scaling.highFrequencyFactor,
        original_max_position_embeddings: scaling.originalLength,
      };
  }
}
