/**
 * The tensors of a model of random weights. Whatever the container, a shape and a seed are one
 * model: rows are in the order in which makers and converters keep them.
 *
 * @module
 */

import { ARCHITECTURES, type LayerPart, tensorNames } from "../../src/llama/architectures.ts";
import { type MatrixName, matrixSize, type Shape } from "../shapes.ts";
import type { TensorPlan } from "./gguf_writer.ts";
import { fillFromPool, poolOf } from "./numbers.ts";
import { BLOCKS, bytesOf, encode, type Format } from "./quantize.ts";

/** The formats of some kinds of matrices; `head` is the table of embeddings too, where they are one. */
export type Mix = Readonly<Partial<Record<MatrixName, Format>>>;

/** Rows of a tensor: where in a pool each is. */
interface Rows {
  readonly count: number;
  readonly cols: number;
  /** The bytes that the pool has before a row. */
  before(row: number): number;
}

/** All tensors of a model. */
export function planTensors(
  shape: Shape,
  container: "gguf" | "safetensors",
  { format: usual, mixed, seed, outputNorm, values }: {
    readonly format: Format;
    readonly mixed: Mix;
    readonly seed: number;
    readonly outputNorm: number;
    /** Numbers of a tensor, by its name in the file and in the file's order, instead. */
    readonly values?: (name: string) => Float32Array;
  },
): TensorPlan[] {
  const { architecture = "llama", numHeads, numKvHeads, headDim, hiddenSize } = shape;
  const { fusedQkv, ggufInterleaves, qkvBias, qkNorm } = ARCHITECTURES[architecture];
  const isGguf = container === "gguf";
  const names = tensorNames(architecture, container);
  // llama.cpp wants vectors in f32; Hugging Face's files have one type for all.
  const vectorFormat = isGguf ? "f32" : usual;
  const tensors: TensorPlan[] = [];
  // Counts what the model has, not what the file has, so that both containers have the same.
  let taken = 0;

  const fromPool = (
    name: string,
    format: Format,
    sizes: readonly number[],
    exponent: number,
    { cols, before }: Rows,
  ) => {
    const pool = poolOf(format, exponent, seed);
    const rowBytes = bytesOf(format, cols);
    tensors.push({
      name,
      format,
      shape: sizes,
      fill(target, offset) {
        for (let filled = 0; filled < target.length;) {
          const at = offset + filled;
          const inRow = at % rowBytes;
          const length = Math.min(rowBytes - inRow, target.length - filled);
          const from = before(Math.floor(at / rowBytes)) + inRow;
          fillFromPool(pool, target.subarray(filled, filled + length), from);
          filled += length;
        }
      },
    });
  };
  /** Rows of its own, from the next place in the pool on, at a whole block. */
  const ownRows = (format: Format, rows: number, cols: number): Rows => {
    const start = taken++ * 7919 * BLOCKS[format].bytes;
    const rowBytes = bytesOf(format, cols);
    return { count: rows, cols, before: (row) => start + row * rowBytes };
  };
  // Sums of `cols` products keep the size of what goes in.
  const exponentOf = (cols: number) => -Math.round(Math.log2(cols) / 2);
  const matrix = (name: string, part: MatrixName) => {
    const { rows, cols } = matrixSize(shape, part);
    const format = mixed[part] ?? usual;
    fromPool(name, format, [rows, cols], exponentOf(cols), ownRows(format, rows, cols));
  };
  const vector = (name: string, values: Float32Array) => {
    const bytes = encode(vectorFormat, values);
    tensors.push({
      name,
      format: vectorFormat,
      shape: [values.length],
      fill: (target, offset) => target.set(bytes.subarray(offset, offset + target.length)),
    });
  };
  const norm = (name: string, gain: number) => {
    taken++;
    vector(name, new Float32Array(hiddenSize).fill(gain));
  };

  const heads = { q: numHeads, k: numKvHeads, v: numKvHeads } as const;
  /** In each head, where GGUF has it so, a pair's two rows next to each other. */
  const inFileOrder = (part: keyof typeof heads, { before, ...rest }: Rows): Rows => ({
    ...rest,
    before(row) {
      if (!isGguf || !ggufInterleaves || part === "v") return before(row);
      const inHead = row % headDim;
      return before(row - inHead + inHead % 2 * (headDim / 2) + (inHead >> 1));
    },
  });
  /** A KV head's queries, then its key, then its value, in InternLM2's one tensor. */
  const fused = (parts: Readonly<Record<keyof typeof heads, Rows>>): Rows => {
    const group = numHeads / numKvHeads;
    return {
      count: (numHeads + 2 * numKvHeads) * headDim,
      cols: parts.q.cols,
      before(row) {
        const head = Math.floor(row / headDim);
        const kvHead = Math.floor(head / (group + 2));
        const slot = head % (group + 2);
        const inHead = row % headDim;
        if (slot < group) return parts.q.before((kvHead * group + slot) * headDim + inHead);
        return parts[slot === group ? "k" : "v"].before(kvHead * headDim + inHead);
      },
    };
  };
  const projections = (
    nameOf: (part: keyof typeof heads) => string,
    formatOf: (part: keyof typeof heads) => Format,
    exponent: number,
    cols: number | null,
  ) => {
    const rowsOf = (part: keyof typeof heads) =>
      inFileOrder(part, ownRows(formatOf(part), heads[part] * headDim, cols ?? 1));
    const parts = { q: rowsOf("q"), k: rowsOf("k"), v: rowsOf("v") };
    const put = (name: string, part: keyof typeof heads, rows: Rows) =>
      fromPool(name, formatOf(part), [rows.count, ...cols === null ? [] : [cols]], exponent, rows);
    if (fusedQkv && !isGguf) return put(nameOf("q"), "q", fused(parts));
    for (const part of ["q", "k", "v"] as const) put(nameOf(part), part, parts[part]);
  };

  matrix(names.embedTokens, "head");
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const name = (part: LayerPart) => `${names.layers}${layer}.${names.layer[part]}`;
    norm(name("inputNorm"), 1);
    projections(
      (part) => name(`${part}Proj`),
      (part) => mixed[part] ?? usual,
      exponentOf(hiddenSize),
      hiddenSize,
    );
    matrix(name("oProj"), "o");
    if (qkvBias || shape.attentionBias) {
      projections((part) => name(`${part}Bias`), () => vectorFormat, -2, null);
    }
    if (shape.attentionBias) {
      const rows = ownRows(vectorFormat, hiddenSize, 1);
      fromPool(name("oBias"), vectorFormat, [hiddenSize], -2, rows);
    }
    if (qkNorm) {
      const { values } = poolOf("f32", -2, seed);
      for (const part of ["qNorm", "kNorm"] as const) {
        const start = taken++ * 7919 % (values.length - headDim);
        vector(name(part), values.slice(start, start + headDim).map((x) => 1 + x));
      }
    }
    matrix(name("gateProj"), "gate");
    matrix(name("upProj"), "up");
    matrix(name("downProj"), "down");
    norm(name("postAttentionNorm"), 1);
  }
  norm(names.norm, outputNorm);
  if (!shape.tiedEmbeddings) matrix(names.lmHead, "head");
  const { ropeScaling } = shape;
  if (isGguf && ropeScaling?.type === "llama3") {
    vector("rope_freqs.weight", llama3Factors(shape, ropeScaling));
  }
  return values === undefined ? tensors : tensors.map((tensor) => {
    const bytes = encode(tensor.format, values(tensor.name));
    const fill: TensorPlan["fill"] = (target, offset) =>
      target.set(bytes.subarray(offset, offset + target.length));
    return { ...tensor, fill };
  });
}

/** As llama.cpp's converter computes them, by wavelength. */
function llama3Factors(
  { headDim, ropeTheta }: Shape,
  scaling: Extract<Shape["ropeScaling"], { readonly type: "llama3" }>,
): Float32Array {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalLength } = scaling;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * ropeTheta ** (2 * i / headDim);
    if (wavelength < originalLength / high) return 1;
    if (wavelength > originalLength / low) return factor;
    const smooth = (originalLength / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
