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
import { type Shape, type ShapeName, SHAPES } from "./shapes.ts";
import { FileWriter } from "./support/file_writer.ts";
import { sizeOf, type TensorPlan, writeGguf } from "./support/gguf_writer.ts";
import { ggufMetadata, hfConfig } from "./support/model_config.ts";
import { type Mix, planTensors } from "./support/model_tensors.ts";
import { BLOCKS, type Format } from "./support/quantize.ts";
import { inventVocabulary, readVocabulary, type Vocabulary } from "./support/vocabulary.ts";

/** A shape that {@linkcode SHAPES} has not. */
export interface NamedShape extends Shape {
  readonly name: string;
}

/** What to write. */
export interface SyntheticModel {
  readonly shape: ShapeName | NamedShape;
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
  const { format, mixed = {}, container, outputNorm = 0, seed = 1, splits = 1, values } = model;
  const [name, shape]: [string, Shape] = typeof model.shape === "string"
    ? [model.shape, SHAPES[model.shape]]
    : [model.shape.name, model.shape];
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

  const vocabulary = vocabularyOf(name, shape);
  const json = (file: string, value: unknown) =>
    writeFile(join(folder, file), JSON.stringify(value, null, 1));
  for (const [file, value] of Object.entries(vocabulary.files)) {
    await json(file, value);
  }
  const planned = { format, mixed, seed, outputNorm, ...values ? { values } : {} };
  const tensors = planTensors(shape, container, planned);
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

function vocabularyOf(name: string, shape: Shape): Vocabulary {
  const [place, pre] = TOKENIZERS[name as ShapeName] ?? [];
  if (place !== undefined) {
    const folder = fileURLToPath(new URL(place, import.meta.url));
    if (existsSync(join(folder, "tokenizer.json"))) {
      return readVocabulary(folder, pre!, shape.vocabSize);
    }
  }
  return inventVocabulary(shape.vocabSize);
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
