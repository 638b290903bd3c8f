/**
 * Models of every architecture, small and with random weights: odd numbers of heads, groups,
 * biases, tied tables and each scaling of rotary positions. And some whose rows fit all blocks.
 *
 * @module
 */

import type { NamedShape } from "../../bench/synthetic_model.ts";

const BASE = {
  hiddenSize: 144,
  intermediateSize: 96,
  numLayers: 2,
  numHeads: 9,
  numKvHeads: 3,
  headDim: 16,
  vocabSize: 320,
  trainedLength: 512,
  ropeTheta: 10000,
  tiedEmbeddings: false,
} as const;

/** The models, by what they are of. */
export const SMALL_MODELS: readonly NamedShape[] = [
  { ...BASE, name: "Llama 2", numKvHeads: 9 },
  { ...BASE, name: "Llama 3, heads apart from the width", hiddenSize: 96, headDim: 32 },
  {
    ...BASE,
    name: "Llama 3.1",
    ropeScaling: {
      type: "llama3",
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalLength: 128,
    },
  },
  { ...BASE, name: "Llama 3.2, tied", numHeads: 5, numKvHeads: 1, tiedEmbeddings: true },
  { ...BASE, name: "Llama with biases", attentionBias: true },
  {
    ...BASE,
    name: "Llama, linear",
    ropeScaling: { type: "linear", factor: 4 },
  },
  { ...BASE, name: "Mistral", architecture: "mistral", ropeTheta: 1e6 },
  { ...BASE, name: "Qwen2", architecture: "qwen2", ropeTheta: 1e6 },
  {
    ...BASE,
    name: "Qwen2, tied",
    architecture: "qwen2",
    hiddenSize: 112,
    numHeads: 7,
    numKvHeads: 1,
    tiedEmbeddings: true,
  },
  {
    ...BASE,
    name: "Qwen2.5, yarn",
    architecture: "qwen2",
    ropeScaling: { type: "yarn", factor: 4, originalLength: 128 },
  },
  { ...BASE, name: "Qwen3", architecture: "qwen3", headDim: 32, tiedEmbeddings: true },
  { ...BASE, name: "InternLM2", architecture: "internlm2" },
  {
    ...BASE,
    name: "InternLM2.5, dynamic NTK",
    architecture: "internlm2",
    trainedLength: 128,
    ropeScaling: { type: "dynamic", factor: 2, originalLength: 128 },
  },
];

const BLOCKS_OF_256 = {
  ...BASE,
  hiddenSize: 256,
  intermediateSize: 512,
  numHeads: 6,
  numKvHeads: 3,
  headDim: 128,
} as const;

/**
 * Models whose rows are whole blocks in every format, by what they are of. Where llama.cpp wants it
 * so, the heads are as wide as the model.
 */
export const BLOCK_MODELS: readonly NamedShape[] = [
  { ...BLOCKS_OF_256, name: "Llama 3.2, tied", tiedEmbeddings: true },
  {
    ...BLOCKS_OF_256,
    name: "Llama 3.1, scaled",
    numHeads: 3,
    numKvHeads: 1,
    headDim: 256,
    ropeScaling: {
      type: "llama3",
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalLength: 128,
    },
  },
  { ...BLOCKS_OF_256, name: "Mistral", architecture: "mistral", ropeTheta: 1e6 },
  {
    ...BLOCKS_OF_256,
    name: "Mistral, window",
    architecture: "mistral",
    slidingWindow: 256,
  },
  {
    ...BLOCKS_OF_256,
    name: "Qwen2, tied",
    architecture: "qwen2",
    hiddenSize: 768,
    ropeTheta: 1e6,
    tiedEmbeddings: true,
  },
  {
    ...BLOCKS_OF_256,
    name: "Qwen2.5, yarn",
    architecture: "qwen2",
    hiddenSize: 768,
    ropeScaling: { type: "yarn", factor: 4, originalLength: 128 },
  },
  { ...BLOCKS_OF_256, name: "Qwen3", architecture: "qwen3", tiedEmbeddings: true },
  { ...BLOCKS_OF_256, name: "InternLM2", architecture: "internlm2", hiddenSize: 768 },
];
