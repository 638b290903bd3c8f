/**
 * A second decoder, as plain as can be, in float64: it shares no code with the library, reads
 * safetensors by itself, knows what Hugging Face's modeling files do, and reads a text in one step.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** config.json, as far as it matters. */
interface Config {
  readonly model_type: string;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly max_position_embeddings: number;
  readonly rope_theta: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings: boolean;
  readonly sliding_window?: number | null;
  readonly rope_scaling?: Readonly<Record<string, number>> & { readonly rope_type: string };
}

type Matrix = readonly Float64Array[];

/** Logits after every token of a text, from a folder in Hugging Face's layout, in F32. */
export async function plainLogits(folder: string, tokens: readonly number[]): Promise<Matrix> {
  const config: Config = JSON.parse(await readFile(join(folder, "config.json"), "utf8"));
  const weights = await readTensors(join(folder, "model.safetensors"));
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads;
  const { head_dim: dim } = config;
  const group = heads / kvHeads;
  const isInternLm = config.model_type === "internlm2";
  const get = (name: string) => weights.get(name) ?? null;
  const norm = (x: Float64Array, gain: Float64Array) => {
    const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    return x.map((value, i) => value / Math.sqrt(mean + config.rms_norm_eps) * gain[i]!);
  };
  /** x W^T + b */
  const linear = (x: Float64Array, name: string) => {
    const matrix = get(`${name}.weight`)!;
    const bias = get(`${name}.bias`);
    const out = new Float64Array(matrix.length / x.length);
    for (let o = 0; o < out.length; o++) {
      let sum = bias?.[o] ?? 0;
      for (let i = 0; i < x.length; i++) sum += x[i]! * matrix[o * x.length + i]!;
      out[o] = sum;
    }
    return out;
  };
  const { frequencies, factor } = rotary(config, tokens.length);
  const turn = (x: Float64Array, position: number) =>
    x.map((value, i) => {
      const angle = position * frequencies[i % (dim / 2)]!;
      const other = i < dim / 2 ? -x[i + dim / 2]! : x[i - dim / 2]!;
      return factor * (value * Math.cos(angle) + other * Math.sin(angle));
    });

  const embedding = get(isInternLm ? "model.tok_embeddings.weight" : "model.embed_tokens.weight")!;
  const hiddenSize = config.hidden_size;
  let hidden: Float64Array[] = tokens.map((t) =>
    embedding.slice(t * hiddenSize, (t + 1) * hiddenSize)
  );
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const at = `model.layers.${layer}.`;
    const names = isInternLm
      ? [
        "attention_norm",
        "attention.wo",
        "ffn_norm",
        "feed_forward.w1",
        "feed_forward.w3",
        "feed_forward.w2",
      ]
      : [
        "input_layernorm",
        "self_attn.o_proj",
        "post_attention_layernorm",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
      ];
    const [inputNorm, outputName, ffnNorm, gateName, upName, downName] = names.map((n) => at + n);
    const head = (x: Float64Array, h: number) => x.slice(h * dim, (h + 1) * dim);
    /** Heads of q, k and v, unrotated. */
    const split = (x: Float64Array) => {
      if (isInternLm) {
        // rearrange(qkv, "(h gs d) -> h gs d"); [..., :groups], [..., -2], [..., -1]
        const qkv = linear(x, `${at}attention.wqkv`);
        const of = (kv: number, slot: number) => head(qkv, kv * (group + 2) + slot);
        const each = Array.from({ length: kvHeads }, (_, kv) => kv);
        return {
          q: each.flatMap((kv) => Array.from({ length: group }, (_, g) => of(kv, g))),
          k: each.map((kv) => of(kv, group)),
          v: each.map((kv) => of(kv, group + 1)),
        };
      }
      const part = (name: string, count: number) => {
        const whole = linear(x, `${at}self_attn.${name}_proj`);
        const gain = get(`${at}self_attn.${name}_norm.weight`);
        const all = Array.from({ length: count }, (_, h) => head(whole, h));
        return gain === null ? all : all.map((one) => norm(one, gain));
      };
      return { q: part("q", heads), k: part("k", kvHeads), v: part("v", kvHeads) };
    };
    const parts = hidden.map((x) => split(norm(x, get(`${inputNorm}.weight`)!)));
    const keys = parts.map(({ k }, t) => k.map((one) => turn(one, t)));
    hidden = hidden.map((x, t) => {
      const first = config.sliding_window ? Math.max(0, t + 1 - config.sliding_window) : 0;
      const attended = new Float64Array(heads * dim);
      for (let h = 0; h < heads; h++) {
        const kv = Math.floor(h / group);
        const q = turn(parts[t]!.q[h]!, t);
        const scores = keys.slice(first, t + 1).map((k) => dot(q, k[kv]!) / Math.sqrt(dim));
        const highest = Math.max(...scores);
        const shares = scores.map((score) => Math.exp(score - highest));
        const total = shares.reduce((sum, share) => sum + share, 0);
        shares.forEach((share, i) => {
          const value = parts[first + i]!.v[kv]!;
          for (let d = 0; d < dim; d++) attended[h * dim + d]! += share / total * value[d]!;
        });
      }
      return sum(x, linear(attended, outputName!));
    });
    hidden = hidden.map((x) => {
      const normed = norm(x, get(`${ffnNorm}.weight`)!);
      const up = linear(normed, upName!);
      const gated = linear(normed, gateName!).map((g, i) => g / (1 + Math.exp(-g)) * up[i]!);
      return sum(x, linear(gated, downName!));
    });
  }
  const headName = config.tie_word_embeddings
    ? "model.embed_tokens"
    : isInternLm
    ? "output"
    : "lm_head";
  return hidden.map((x) => linear(norm(x, get("model.norm.weight")!), headName));
}

/** `ROPE_INIT_FUNCTIONS` of Hugging Face's library, for a text of so many tokens. */
function rotary(config: Config, length: number): { frequencies: number[]; factor: number } {
  const { head_dim: dim, rope_theta: theta, rope_scaling: scaling } = config;
  const trained = config.max_position_embeddings;
  const table = (base: number) =>
    Array.from({ length: dim / 2 }, (_, i) => 1 / base ** (2 * i / dim));
  const plain = table(theta);
  const type = scaling?.rope_type ?? "default";
  const s = scaling?.["factor"] ?? 1;
  const original = scaling?.["original_max_position_embeddings"] ?? trained;
  if (type === "linear") return { frequencies: plain.map((f) => f / s), factor: 1 };
  if (type === "dynamic") {
    const longest = Math.max(length, trained);
    const base = theta * ((s * longest / trained) - (s - 1)) ** (dim / (dim - 2));
    return { frequencies: table(base), factor: 1 };
  }
  if (type === "llama3") {
    const [low, high] = [scaling!["low_freq_factor"]!, scaling!["high_freq_factor"]!];
    const frequencies = plain.map((f) => {
      const wavelength = 2 * Math.PI / f;
      if (wavelength < original / high) return f;
      if (wavelength > original / low) return f / s;
      const smooth = (original / wavelength - low) / (high - low);
      return (1 - smooth) * f / s + smooth * f;
    });
    return { frequencies, factor: 1 };
  }
  if (type === "yarn") {
    const find = (rotations: number) =>
      dim * Math.log(original / (rotations * 2 * Math.PI)) / (2 * Math.log(theta));
    const low = Math.max(Math.floor(find(32)), 0);
    const high = Math.min(Math.ceil(find(1)), dim - 1);
    const frequencies = plain.map((f, i) => {
      const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
      return f / s * ramp + f * (1 - ramp);
    });
    return { frequencies, factor: 0.1 * Math.log(s) + 1 };
  }
  return { frequencies: plain, factor: 1 };
}

async function readTensors(path: string): Promise<Map<string, Float64Array>> {
  const bytes = await readFile(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header: Record<string, { dtype: string; data_offsets: [number, number] }> = JSON.parse(
    bytes.toString("utf8", 8, 8 + length),
  );
  return new Map(
    Object.entries(header).map(([name, { dtype, data_offsets: [start, end] }]) => {
      if (dtype !== "F32") throw new TypeError(`${name} must be F32, is ${dtype}`);
      const values = new Float64Array((end - start) / 4);
      for (let i = 0; i < values.length; i++) {
        values[i] = bytes.readFloatLE(8 + length + start + 4 * i);
      }
      return [name, values];
    }),
  );
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((total, x, i) => total + x * b[i]!, 0);
}

function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((x, i) => x + b[i]!);
}
