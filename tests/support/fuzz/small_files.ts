/**
 * The other small files of a model: safetensors, JSON, a session's header.
 *
 * @module
 */

import type { SessionHeader } from "../../../src/llama/session_header.ts";
import { HEAD_SIZE, HEADS, KV_HEADS, SIZE, VOCABULARY } from "./small_gguf.ts";

const HF_LAYER: readonly (readonly [name: string, shape: readonly number[]])[] = [
  ["input_layernorm", [SIZE]],
  ["self_attn.q_proj", [HEADS * HEAD_SIZE, SIZE]],
  ["self_attn.k_proj", [KV_HEADS * HEAD_SIZE, SIZE]],
  ["self_attn.v_proj", [KV_HEADS * HEAD_SIZE, SIZE]],
  ["self_attn.o_proj", [SIZE, SIZE]],
  ["post_attention_layernorm", [SIZE]],
  ["mlp.gate_proj", [SIZE, SIZE]],
  ["mlp.up_proj", [SIZE, SIZE]],
  ["mlp.down_proj", [SIZE, SIZE]],
];

/** A safetensors header, and the bytes after it. */
export function safetensorsHeader(
  tensors: readonly (readonly [name: string, shape: readonly number[]])[],
): { json: Record<string, unknown>; end: number } {
  let end = 0;
  const json: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, shape] of tensors) {
    const start = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    json[name] = { dtype: "F16", shape, data_offsets: [start, end] };
  }
  return { json, end };
}

/** Its tensors. */
export const HF_TENSORS: readonly (readonly [string, readonly number[]])[] = [
  ["model.embed_tokens.weight", [VOCABULARY, SIZE]],
  ["model.norm.weight", [SIZE]],
  ...HF_LAYER.map(([name, shape]) => [`model.layers.0.${name}.weight`, shape] as const),
];

/** Its config.json. */
export const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: SIZE,
  intermediate_size: SIZE,
  num_hidden_layers: 1,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  max_position_embeddings: 64,
  vocab_size: VOCABULARY,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 },
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: [2, 3],
};

/** A tokenizer.json. */
export const TOKENIZER = {
  added_tokens: [{ id: 0, content: "<s>", special: true, normalized: false, lstrip: true }],
  normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }] },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: " ?\\p{L}+" }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    ],
  },
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  },
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: { "<s>": 0, a: 1, b: 2, ab: 3, c: 4 }, merges: [["a", "b"]] },
};

/** A tokenizer_config.json. */
export const TOKENIZER_CONFIG = {
  bos_token: { content: "<s>" },
  eos_token: "c",
  add_bos_token: true,
  chat_template: [{ name: "default", template: "{{ messages[0].content }}" }],
};

/** A reattention.json. */
export const PROFILE = {
  scope: { globalSize: 4, localSize: 24, topK: 2, maxSpans: 2, spanSize: 4, votes: "count" },
  stepSize: 8,
  selectLayers: [0],
  forms: [{
    questions: ["What is {x}?"],
    completion: "{x} is",
    stopBefore: ["\n"],
    stopAfter: ["."],
  }],
};

/** The session header's seed, and the model that it is of. */
export const SESSION: SessionHeader = {
  model: {
    config: {
      architecture: "llama",
      hiddenSize: SIZE,
      intermediateSize: SIZE,
      numLayers: 1,
      numHeads: HEADS,
      numKvHeads: KV_HEADS,
      headDim: HEAD_SIZE,
      vocabSize: VOCABULARY,
      rmsNormEpsilon: 1e-5,
      ropeTheta: 10000,
      qkvBias: false,
      outputBias: false,
      qkNorm: false,
      trainedLength: 64,
      tiedEmbeddings: true,
      eosTokens: [2],
    },
    tokenizer: "0123456789abcdef",
    weights: "fedcba9876543210",
  },
  rules: {
    scope: {
      globalSize: 4,
      localSize: 24,
      topK: 2,
      maxSpans: 2,
      spanSize: 4,
      sharing: "layer",
      scores: "qk",
      selector: "exact",
      votes: "count",
      voteEvery: 1,
      positions: "scope",
    },
    stepSize: 8,
    select: "ask",
    selectLayers: [0],
    kvFormat: "i16",
    beyondTrainedLength: false,
    raw: false,
  },
  turns: [{ at: 3, of: "user" }],
  length: 40,
  textBytes: 100,
  numAnchors: 2,
  cache: {
    length: 36,
    layoutName: "planes 1",
    chunkSize: 16,
    channelBytes: 64,
    chunkBytes: 512,
    forgotten: [[1, 2]],
  },
};

/** What follows the session's header: tokens, anchors, channels, two of three chunks. */
export const SESSION_BYTES = 40 * 4 + 4 + 2 * 24 + 4 + 64 + 4 + 2 * (512 + 4);
