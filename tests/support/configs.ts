/**
 * Configurations that are right, to be changed.
 *
 * @module
 */

import type { MetadataValue, TensorInfo, TensorTable } from "../../src/files/tensor_table.ts";
import { fromBytes } from "../../src/files/byte_source.ts";

/** A Llama's config.json. */
export const HF = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 1024,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 200000.0,
  bos_token_id: 1022,
  eos_token_id: 1023,
};

/** A Llama's metadata in GGUF. */
export const GGUF: Record<string, MetadataValue> = {
  "general.architecture": "llama",
  "llama.context_length": 2048,
  "llama.embedding_length": 64,
  "llama.feed_forward_length": 172,
  "llama.attention.head_count": 8,
  "llama.attention.head_count_kv": 4,
  "llama.block_count": 5,
  "llama.rope.dimension_count": 8,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "tokenizer.ggml.bos_token_id": 1,
  "tokenizer.ggml.eos_token_id": 2,
  "tokenizer.ggml.padding_token_id": 4294967295,
};

/** A GGUF without bytes: metadata beside {@linkcode GGUF}, and tensors beside the embeddings. */
export function ggufTable(
  fields: Record<string, MetadataValue | undefined>,
  tensors: string[] = [],
): TensorTable {
  const source = fromBytes(new Uint8Array(), "x.gguf");
  const info = (name: string): TensorInfo => ({
    name,
    dtype: "F32",
    shape: [512, 64],
    source,
    byteOffset: 0,
    byteLength: 0,
  });
  const pairs = Object.entries({ ...GGUF, ...fields }).filter(([, value]) => value !== undefined);
  return {
    name: "x.gguf",
    format: "gguf",
    tensors: new Map(["token_embd.weight", ...tensors].map((name) => [name, info(name)])),
    metadata: new Map(pairs as [string, MetadataValue][]),
  };
}
