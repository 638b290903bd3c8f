/**
 * How files say that a model's rotary frequencies are scaled.
 *
 * @module
 */

import { asObject, show } from "../files/json.ts";
import { readBytes } from "../files/byte_source.ts";
import type { TensorTable } from "../files/tensor_table.ts";
import { type RopeScaling, yarnTemperature } from "../reattention/rope.ts";
import { type Fail, failIn, Fields } from "./config_fields.ts";

/** The largest factor of a scaling that is believed: a thousand times what models have. */
const MAX_FACTOR = 2 ** 16;
const MAX_LENGTH = 2 ** 30;

/**
 * The scaling in config.json: its `rope_parameters`, or the older `rope_scaling`.
 *
 * @param trainedLength What a scaling without a length of its own is relative to, in tokens.
 * @returns Undefined where nothing is scaled.
 */
export function readHfScaling(
  fields: Readonly<Record<string, unknown>>,
  trainedLength: number,
  fail: Fail,
): RopeScaling | undefined {
  for (const key of ["rope_parameters", "rope_scaling"]) {
    const value = fields[key] ?? null;
    if (value === null) continue;
    const scaling = asObject(value) ?? fail(`"${key}" must be an object, got ${show(value)}`);
    const type = scaling["rope_type"] ?? scaling["type"] ?? "default";
    // In the newer of the two the base is as well, so that it need not scale anything.
    if (type === "default") continue;
    const read = new Fields((name) => scaling[name], (why) => fail(`in "${key}", ${why}`));
    const factor = read.between("factor", 1, MAX_FACTOR);
    const original = "original_max_position_embeddings";
    if (type === "linear") return { type, factor };
    if (type === "dynamic") {
      return { type, factor, originalLength: read.count(original, MAX_LENGTH, trainedLength) };
    }
    if (type === "llama3") {
      const lowFrequencyFactor = read.between("low_freq_factor", 0, MAX_FACTOR);
      const highFrequencyFactor = read.between("high_freq_factor", 0, MAX_FACTOR);
      if (!(lowFrequencyFactor < highFrequencyFactor)) {
        fail(
          `in "${key}", "high_freq_factor" must be above the low one's ${lowFrequencyFactor}, got ${highFrequencyFactor}`,
        );
      }
      const originalLength = read.count(original, MAX_LENGTH);
      return { type, factor, lowFrequencyFactor, highFrequencyFactor, originalLength };
    }
    if (type === "yarn") {
      if (!read.boolean("truncate", true)) {
        fail(`in "${key}", "truncate" must be true: other edges are not supported, got false`);
      }
      return {
        type,
        factor,
        originalLength: read.count(original, MAX_LENGTH, trainedLength),
        betaFast: read.between("beta_fast", 0.01, MAX_FACTOR, 32),
        betaSlow: read.between("beta_slow", 0.01, MAX_FACTOR, 1),
        attentionFactor: hfAttentionFactor(read, factor),
      };
    }
    fail(
      `"${key}" must be of the type default, linear, dynamic, llama3 or yarn, got ${show(type)}`,
    );
  }
  return undefined;
}

/** As Hugging Face's `_compute_yarn_parameters` has it. */
function hfAttentionFactor(read: Fields, factor: number): number {
  if (read.has("attention_factor")) return read.between("attention_factor", 0.01, 100);
  if (!read.has("mscale") || !read.has("mscale_all_dim")) return yarnTemperature(factor);
  const temperature = (key: string) =>
    1 + read.between(key, 0, 100) * (yarnTemperature(factor) - 1);
  return temperature("mscale") / temperature("mscale_all_dim");
}

/**
 * The scaling in GGUF's metadata. Llama 3's is not there but in a tensor: {@linkcode readFactors}.
 *
 * @param prefix What the keys begin with: the architecture and a dot.
 * @param trainedLength As in {@linkcode readHfScaling}.
 */
export function readGgufScaling(
  { metadata, tensors }: TensorTable,
  prefix: string,
  trainedLength: number,
  fail: Fail,
): RopeScaling | undefined {
  const read = new Fields((key) => metadata.get(prefix + key), (why) => fail(why));
  // A factor without a type is linear, and in older files has another name.
  const factor = read.between("rope.scaling.factor", 0, MAX_FACTOR, 0) ||
    read.between("rope.scale_linear", 0, MAX_FACTOR, 1) || 1;
  const type = metadata.get(`${prefix}rope.scaling.type`) ?? (factor === 1 ? "none" : "linear");
  const temperature = read.between("rope.scaling.attn_factor", 0.01, 100, 1);
  if (type !== "yarn" && temperature !== 1) {
    fail(`"${prefix}rope.scaling.attn_factor" must be 1 without yarn, got ${temperature}`);
  }
  for (const name of ["rope_factors_long.weight", "rope_factors_short.weight"]) {
    if (tensors.has(name)) fail(`tensor "${name}" must be absent: longrope is not supported`);
  }
  if (type === "none") return undefined;
  if (type === "linear") return factor === 1 ? undefined : { type, factor };
  if (type !== "yarn") {
    fail(`"${prefix}rope.scaling.type" must be "none", "linear" or "yarn", got ${show(type)}`);
  }
  return {
    type: "yarn",
    factor,
    originalLength: read.count(
      "rope.scaling.original_context_length",
      MAX_LENGTH,
      trainedLength,
    ),
    betaFast: read.between("rope.scaling.yarn_beta_fast", 0.01, MAX_FACTOR, 32),
    betaSlow: read.between("rope.scaling.yarn_beta_slow", 0.01, MAX_FACTOR, 1),
    attentionFactor: temperature * yarnTemperature(factor),
  };
}

/** The tensor of a divisor for each frequency. */
const FACTORS = "rope_freqs.weight";

/**
 * The scaling in GGUF's tensor `rope_freqs.weight`, in which Llama 3.1's files have theirs.
 *
 * @param pairs Half the size of a head.
 * @param declared What the metadata says, which is the answer where there is no such tensor.
 * @throws {ModelFormatError} If both scale, or the tensor has not one positive f32 for each pair.
 */
export async function readFactors(
  { tensors, name }: TensorTable,
  pairs: number,
  declared: RopeScaling | undefined,
): Promise<RopeScaling | undefined> {
  const tensor = tensors.get(FACTORS);
  if (tensor === undefined) return declared;
  const fail = failIn(name);
  if (declared !== undefined) {
    fail(`tensor "${FACTORS}" must be absent where the metadata scales, too: ${declared.type}`);
  }
  const { dtype, shape, source, byteOffset } = tensor;
  if (dtype !== "F32" || shape.length !== 1 || shape[0] !== pairs) {
    fail(`tensor "${FACTORS}" must be F32 [${pairs}], got ${dtype} [${shape}]`);
  }
  const bytes = await readBytes(source, byteOffset, byteOffset + 4 * pairs);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const factors = Array.from({ length: pairs }, (_, i) => view.getFloat32(4 * i, true));
  const wrong = factors.find((factor) => !(factor > 0 && factor <= MAX_FACTOR));
  if (wrong !== undefined) {
    fail(`tensor "${FACTORS}" must have factors above 0 and up to ${MAX_FACTOR}, got ${wrong}`);
  }
  return { type: "factors", factors };
}
