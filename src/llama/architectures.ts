/**
 * The decoders that are known, as data: what sets each apart from Llama, and what its tensors are
 * called. All else is the same, so that one `forward` serves them.
 *
 * @module
 */

import type { TensorTable } from "../files/tensor_table.ts";

/** As config.json's `model_type` and GGUF's `general.architecture` call them. */
export type Architecture = "llama" | "mistral" | "qwen2" | "qwen3" | "internlm2";

/** The tensors of a layer. Matrices are [output features, input features]. */
export type LayerPart =
  | "inputNorm"
  | "qProj"
  | "kProj"
  | "vProj"
  | "oProj"
  | "qBias"
  | "kBias"
  | "vBias"
  | "oBias"
  | "qNorm"
  | "kNorm"
  | "postAttentionNorm"
  | "gateProj"
  | "upProj"
  | "downProj";

/** What tensors are called in a file. */
export interface TensorNames {
  readonly embedTokens: string;
  readonly norm: string;
  readonly lmHead: string;
  /** What a layer's tensors begin with, up to its number. */
  readonly layers: string;
  readonly layer: Readonly<Record<LayerPart, string>>;
}

/** What sets an architecture apart. */
export interface Traits {
  /** The class that config.json names. */
  readonly className: string;
  /** The field of config.json that gives q, k, v and o biases; null where none does. */
  readonly biasField: "attention_bias" | "bias" | null;
  /** Whether q, k and v have biases whatever fields say, and o none. */
  readonly qkvBias: boolean;
  /** Whether each head of q and k has a norm of its own before it is rotated. */
  readonly qkNorm: boolean;
  /** Whether config.json's `sliding_window` counts: as it stands, or if `use_sliding_window`. */
  readonly slidingWindow: "field" | "ifUsed" | "none";
  /**
   * Whether GGUF has the rows of q and k in the order of interleaved rotation, two rows of a pair
   * next to each other: llama.cpp's rotation differs by architecture.
   */
  readonly ggufInterleaves: boolean;
  /** In safetensors. */
  readonly names: TensorNames;
  /** Whether q, k and v are one tensor in safetensors: for each KV head its queries, key, value. */
  readonly fusedQkv: boolean;
}

const HF_NAMES: TensorNames = {
  embedTokens: "model.embed_tokens.weight",
  norm: "model.norm.weight",
  lmHead: "lm_head.weight",
  layers: "model.layers.",
  layer: {
    inputNorm: "input_layernorm.weight",
    qProj: "self_attn.q_proj.weight",
    kProj: "self_attn.k_proj.weight",
    vProj: "self_attn.v_proj.weight",
    oProj: "self_attn.o_proj.weight",
    qBias: "self_attn.q_proj.bias",
    kBias: "self_attn.k_proj.bias",
    vBias: "self_attn.v_proj.bias",
    oBias: "self_attn.o_proj.bias",
    qNorm: "self_attn.q_norm.weight",
    kNorm: "self_attn.k_norm.weight",
    postAttentionNorm: "post_attention_layernorm.weight",
    gateProj: "mlp.gate_proj.weight",
    upProj: "mlp.up_proj.weight",
    downProj: "mlp.down_proj.weight",
  },
};

const INTERNLM2_NAMES: TensorNames = {
  embedTokens: "model.tok_embeddings.weight",
  norm: "model.norm.weight",
  lmHead: "output.weight",
  layers: "model.layers.",
  layer: {
    ...HF_NAMES.layer,
    inputNorm: "attention_norm.weight",
    qProj: "attention.wqkv.weight",
    kProj: "attention.wqkv.weight",
    vProj: "attention.wqkv.weight",
    oProj: "attention.wo.weight",
    qBias: "attention.wqkv.bias",
    kBias: "attention.wqkv.bias",
    vBias: "attention.wqkv.bias",
    oBias: "attention.wo.bias",
    postAttentionNorm: "ffn_norm.weight",
    gateProj: "feed_forward.w1.weight",
    upProj: "feed_forward.w3.weight",
    downProj: "feed_forward.w2.weight",
  },
};

/** In GGUF all architectures have the same. */
const GGUF_NAMES: TensorNames = {
  embedTokens: "token_embd.weight",
  norm: "output_norm.weight",
  lmHead: "output.weight",
  layers: "blk.",
  layer: {
    inputNorm: "attn_norm.weight",
    qProj: "attn_q.weight",
    kProj: "attn_k.weight",
    vProj: "attn_v.weight",
    oProj: "attn_output.weight",
    qBias: "attn_q.bias",
    kBias: "attn_k.bias",
    vBias: "attn_v.bias",
    oBias: "attn_output.bias",
    qNorm: "attn_q_norm.weight",
    kNorm: "attn_k_norm.weight",
    postAttentionNorm: "ffn_norm.weight",
    gateProj: "ffn_gate.weight",
    upProj: "ffn_up.weight",
    downProj: "ffn_down.weight",
  },
};

const LLAMA: Traits = {
  className: "LlamaForCausalLM",
  biasField: "attention_bias",
  qkvBias: false,
  qkNorm: false,
  slidingWindow: "none",
  ggufInterleaves: true,
  names: HF_NAMES,
  fusedQkv: false,
};

const QWEN: Traits = { ...LLAMA, slidingWindow: "ifUsed", ggufInterleaves: false };

/** By architecture. Mistral's GGUF files say "llama"; their tensors are the same. */
export const ARCHITECTURES: Readonly<Record<Architecture, Traits>> = {
  llama: LLAMA,
  mistral: {
    ...LLAMA,
    className: "MistralForCausalLM",
    biasField: null,
    slidingWindow: "field",
  },
  qwen2: { ...QWEN, className: "Qwen2ForCausalLM", biasField: null, qkvBias: true },
  qwen3: { ...QWEN, className: "Qwen3ForCausalLM", qkNorm: true },
  internlm2: {
    ...LLAMA,
    className: "InternLM2ForCausalLM",
    biasField: "bias",
    names: INTERNLM2_NAMES,
    fusedQkv: true,
  },
};

/** What an architecture's tensors are called in a file of a format. */
export function tensorNames(
  architecture: Architecture,
  format: TensorTable["format"],
): TensorNames {
  return format === "gguf" ? GGUF_NAMES : ARCHITECTURES[architecture].names;
}

/** Whether a name from a file is an architecture's. */
export function isArchitecture(name: unknown): name is Architecture {
  return typeof name === "string" && Object.hasOwn(ARCHITECTURES, name);
}
