/**
 * Writes a model of a real shape with random weights, so that whole models can be timed without a
 * download: for llama.cpp and others as GGUF, for us as that or as safetensors.
 *
 *     deno run -A bench/synthetic_model.ts Llama-3.2-1B q8_0 .tools/models
 *     bun bench/synthetic_model.ts Llama-3.2-1B f16 .tools/models --safetensors
 *
 * The last norm's gain is zero unless it is told otherwise: then every logit is zero, the likeliest
 * token is the first one, "!", and no end token cuts a run short. What is computed is no less.
 *
 * The vocabulary is the real one where `../shared/tokenizers` is beside the repository.
 */
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type MatrixName, matrixSize, type Shape, type ShapeName, SHAPES } from "./shapes.ts";
import { FileWriter } from "./support/file_writer.ts";
import {
  FILE_TYPES,
  sizeOf,
  type TensorPlan,
  type Value,
  writeGguf,
} from "./support/gguf_writer.ts";
import { fillFromPool, poolOf } from "./support/numbers.ts";
import { BLOCKS, encode, type Format } from "./support/quantize.ts";
import { inventVocabulary, readVocabulary, type Vocabulary } from "./support/vocabulary.ts";

/** What to write. */
export interface SyntheticModel {
  readonly shape: ShapeName;
  /** Of the matrices; quantized ones only in GGUF. */
  readonly format: Format;
  /** Matrices that are in other formats, as in files that llama.cpp calls Q4_K_M. */
  readonly mixed?: Mix;
  readonly container: "gguf" | "safetensors";
  /** Files that a GGUF is split into, as llama.cpp's gguf-split does. Default 1. */
  readonly splits?: number;
  /** A folder, in which the model gets one of its own. */
  readonly folder: string;
  /** Default 1. */
  readonly seed?: number;
  /** The gain of the last norm. Default 0. */
  readonly outputNorm?: number;
  /** Numbers of a tensor, row by row, by its name in the file. Default: random ones, and gains of 1. */
  readonly values?: (name: string) => Float32Array;
}

/** The formats of some kinds of matrices; `head` is the table of embeddings too, where they are one. */
export type Mix = Readonly<Partial<Record<MatrixName, Format>>>;

const EPSILON = 1e-5;

/** Where the tokenizers of shapes are, beside the repository or in it, and how GGUF calls them. */
const TOKENIZERS: Readonly<
  Partial<Record<ShapeName, readonly [folder: string, pre: string]>>
> = {
  "Llama-3.2-1B": ["../../shared/tokenizers/llama3/", "llama-bpe"],
  "Llama-3.1-8B": ["../../shared/tokenizers/llama3/", "llama-bpe"],
  "Qwen2-1.5B": ["../../shared/tokenizers/qwen2/", "qwen2"],
  pocket: ["../models/pocket/", "gpt-2"],
};

/**
 * Writes a model, unless it is there already.
 *
 * @returns The path that opens it: a folder in Hugging Face's layout, or a `.gguf`.
 */
export async function writeSyntheticModel(model: SyntheticModel): Promise<string> {
  const { shape: name, format, mixed = {}, container, outputNorm = 0, seed = 1, splits = 1 } =
    model;
  const quantized = [format, ...Object.values(mixed)].find((each) => BLOCKS[each].numbers > 1);
  if (quantized && container === "safetensors") {
    throw new TypeError(`Cannot write ${quantized} as safetensors: only GGUF has such blocks`);
  }
  const others = Object.entries(mixed).map(([matrix, other]) => `${matrix}_${other}`);
  const seeded = seed === 1 ? [] : [`seed${seed}`];
  const inFiles = splits === 1 ? [] : [`in${splits}`];
  const variant = [name, format, ...others, container, ...inFiles, ...seeded].join("-") +
    (outputNorm === 0 ? "" : `-norm${outputNorm}`);
  const folder = join(model.folder, variant);
  const splitName = (i: number) =>
    `model-${String(i + 1).padStart(5, "0")}-of-${String(splits).padStart(5, "0")}.gguf`;
  const ggufName = splits === 1 ? "model.gguf" : splitName(0);
  const path = join(folder, container === "gguf" ? ggufName : "model.safetensors");
  const opens = container === "gguf" ? path : folder;
  if (existsSync(path)) return opens;
  await mkdir(folder, { recursive: true });

  const shape: Shape = SHAPES[name];
  const vocabulary = vocabularyOf(name, shape);
  const json = (file: string, value: unknown) =>
    writeFile(join(folder, file), JSON.stringify(value, null, 1));
  for (const [file, value] of Object.entries(vocabulary.files)) {
    await json(file, value);
  }
  const tensors = plan(shape, container, { ...model, mixed, seed, outputNorm });
  if (container === "gguf") {
    const metadata = ggufMetadata(variant, shape, format, vocabulary);
    // The first last, because it says that all are there.
    for (let i = splits - 1; i >= 0; i--) {
      const own = tensors.slice(tensors.length * i / splits, tensors.length * (i + 1) / splits);
      const all = {
        ...i === 0 ? metadata : {},
        ...splits === 1 ? {} : {
          "split.no": { u16: i },
          "split.count": { u16: splits },
          "split.tensors.count": { i32: tensors.length },
        },
      };
      const file = splits === 1 ? path : join(folder, splitName(i));
      await FileWriter.write(file, (to) => writeGguf(to, all, own));
    }
  } else {
    await json("config.json", hfConfig(shape, vocabulary));
    await FileWriter.write(path, (file) => writeSafetensors(file, tensors));
  }
  return opens;
}

function vocabularyOf(name: ShapeName, shape: Shape): Vocabulary {
  const [place, pre] = TOKENIZERS[name] ?? [];
  if (place !== undefined) {
    const folder = fileURLToPath(new URL(place, import.meta.url));
    if (existsSync(join(folder, "tokenizer.json"))) {
      return readVocabulary(folder, pre!, shape.vocabSize);
    }
  }
  return inventVocabulary(shape.vocabSize);
}

const LAYER: readonly (readonly [MatrixName, hf: string, gguf: string])[] = [
  ["q", "self_attn.q_proj", "attn_q"],
  ["k", "self_attn.k_proj", "attn_k"],
  ["v", "self_attn.v_proj", "attn_v"],
  ["o", "self_attn.o_proj", "attn_output"],
  ["gate", "mlp.gate_proj", "ffn_gate"],
  ["up", "mlp.up_proj", "ffn_up"],
  ["down", "mlp.down_proj", "ffn_down"],
];

/** All tensors of a model. */
function plan(
  shape: Shape,
  container: SyntheticModel["container"],
  { format: usual, mixed, seed, outputNorm, values }:
    & Required<Pick<SyntheticModel, "format" | "mixed" | "seed" | "outputNorm">>
    & Pick<SyntheticModel, "values">,
): TensorPlan[] {
  const isGguf = container === "gguf";
  const tensors: TensorPlan[] = [];
  const given = (name: string, format: Format, shape: number[], numbers: Float32Array) => {
    const bytes = encode(format, numbers);
    tensors.push({
      name,
      format,
      shape,
      fill: (target, offset) => target.set(bytes.subarray(offset, offset + target.length)),
    });
  };
  const matrix = (name: string, kind: MatrixName) => {
    const { rows, cols } = matrixSize(shape, kind);
    const format = mixed[kind] ?? usual;
    if (values) return given(name, format, [rows, cols], values(name));
    // Sums of `cols` products keep the size of what goes in.
    const pool = poolOf(format, -Math.round(Math.log2(cols) / 2), seed);
    // Each tensor begins elsewhere in the pool, at a whole block.
    const start = tensors.length * 7919 * BLOCKS[format].bytes;
    tensors.push({
      name,
      format,
      shape: [rows, cols],
      fill: (target, offset) => fillFromPool(pool, target, start + offset),
    });
  };
  const norm = (name: string, gain: number) => {
    // llama.cpp wants norms in f32; Hugging Face's files have one type for all.
    const normFormat = isGguf ? "f32" : usual;
    const gains = values?.(name) ?? new Float32Array(shape.hiddenSize).fill(gain);
    given(name, normFormat, [shape.hiddenSize], gains);
  };
  matrix(isGguf ? "token_embd.weight" : "model.embed_tokens.weight", "head");
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const prefix = isGguf ? `blk.${layer}.` : `model.layers.${layer}.`;
    norm(`${prefix}${isGguf ? "attn_norm" : "input_layernorm"}.weight`, 1);
    for (const [name, hf, gguf] of LAYER) {
      matrix(`${prefix}${isGguf ? gguf : hf}.weight`, name);
    }
    norm(`${prefix}${isGguf ? "ffn_norm" : "post_attention_layernorm"}.weight`, 1);
  }
  norm(isGguf ? "output_norm.weight" : "model.norm.weight", outputNorm);
  if (!shape.tiedEmbeddings) {
    matrix(isGguf ? "output.weight" : "lm_head.weight", "head");
  }
  return tensors;
}

function ggufMetadata(
  name: string,
  shape: Shape,
  format: Format,
  { tokens, control, merges, bos, eos, pre }: Vocabulary,
): Readonly<Record<string, Value>> {
  return {
    "general.architecture": { string: "llama" },
    "general.name": { string: `random weights, ${name}` },
    "general.file_type": { u32: FILE_TYPES[format] },
    "general.quantization_version": { u32: 2 },
    "llama.vocab_size": { u32: shape.vocabSize },
    "llama.context_length": { u32: shape.trainedLength },
    "llama.embedding_length": { u32: shape.hiddenSize },
    "llama.block_count": { u32: shape.numLayers },
    "llama.feed_forward_length": { u32: shape.intermediateSize },
    "llama.attention.head_count": { u32: shape.numHeads },
    "llama.attention.head_count_kv": { u32: shape.numKvHeads },
    "llama.attention.key_length": { u32: shape.headDim },
    "llama.attention.value_length": { u32: shape.headDim },
    "llama.attention.layer_norm_rms_epsilon": { f32: EPSILON },
    "llama.rope.freq_base": { f32: shape.ropeTheta },
    "llama.rope.dimension_count": { u32: shape.headDim },
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

function hfConfig(shape: Shape, { bos, eos }: Vocabulary): Readonly<Record<string, unknown>> {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    num_hidden_layers: shape.numLayers,
    num_attention_heads: shape.numHeads,
    num_key_value_heads: shape.numKvHeads,
    head_dim: shape.headDim,
    vocab_size: shape.vocabSize,
    max_position_embeddings: shape.trainedLength,
    rope_theta: shape.ropeTheta,
    rms_norm_eps: EPSILON,
    tie_word_embeddings: shape.tiedEmbeddings,
    ...bos === null ? {} : { bos_token_id: bos },
    eos_token_id: eos,
  };
}

async function writeSafetensors(file: FileWriter, tensors: readonly TensorPlan[]): Promise<void> {
  let end = 0;
  const header = Object.fromEntries(tensors.map(({ name, format, shape }) => {
    const start = end;
    end += sizeOf(format, shape);
    return [name, { dtype: format.toUpperCase(), shape, data_offsets: [start, end] }];
  }));
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(text.length / 8) * 8;
  await file.bytes(new Uint8Array(new BigUint64Array([BigInt(length)]).buffer));
  await file.bytes(text);
  await file.generate(length - text.length, (target) => target.fill(0x20));
  for (const { format, shape, fill } of tensors) {
    await file.generate(sizeOf(format, shape), fill);
  }
}

if (import.meta.main) {
  const { positionals: [shape, format, folder], values } = parseArgs({
    allowPositionals: true,
    options: {
      safetensors: { type: "boolean", default: false },
      seed: { type: "string", default: "1" },
      "output-norm": { type: "string", default: "0" },
    },
  });
  if (!(shape! in SHAPES) || !(format! in BLOCKS) || folder === undefined) {
    throw new TypeError(
      `Cannot write a model: give a shape (${Object.keys(SHAPES).join(", ")}), a format (${
        Object.keys(BLOCKS).join(", ")
      }) and a folder, got ${process.argv.slice(2).join(" ") || "nothing"}`,
    );
  }
  console.log(
    await writeSyntheticModel({
      shape: shape as ShapeName,
      format: format as Format,
      container: values.safetensors ? "safetensors" : "gguf",
      folder,
      seed: Number(values.seed),
      outputNorm: Number(values["output-norm"]),
    }),
  );
}
