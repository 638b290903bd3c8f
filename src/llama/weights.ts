/**
 * Tensors by their names in the file, as a decoder's weights on a backend.
 *
 * @module
 */

import type { Backend, Weight, WeightFormat, WeightSource } from "../backend/backend.ts";
import { ModelFormatError } from "../errors.ts";
import { shorten } from "../files/json.ts";
import type { TensorInfo, TensorTable } from "../files/tensor_table.ts";
import type { LlamaConfig } from "./config.ts";
import type { WeightWatch } from "./identity.ts";

/** The weights of one layer. Matrices are [output features, input features]. */
export interface LayerWeights {
  readonly inputNorm: Weight;
  readonly qProj: Weight;
  readonly kProj: Weight;
  readonly vProj: Weight;
  readonly oProj: Weight;
  readonly postAttentionNorm: Weight;
  readonly gateProj: Weight;
  readonly upProj: Weight;
  readonly downProj: Weight;
}

/** The weights of a model. */
export interface LlamaWeights {
  readonly embedTokens: Weight;
  readonly layers: readonly LayerWeights[];
  readonly norm: Weight;
  /** The same handle as `embedTokens` where the two are tied. */
  readonly lmHead: Weight;
}

/** What each weight is called in a file. */
interface Names {
  readonly embedTokens: string;
  readonly norm: string;
  readonly lmHead: string;
  /** What a layer's tensors begin with, up to its number. */
  readonly layers: string;
  readonly layer: Readonly<Record<keyof LayerWeights, string>>;
}

const NAMES: Readonly<Record<TensorTable["format"], Names>> = {
  safetensors: {
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
      postAttentionNorm: "post_attention_layernorm.weight",
      gateProj: "mlp.gate_proj.weight",
      upProj: "mlp.up_proj.weight",
      downProj: "mlp.down_proj.weight",
    },
  },
  gguf: {
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
      postAttentionNorm: "ffn_norm.weight",
      gateProj: "ffn_gate.weight",
      upProj: "ffn_up.weight",
      downProj: "ffn_down.weight",
    },
  },
};

/** The types whose numbers a backend takes as they are. */
const FORMATS: ReadonlyMap<string, WeightFormat> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["Q8_0", "q8_0"],
  ["Q4_0", "q4_0"],
]);

/** The parts of {@linkcode LlamaWeights}, each as some `T`. */
interface Parts<T> {
  readonly embedTokens: T;
  readonly layers: readonly Readonly<Record<keyof LayerWeights, T>>[];
  readonly norm: T;
  /** Null where it is `embedTokens`. */
  readonly lmHead: T | null;
}

/**
 * Finds a model's tensors and checks them against its configuration; reads nothing.
 *
 * GGUF keeps the rows of q and k in the order of interleaved rotation; the sources returned give
 * them in the half-split order that all backends know.
 *
 * @throws {ModelFormatError} If a tensor is missing, has another shape than the configuration says,
 * or a type that cannot be used; or if a layer has tensors that would be left out.
 */
export function findWeights(table: TensorTable, config: LlamaConfig): Parts<WeightSource> {
  const names = NAMES[table.format];
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, vocabSize } = config;
  const queryRows = numHeads * headDim;
  const keyRows = numKvHeads * headDim;
  const found = new Set<string>();
  const find = (name: string, ...shape: number[]): WeightSource => {
    const source = weightSource(table, name, shape);
    found.add(name);
    return source;
  };
  const findRotated = (name: string, rows: number): WeightSource => {
    const source = find(name, rows, hiddenSize);
    if (table.format !== "gguf") return source;
    return inHalfSplitOrder(source, table.tensors.get(name)!.byteLength / rows, headDim);
  };

  // With a tie, the file has either tensor or both; a tie of its own __metadata__ counts as well.
  const { embedTokens: embedName, lmHead: headName } = names;
  const hasEmbed = table.tensors.has(embedName);
  const hasHead = table.tensors.has(headName);
  const tied = config.tiedEmbeddings || (hasEmbed !== hasHead &&
    (table.metadata.get(embedName) === headName || table.metadata.get(headName) === embedName));
  const embedTokens = find(
    tied && !hasEmbed && hasHead ? headName : embedName,
    vocabSize,
    hiddenSize,
  );
  const lmHead = tied ? null : find(headName, vocabSize, hiddenSize);
  const norm = find(names.norm, hiddenSize);

  const layers = Array.from({ length: config.numLayers }, (_, i) => {
    const name = (part: keyof LayerWeights) => `${names.layers}${i}.${names.layer[part]}`;
    return {
      inputNorm: find(name("inputNorm"), hiddenSize),
      qProj: findRotated(name("qProj"), queryRows),
      kProj: findRotated(name("kProj"), keyRows),
      vProj: find(name("vProj"), keyRows, hiddenSize),
      oProj: find(name("oProj"), hiddenSize, queryRows),
      postAttentionNorm: find(name("postAttentionNorm"), hiddenSize),
      gateProj: find(name("gateProj"), intermediateSize, hiddenSize),
      upProj: find(name("upProj"), intermediateSize, hiddenSize),
      downProj: find(name("downProj"), hiddenSize, intermediateSize),
    };
  });
  checkNothingIsLeft(table, names.layers, found);
  return { embedTokens, layers, norm, lmHead };
}

/**
 * A bias, a second norm, a layer more than the configuration has: leaving them out would be another
 * model.
 */
function checkNothingIsLeft(table: TensorTable, layers: string, found: ReadonlySet<string>): void {
  for (const { name, source, byteOffset } of table.tensors.values()) {
    // Old files keep a table of frequencies, which follows from the configuration.
    if (name.startsWith(layers) && !found.has(name) && !name.endsWith("rotary_emb.inv_freq")) {
      throw new ModelFormatError(
        `Cannot load the weights: the configuration must have a use for tensor "${shorten(name)}"`,
        source.name,
        byteOffset,
      );
    }
  }
}

/** A tensor as a backend wants it, its shape and type checked. */
function weightSource(
  table: TensorTable,
  name: string,
  shape: readonly number[],
): WeightSource {
  const tensor = table.tensors.get(name);
  if (!tensor) {
    throw new ModelFormatError(
      `Cannot load the weights: tensor "${name}" [${shape}] must be there, but is missing among ` +
        `${table.tensors.size} tensors`,
      table.name,
      0,
    );
  }
  const fail = (message: string): never => {
    throw new ModelFormatError(
      `Cannot load the weights: ${message}`,
      tensor.source.name,
      tensor.byteOffset,
    );
  };
  if (tensor.shape.length !== shape.length || shape.some((size, i) => size !== tensor.shape[i])) {
    fail(`tensor "${name}" must have the shape [${shape}], got [${tensor.shape}]`);
  }
  const format = FORMATS.get(tensor.dtype) ??
    fail(`tensor "${name}" must be F32, F16, BF16, Q8_0 or Q4_0, got ${tensor.dtype}`);
  const [rows, cols] = shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape[1]!];
  return { name, format, rows, cols, read: (target, offset) => readTensor(tensor, target, offset) };
}

async function readTensor(tensor: TensorInfo, target: Uint8Array, offset: number): Promise<void> {
  if (!(offset >= 0 && offset + target.byteLength <= tensor.byteLength)) {
    throw new RangeError(
      `Cannot read bytes [${offset}, ${offset + target.byteLength}) of tensor "${tensor.name}": ` +
        `it has ${tensor.byteLength} bytes`,
    );
  }
  await tensor.source.read(target, tensor.byteOffset + offset);
}

/**
 * Rows of q or k as GGUF keeps them, in Hugging Face's order. In each head GGUF has the two rows of
 * a rotated pair next to each other (row 2 i + s), Hugging Face half a head apart (row s * headDim
 * / 2 + i). Rows move whole, so their format does not matter.
 */
function inHalfSplitOrder(source: WeightSource, rowBytes: number, headDim: number): WeightSource {
  const headBytes = headDim * rowBytes;
  // A head at a time: at most a few megabytes, and one read of the file instead of one per row.
  let head = -1;
  let bytes: Promise<Uint8Array> | null = null;
  const readHead = (wanted: number): Promise<Uint8Array> => {
    if (wanted !== head || bytes === null) {
      const next = new Uint8Array(headBytes);
      head = wanted;
      bytes = source.read(next, wanted * headBytes).then(() => next);
    }
    return bytes;
  };
  return {
    ...source,
    async read(target, byteOffset) {
      let filled = 0;
      while (filled < target.byteLength) {
        const offset = byteOffset + filled;
        const from = await readHead(Math.floor(offset / headBytes));
        const row = Math.floor(offset % headBytes / rowBytes);
        const inRow = offset % rowBytes;
        const stored = 2 * (row % (headDim / 2)) + Math.floor(row / (headDim / 2));
        const length = Math.min(rowBytes - inRow, target.byteLength - filled);
        const start = stored * rowBytes + inRow;
        target.set(from.subarray(start, start + length), filled);
        filled += length;
      }
    },
  };
}

/**
 * Loads a model's weights onto a backend. Everything is checked before the first byte is read; if a
 * read fails later, what was loaded is given back.
 *
 * @param watch Sees every weight pass.
 * @throws {ModelFormatError} As {@linkcode findWeights}.
 * @throws {OutOfMemoryError} If they do not fit.
 */
export async function loadWeights(
  backend: Backend,
  table: TensorTable,
  config: LlamaConfig,
  watch: WeightWatch | null = null,
): Promise<LlamaWeights> {
  const sources = findWeights(table, config);
  const loaded: Weight[] = [];
  const load = async (source: WeightSource): Promise<Weight> => {
    const watched = watch?.watch(source, table.tensors.get(source.name)!.byteLength);
    const weight = await backend.weight(watched ?? source);
    loaded.push(weight);
    return weight;
  };
  try {
    const embedTokens = await load(sources.embedTokens);
    const layers: LayerWeights[] = [];
    for (const layer of sources.layers) {
      layers.push({
        inputNorm: await load(layer.inputNorm),
        qProj: await load(layer.qProj),
        kProj: await load(layer.kProj),
        vProj: await load(layer.vProj),
        oProj: await load(layer.oProj),
        postAttentionNorm: await load(layer.postAttentionNorm),
        gateProj: await load(layer.gateProj),
        upProj: await load(layer.upProj),
        downProj: await load(layer.downProj),
      });
    }
    const norm = await load(sources.norm);
    const lmHead = sources.lmHead === null ? embedTokens : await load(sources.lmHead);
    return { embedTokens, layers, norm, lmHead };
  } catch (error) {
    for (const weight of loaded) weight[Symbol.dispose]();
    throw error;
  }
}

/** Gives all weights back. */
export function disposeWeights(weights: LlamaWeights): void {
  const { embedTokens, layers, norm, lmHead } = weights;
  // A set, because a tied head is the embedding table.
  const all = new Set([embedTokens, norm, lmHead, ...layers.flatMap((l) => Object.values(l))]);
  for (const weight of all) weight[Symbol.dispose]();
}
