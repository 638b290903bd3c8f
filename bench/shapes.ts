/**
 * The shapes of real models that are measured: Meta's and Alibaba's published configurations, and
 * the embedded model's.
 *
 * @module
 */

import type { Architecture } from "../src/llama/architectures.ts";
import type { RopeScaling } from "../src/reattention/rope.ts";

/** A decoder's shape. */
export interface Shape {
  /** Default `"llama"`. */
  readonly architecture?: Architecture;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly trainedLength: number;
  readonly ropeTheta: number;
  readonly tiedEmbeddings: boolean;
  readonly ropeScaling?: RopeScaling;
  readonly slidingWindow?: number;
  /** Biases of q, k, v and o where a field of the configuration decides. Default false. */
  readonly attentionBias?: boolean;
}

/** Llama 3's scaling of rotary frequencies. */
const llama3 = (factor: number) => ({
  type: "llama3" as const,
  factor,
  lowFrequencyFactor: 1,
  highFrequencyFactor: 4,
  originalLength: 8192,
});

/** By name. `tiny` is nobody's: for tests. */
export const SHAPES = {
  "Llama-3.2-1B": {
    hiddenSize: 2048,
    intermediateSize: 8192,
    numLayers: 16,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 64,
    vocabSize: 128256,
    trainedLength: 131072,
    ropeTheta: 500000,
    ropeScaling: llama3(32),
    tiedEmbeddings: true,
  },
  "Llama-3.1-8B": {
    hiddenSize: 4096,
    intermediateSize: 14336,
    numLayers: 32,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 128,
    vocabSize: 128256,
    trainedLength: 131072,
    ropeTheta: 500000,
    ropeScaling: llama3(8),
    tiedEmbeddings: false,
  },
  "Qwen2-1.5B": {
    architecture: "qwen2",
    hiddenSize: 1536,
    intermediateSize: 8960,
    numLayers: 28,
    numHeads: 12,
    numKvHeads: 2,
    headDim: 128,
    vocabSize: 151936,
    trainedLength: 32768,
    ropeTheta: 1000000,
    tiedEmbeddings: true,
  },
  pocket: {
    hiddenSize: 256,
    intermediateSize: 512,
    numLayers: 4,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 64,
    vocabSize: 1024,
    trainedLength: 512,
    ropeTheta: 200000,
    tiedEmbeddings: true,
  },
  tiny: {
    hiddenSize: 64,
    intermediateSize: 96,
    numLayers: 2,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    vocabSize: 320,
    trainedLength: 256,
    ropeTheta: 10000,
    tiedEmbeddings: true,
  },
} as const satisfies Readonly<Record<string, Shape>>;

/** A name of {@linkcode SHAPES}. */
export type ShapeName = keyof typeof SHAPES;

/** The matrices of a layer, and the head: rows are outputs. */
export type MatrixName =
  | "q"
  | "k"
  | "v"
  | "o"
  | "gate"
  | "up"
  | "down"
  | "head";

/** The rows and columns of one of a model's matrices. */
export function matrixSize(shape: Shape, name: MatrixName): { rows: number; cols: number } {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, vocabSize } = shape;
  const sizes = {
    q: { rows: numHeads * headDim, cols: hiddenSize },
    k: { rows: numKvHeads * headDim, cols: hiddenSize },
    v: { rows: numKvHeads * headDim, cols: hiddenSize },
    o: { rows: hiddenSize, cols: numHeads * headDim },
    gate: { rows: intermediateSize, cols: hiddenSize },
    up: { rows: intermediateSize, cols: hiddenSize },
    down: { rows: hiddenSize, cols: intermediateSize },
    head: { rows: vocabSize, cols: hiddenSize },
  };
  return sizes[name];
}

/** The numbers in all matrices of a layer. */
export function layerWeights(shape: Shape): number {
  return (["q", "k", "v", "o", "gate", "up", "down"] as const).reduce(
    (sum, name) => {
      const { rows, cols } = matrixSize(shape, name);
      return sum + rows * cols;
    },
    0,
  );
}
