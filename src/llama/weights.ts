/**
 * Tensors by their names in the file, as a decoder's weights on a backend.
 *
 * @module
 */

import type { Backend, Weight, WeightFormat, WeightSource } from "../backend/backend.ts";
import { ModelFormatError } from "../errors.ts";
import { shorten } from "../files/json.ts";
import type { TensorInfo, TensorTable } from "../files/tensor_table.ts";
import { ARCHITECTURES, type LayerPart, tensorNames } from "./architectures.ts";
import type { LlamaConfig } from "./config.ts";
import { inHalfSplitOrder, pickHeads } from "./head_order.ts";
import type { WeightWatch } from "./identity.ts";

/** The weights of one layer; biases and norms of heads where the architecture has them. */
export type LayerWeights = Parts<Weight>["layers"][number];

/** The weights of a model. */
export interface LlamaWeights {
  readonly embedTokens: Weight;
  readonly layers: readonly LayerWeights[];
  readonly norm: Weight;
  /** The same handle as `embedTokens` where the two are tied. */
  readonly lmHead: Weight;
}

/** The types whose numbers a backend takes as they are. */
const FORMATS: ReadonlyMap<string, WeightFormat> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["Q8_0", "q8_0"],
  ["Q4_0", "q4_0"],
  ["Q4_1", "q4_1"],
  ["Q5_0", "q5_0"],
  ["Q5_1", "q5_1"],
  ["Q4_K", "q4_k"],
  ["Q5_K", "q5_k"],
  ["Q6_K", "q6_k"],
]);

/** Parts of a layer that not every architecture has. */
type OptionalPart = "qBias" | "kBias" | "vBias" | "oBias" | "qNorm" | "kNorm";

/** The parts of {@linkcode LlamaWeights}, each as some `T`. */
interface Parts<T> {
  readonly embedTokens: T;
  readonly layers: readonly (
    & Readonly<Record<Exclude<LayerPart, OptionalPart>, T>>
    & Readonly<Partial<Record<OptionalPart, T>>>
  )[];
  readonly norm: T;
  /** Null where it is `embedTokens`. */
  readonly lmHead: T | null;
}

/**
 * Finds a model's tensors and checks them against its configuration; reads nothing.
 *
 * The sources of q, k and v give their rows in the order that all backends know, whatever the
 * file's: head_order.ts.
 *
 * @throws {ModelFormatError} If a tensor is missing, has another shape than the configuration says,
 * or a type that cannot be used; or if a layer has tensors that would be left out.
 */
export function findWeights(table: TensorTable, config: LlamaConfig): Parts<WeightSource> {
  const { architecture, hiddenSize, intermediateSize, headDim, vocabSize } = config;
  const { numHeads, numKvHeads } = config;
  const names = tensorNames(architecture, table.format);
  const { ggufInterleaves, fusedQkv } = ARCHITECTURES[architecture];
  const isFused = fusedQkv && table.format !== "gguf";
  const isInterleaved = ggufInterleaves && table.format === "gguf";
  const queryRows = numHeads * headDim;
  const found = new Set<string>();
  const find = (name: string, ...shape: number[]): WeightSource => {
    const source = weightSource(table, name, shape);
    found.add(name);
    return source;
  };
  /** The heads of q, k or v: rows of a matrix, or numbers of a bias (`cols` is none). */
  const findHeads = (part: "q" | "k" | "v", name: string, ...cols: number[]): WeightSource => {
    const heads = part === "q" ? numHeads : numKvHeads;
    if (!isFused) {
      const source = find(name, heads * headDim, ...cols);
      if (!isInterleaved || part === "v") return source;
      const rowBytes = table.tensors.get(name)!.byteLength / (heads * headDim);
      return inHalfSplitOrder(source, rowBytes, headDim);
    }
    const group = numHeads / numKvHeads;
    const all = numHeads + 2 * numKvHeads;
    const source = find(name, all * headDim, ...cols);
    // A KV head's queries, then its key, then its value.
    const placeOf = (head: number) =>
      part === "q"
        ? Math.floor(head / group) * (group + 2) + head % group
        : head * (group + 2) + group + (part === "k" ? 0 : 1);
    const [rows, width] = cols.length === 0 ? [1, heads * headDim] : [heads * headDim, source.cols];
    return pickHeads(
      source,
      table.tensors.get(name)!.byteLength / all,
      Array.from({ length: heads }, (_, head) => placeOf(head)),
      { rows, cols: width },
    );
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
    const name = (part: LayerPart) => `${names.layers}${i}.${names.layer[part]}`;
    return {
      inputNorm: find(name("inputNorm"), hiddenSize),
      qProj: findHeads("q", name("qProj"), hiddenSize),
      kProj: findHeads("k", name("kProj"), hiddenSize),
      vProj: findHeads("v", name("vProj"), hiddenSize),
      oProj: find(name("oProj"), hiddenSize, queryRows),
      ...config.qkvBias && {
        qBias: findHeads("q", name("qBias")),
        kBias: findHeads("k", name("kBias")),
        vBias: findHeads("v", name("vBias")),
      },
      ...config.outputBias && { oBias: find(name("oBias"), hiddenSize) },
      ...config.qkNorm && {
        qNorm: find(name("qNorm"), headDim),
        kNorm: find(name("kNorm"), headDim),
      },
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
 * A bias, a third norm, a layer more than the configuration has: leaving them out would be another
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
    fail(`tensor "${name}" must be one of ${[...FORMATS.keys()].join(", ")}, got ${tensor.dtype}`);
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
    const { byteLength, shape } = table.tensors.get(source.name)!;
    // Some are a part of a tensor, whole rows of it.
    const part = source.rows * source.cols / shape.reduce((product, size) => product * size, 1);
    const watched = watch?.watch(source, byteLength * part);
    const weight = await backend.weight(watched ?? source);
    loaded.push(weight);
    return weight;
  };
  try {
    const embedTokens = await load(sources.embedTokens);
    const layers: LayerWeights[] = [];
    for (const layer of sources.layers) {
      const parts: [string, Weight][] = [];
      for (const [part, source] of Object.entries(layer)) parts.push([part, await load(source)]);
      layers.push(Object.fromEntries(parts) as unknown as LayerWeights);
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
