/**
 * What small GGUF files are made of: a model of one layer, tokenizers, all types of metadata.
 *
 * @module
 */

import { GGUF, type GgufParts, ggufValue as value } from "../model_bytes.ts";
import { ALIGNMENT } from "./seed.ts";

const { array, bool, f32, string, u32, u64, u8, i32 } = GGUF;

/** A pair of GGUF's metadata. */
export type Pair = NonNullable<GgufParts["pairs"]>[number];

/** An array of strings. */
export const texts = (list: readonly string[]): Uint8Array =>
  value.array(string, list.length, list.flatMap((text) => [...value.string(text)]));
/** An array of numbers. */
export const numbers = (type: number, list: readonly number[]): Uint8Array =>
  value.array(
    type,
    list.length,
    list.flatMap((x) => [...type === f32 ? value.f32(x) : value.u32(x)]),
  );

/** A model of one layer that loads. Its matrices are of 32 columns, so that blocks fit. */
export const SIZE = 32;
export const VOCABULARY = 8;
export const HEADS = 4;
export const KV_HEADS = 2;
export const HEAD_SIZE = 8;

const LAYER: readonly (readonly [name: string, rows: number | null])[] = [
  ["attn_norm", null],
  ["attn_q", HEADS * HEAD_SIZE],
  ["attn_k", KV_HEADS * HEAD_SIZE],
  ["attn_v", KV_HEADS * HEAD_SIZE],
  ["attn_output", SIZE],
  ["ffn_norm", null],
  ["ffn_gate", SIZE],
  ["ffn_up", SIZE],
  ["ffn_down", SIZE],
];

interface Tensor {
  readonly name: string;
  /** Innermost first. */
  readonly dimensions: readonly number[];
  readonly type: number;
}

/** All of them, matrices in Q8_0. */
export function layerTensors(biases: boolean): Tensor[] {
  const matrix = (name: string, rows: number) => ({ name, dimensions: [SIZE, rows], type: 8 });
  const vector = (name: string, size: number) => ({ name, dimensions: [size], type: 0 });
  return [
    matrix("token_embd.weight", VOCABULARY),
    vector("output_norm.weight", SIZE),
    ...LAYER.map(([name, rows]) =>
      rows === null ? vector(`blk.0.${name}.weight`, SIZE) : matrix(`blk.0.${name}.weight`, rows)
    ),
    ...biases
      ? (["q", "k", "v"] as const).map((part) =>
        vector(`blk.0.attn_${part}.bias`, (part === "q" ? HEADS : KV_HEADS) * HEAD_SIZE)
      )
      : [],
  ];
}

/** Tensors one after the other, and where the last of them ends. */
export function placed(
  tensors: readonly Tensor[],
): { list: (Tensor & { offset: number })[]; end: number } {
  let end = 0;
  const list = tensors.map((tensor) => {
    const offset = end;
    const count = tensor.dimensions.reduce((product, size) => product * size, 1);
    end += tensor.type === 8 ? count / 32 * 34 : count * (tensor.type === 1 ? 2 : 4);
    end = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    return { ...tensor, offset };
  });
  return { list, end };
}

/** What says how large it is. */
export function shapePairs(architecture: string): Pair[] {
  const key = (name: string) => `${architecture}.${name}`;
  return [
    ["general.architecture", string, value.string(architecture)],
    ["general.alignment", u32, value.u32(ALIGNMENT)],
    [key("vocab_size"), u32, value.u32(VOCABULARY)],
    [key("context_length"), u32, value.u32(64)],
    [key("embedding_length"), u32, value.u32(SIZE)],
    [key("block_count"), u32, value.u32(1)],
    [key("feed_forward_length"), u64, value.u64(SIZE)],
    [key("attention.head_count"), u32, value.u32(HEADS)],
    [key("attention.head_count_kv"), u32, value.u32(KV_HEADS)],
    [key("attention.layer_norm_rms_epsilon"), f32, value.f32(1e-5)],
    [key("rope.freq_base"), f32, value.f32(10000)],
  ];
}

const TOKENS = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "\u2581a", "ab"];

/** A tokenizer of SentencePiece's kind. */
export const SENTENCE_PIECE: Pair[] = [
  ["tokenizer.ggml.model", string, value.string("llama")],
  ["tokenizer.ggml.tokens", array, texts(TOKENS)],
  ["tokenizer.ggml.scores", array, numbers(f32, [0, 0, 0, -9, -9, -9, -1, -2])],
  ["tokenizer.ggml.token_type", array, numbers(i32, [2, 3, 3, 1, 1, 1, 1, 4])],
  ["tokenizer.ggml.bos_token_id", u32, value.u32(1)],
  ["tokenizer.ggml.eos_token_id", u32, value.u32(2)],
  ["tokenizer.ggml.add_bos_token", bool, [1]],
];

/** One of bytes, with a chat template. */
export const BYTE_LEVEL: Pair[] = [
  ["tokenizer.ggml.model", string, value.string("gpt2")],
  ["tokenizer.ggml.pre", string, value.string("qwen2")],
  ["tokenizer.ggml.tokens", array, texts(["a", "b", "ab", "\u0120", "\u0120a", "c", "d", "<end>"])],
  ["tokenizer.ggml.token_type", array, numbers(i32, [1, 1, 1, 1, 1, 1, 1, 3])],
  ["tokenizer.ggml.merges", array, texts(["a b", "\u0120 a"])],
  ["tokenizer.ggml.eos_token_id", u32, value.u32(7)],
  [
    "tokenizer.chat_template",
    string,
    value.string("{% for m in messages %}{{ m.content }}{% endfor %}"),
  ],
];

/** Every type of metadata, arrays of each, and arrays in arrays. */
export const ALL_TYPES: Pair[] = [
  ...[1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8].flatMap((size, type): Pair[] =>
    size === 0 ? [] : [
      [`one.${type}`, type, new Uint8Array(size).fill(1)],
      [`some.${type}`, array, value.array(type, 2, new Uint8Array(2 * size).fill(1))],
      [`none.${type}`, array, value.array(type, 0, [])],
    ]
  ),
  ["text", string, value.string("\u00e9\u{1f600}")],
  ["texts", array, texts(["a", "", "\u00e9"])],
  ["nested", array, value.array(array, 2, [...numbers(u32, [1, 2]), ...texts(["x"])])],
  ["deep", array, value.array(array, 1, value.array(array, 1, value.array(u8, 3, [1, 2, 3])))],
];
