/**
 * What is damaged: small model files of each kind, written here, and headers of real ones.
 *
 * @module
 */

import { existsSync, readFileSync } from "node:fs";
import { xxHash32 } from "../../../src/files/xx_hash.ts";
import { encodeHeader, type SessionHeader } from "../../../src/llama/session_header.ts";
import { ByteWriter, GGUF, ggufBytes, type GgufParts, ggufValue } from "../model_bytes.ts";
import { repository, sharedUrl } from "../shared.ts";
import {
  concatBytes,
  joinParts,
  numberBytes,
  type Part,
  partsOfGguf,
  partsOfJson,
} from "./parts.ts";

/** What is around the parts. */
export type Container = "gguf" | "safetensors" | "json" | "session";

/** Who reads it: src/files and the configuration alone, all that loads a model, or a session's header. */
export type Reader = "gguf" | "safetensors" | "index" | "split" | "json" | "model" | "session";

/** A file to damage, and whole ones beside it. */
export interface Seed {
  readonly name: string;
  /** What the file is called. */
  readonly file: string;
  readonly reader: Reader;
  readonly container: Container;
  readonly parts: readonly Part[];
  /** What follows the header: never looked at, so it need not be there. */
  readonly dataBytes: number;
  /** Other files of the model. */
  readonly beside: ReadonlyMap<string, SeedFile>;
  /** How often it is taken, beside the others. */
  readonly weight: number;
}

/** Bytes, and how many more a source says it has. */
export interface SeedFile {
  readonly bytes: Uint8Array;
  readonly byteLength: number;
}

const utf8 = new TextEncoder();
const ALIGNMENT = 32;

/** Bytes of a session's header before its JSON. */
const SESSION_FIXED_BYTES = 24;

/**
 * A file of parts.
 *
 * @param lie What the length says that safetensors and sessions begin with, if not what is so.
 */
export function assemble(
  { container, dataBytes }: Pick<Seed, "container" | "dataBytes">,
  parts: readonly Part[],
  lie: bigint | null = null,
): SeedFile {
  const body = joinParts(parts);
  switch (container) {
    case "json":
      return { bytes: body, byteLength: body.length };
    case "gguf":
      return {
        bytes: body,
        byteLength: Math.ceil(body.length / ALIGNMENT) * ALIGNMENT + dataBytes,
      };
    case "safetensors": {
      const bytes = new Uint8Array(8 + body.length);
      bytes.set(numberBytes(lie ?? BigInt(body.length), 8));
      bytes.set(body, 8);
      return { bytes, byteLength: bytes.length + dataBytes };
    }
    case "session": {
      const jsonBytes = Math.ceil(body.length / 4) * 4;
      const bytes = new Uint8Array(SESSION_FIXED_BYTES + jsonBytes + 4).fill(0x20);
      const byteLength = bytes.length + dataBytes;
      bytes.set([0x89, 0x52, 0x53, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]);
      bytes.set(numberBytes(1n, 4), 8);
      bytes.set(numberBytes(BigInt(jsonBytes), 4), 12);
      bytes.set(numberBytes(lie ?? BigInt(byteLength), 8), 16);
      bytes.set(body, SESSION_FIXED_BYTES);
      const sum = xxHash32(bytes.subarray(0, -4));
      bytes.set(numberBytes(BigInt(sum), 4), bytes.length - 4);
      return { bytes, byteLength };
    }
  }
}

const { array, bool, f32, string, u16, u32, u64, u8, i32 } = GGUF;
const value = ggufValue;
type Pair = NonNullable<GgufParts["pairs"]>[number];

const texts = (list: readonly string[]): Uint8Array =>
  value.array(string, list.length, list.flatMap((text) => [...value.string(text)]));
const numbers = (type: number, list: readonly number[]): Uint8Array =>
  value.array(
    type,
    list.length,
    list.flatMap((x) => [...type === f32 ? value.f32(x) : value.u32(x)]),
  );

/** A model of one layer that loads. Its matrices are of 32 columns, so that blocks fit. */
const SIZE = 32;
const VOCABULARY = 8;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_SIZE = 8;

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
function layerTensors(biases: boolean): Tensor[] {
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

function placed(
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

function shapePairs(architecture: string): Pair[] {
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

const SENTENCE_PIECE: Pair[] = [
  ["tokenizer.ggml.model", string, value.string("llama")],
  ["tokenizer.ggml.tokens", array, texts(TOKENS)],
  ["tokenizer.ggml.scores", array, numbers(f32, [0, 0, 0, -9, -9, -9, -1, -2])],
  ["tokenizer.ggml.token_type", array, numbers(i32, [2, 3, 3, 1, 1, 1, 1, 4])],
  ["tokenizer.ggml.bos_token_id", u32, value.u32(1)],
  ["tokenizer.ggml.eos_token_id", u32, value.u32(2)],
  ["tokenizer.ggml.add_bos_token", bool, [1]],
];

const BYTE_LEVEL: Pair[] = [
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
const ALL_TYPES: Pair[] = [
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

const fileOf = (parts: GgufParts): Uint8Array => ggufBytes(parts);

/** A GGUF's seed, read by its readers alone. */
function ggufSeed(
  name: string,
  parts: GgufParts,
  dataBytes: number,
  more: Partial<Seed> = {},
): Seed {
  return {
    name,
    file: "model.gguf",
    reader: "gguf",
    container: "gguf",
    parts: partsOfGguf(fileOf(parts)),
    dataBytes,
    beside: new Map(),
    weight: 1,
    ...more,
  };
}

function jsonSeed(name: string, json: unknown, more: Partial<Seed> = {}): Seed {
  return {
    name,
    file: `${name}.json`,
    reader: "json",
    container: "json",
    parts: partsOfJson(typeof json === "string" ? json : JSON.stringify(json)),
    dataBytes: 0,
    beside: new Map(),
    weight: 0.5,
    ...more,
  };
}

const file = (json: unknown): SeedFile => {
  const bytes = utf8.encode(JSON.stringify(json));
  return { bytes, byteLength: bytes.length };
};

const HF_LAYER: readonly (readonly [name: string, shape: readonly number[]])[] = [
  ["input_layernorm", [SIZE]],
  ["self_attn.q_proj", [HEADS * HEAD_SIZE, SIZE]],
  ["self_attn.k_proj", [KV_HEADS * HEAD_SIZE, SIZE]],
  ["self_attn.v_proj", [KV_HEADS * HEAD_SIZE, SIZE]],
  ["self_attn.o_proj", [SIZE, SIZE]],
  ["post_attention_layernorm", [SIZE]],
  ["mlp.gate_proj", [SIZE, SIZE]],
  ["mlp.up_proj", [SIZE, SIZE]],
  ["mlp.down_proj", [SIZE, SIZE]],
];

/** A safetensors header, and the bytes after it. */
function safetensorsHeader(
  tensors: readonly (readonly [name: string, shape: readonly number[]])[],
): { json: Record<string, unknown>; end: number } {
  let end = 0;
  const json: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, shape] of tensors) {
    const start = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    json[name] = { dtype: "F16", shape, data_offsets: [start, end] };
  }
  return { json, end };
}

const HF_TENSORS: readonly (readonly [string, readonly number[]])[] = [
  ["model.embed_tokens.weight", [VOCABULARY, SIZE]],
  ["model.norm.weight", [SIZE]],
  ...HF_LAYER.map(([name, shape]) => [`model.layers.0.${name}.weight`, shape] as const),
];

const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: SIZE,
  intermediate_size: SIZE,
  num_hidden_layers: 1,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  max_position_embeddings: 64,
  vocab_size: VOCABULARY,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 },
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: [2, 3],
};

const TOKENIZER = {
  added_tokens: [{ id: 0, content: "<s>", special: true, normalized: false, lstrip: true }],
  normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }] },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: " ?\\p{L}+" }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    ],
  },
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  },
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: { "<s>": 0, a: 1, b: 2, ab: 3, c: 4 }, merges: [["a", "b"]] },
};

const TOKENIZER_CONFIG = {
  bos_token: { content: "<s>" },
  eos_token: "c",
  add_bos_token: true,
  chat_template: [{ name: "default", template: "{{ messages[0].content }}" }],
};

const PROFILE = {
  scope: { globalSize: 4, localSize: 24, topK: 2, maxSpans: 2, spanSize: 4, votes: "count" },
  stepSize: 8,
  selectLayers: [0],
  forms: [{
    questions: ["What is {x}?"],
    completion: "{x} is",
    stopBefore: ["\n"],
    stopAfter: ["."],
  }],
};

/** The session header's seed, and the model that it is of. */
export const SESSION: SessionHeader = {
  model: {
    config: {
      architecture: "llama",
      hiddenSize: SIZE,
      intermediateSize: SIZE,
      numLayers: 1,
      numHeads: HEADS,
      numKvHeads: KV_HEADS,
      headDim: HEAD_SIZE,
      vocabSize: VOCABULARY,
      rmsNormEpsilon: 1e-5,
      ropeTheta: 10000,
      qkvBias: false,
      outputBias: false,
      qkNorm: false,
      trainedLength: 64,
      tiedEmbeddings: true,
      eosTokens: [2],
    },
    tokenizer: "0123456789abcdef",
    weights: "fedcba9876543210",
  },
  rules: {
    scope: {
      globalSize: 4,
      localSize: 24,
      topK: 2,
      maxSpans: 2,
      spanSize: 4,
      sharing: "layer",
      scores: "qk",
      selector: "exact",
      votes: "count",
      voteEvery: 1,
      positions: "scope",
    },
    stepSize: 8,
    select: "ask",
    selectLayers: [0],
    kvFormat: "i16",
    beyondTrainedLength: false,
    raw: false,
  },
  turns: [{ at: 3, of: "user" }],
  length: 40,
  textBytes: 100,
  numAnchors: 2,
  cache: {
    length: 36,
    layoutName: "planes 1",
    chunkSize: 16,
    channelBytes: 64,
    chunkBytes: 512,
    forgotten: [[1, 2]],
  },
};

/** What follows the session's header: tokens, anchors, channels, two of three chunks. */
const SESSION_BYTES = 40 * 4 + 4 + 2 * 24 + 4 + 64 + 4 + 2 * (512 + 4);

function sessionSeed(): Seed {
  const bytes = encodeHeader(SESSION);
  const text = new TextDecoder().decode(bytes.subarray(SESSION_FIXED_BYTES, -4));
  return jsonSeed("session", text, {
    file: "a.session",
    reader: "session",
    container: "session",
    dataBytes: SESSION_BYTES,
  });
}

/** Two files of one model. */
function splitSeeds(): Seed[] {
  const tensors = layerTensors(false);
  const half = [tensors.slice(0, 5), tensors.slice(5)];
  const names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
  const made = half.map((own, i) => {
    const { list, end } = placed(own);
    const pairs: Pair[] = [
      ...i === 0 ? [...shapePairs("llama"), ...SENTENCE_PIECE] : [],
      ["split.no", u16, value.u32(i).subarray(0, 2)],
      ["split.count", u16, value.u32(2).subarray(0, 2)],
      ["split.tensors.count", i32, value.u32(tensors.length)],
    ];
    return ggufSeed(`part ${i + 1} of a split GGUF`, { pairs, tensors: list }, end);
  });
  return made.flatMap((seed, i) => {
    const other = made[1 - i]!;
    const beside = new Map([[names[1 - i]!, assemble(other, other.parts)]]);
    const split = { ...seed, file: names[i]!, beside, weight: 0.5 };
    return [{ ...split, reader: "split" as const }, { ...split, reader: "model", weight: 0.05 }];
  }) as Seed[];
}

/** Of written files. */
function writtenSeeds(): Seed[] {
  const plain = placed(layerTensors(false));
  const biased = placed([
    ...layerTensors(true),
    { name: "output.weight", dimensions: [SIZE, VOCABULARY], type: 1 },
    { name: "rope_freqs.weight", dimensions: [HEAD_SIZE / 2], type: 0 },
  ]);
  const llama = { pairs: [...shapePairs("llama"), ...SENTENCE_PIECE], tensors: plain.list };
  const yarn: Pair[] = [
    ["qwen2.rope.scaling.type", string, value.string("none")],
    ["qwen2.rope.scaling.factor", f32, value.f32(1)],
  ];
  const qwen = {
    pairs: [...shapePairs("qwen2"), ...yarn, ...BYTE_LEVEL],
    tensors: biased.list,
  };
  const few = {
    pairs: [
      ["general.architecture", string, value.string("llama")],
      ["tokenizer.ggml.tokens", array, texts(["a", "b"])],
      ["general.alignment", u32, value.u32(64)],
    ] as Pair[],
    tensors: [
      { name: "a", dimensions: [8, 3], offset: 0 },
      { name: "b", dimensions: [32, 2], type: 8, offset: 128 },
      { name: "c", dimensions: [256], type: 12, offset: 256 },
    ],
  };
  const { json: header, end } = safetensorsHeader(HF_TENSORS);
  const small = safetensorsHeader([["a", [2, 3]], ["b", [0]], ["c", []]]);
  const safetensors = (name: string, json: unknown, dataBytes: number, more: Partial<Seed> = {}) =>
    jsonSeed(name, json, {
      file: "model.safetensors",
      reader: "safetensors",
      container: "safetensors",
      dataBytes,
      weight: 1,
      ...more,
    });
  const weights = safetensors("a model's safetensors", header, end);
  const whole = new Map([
    ["model.safetensors", assemble(weights, weights.parts)],
    ["config.json", file(CONFIG)],
    ["generation_config.json", file({ eos_token_id: [2] })],
    ["tokenizer.json", file(TOKENIZER)],
    ["tokenizer_config.json", file(TOKENIZER_CONFIG)],
    ["reattention.json", file(PROFILE)],
  ]);
  const inModel = (seed: Seed, name: string): Seed => ({
    ...seed,
    name: `${seed.name} of a model`,
    file: name,
    reader: "model",
    beside: new Map([...whole].filter(([key]) => key !== name)),
    weight: 0.04,
  });
  const index = jsonSeed("index", {
    metadata: { total_size: end },
    weight_map: { a: "one.safetensors", b: "one.safetensors", c: "two.safetensors" },
  });
  const shard = safetensors("a shard", small.json, small.end);
  const shards = new Map(
    ["one", "two"].map((name) => [`${name}.safetensors`, assemble(shard, shard.parts)] as const),
  );
  return [
    ggufSeed("an empty GGUF", {}, 0, { weight: 0.2 }),
    ggufSeed("a GGUF of a few tensors", few, 512, { weight: 4 }),
    ggufSeed("a GGUF with all types of metadata", { pairs: ALL_TYPES }, 0),
    ggufSeed("a Llama's GGUF", llama, plain.end),
    ggufSeed("a Qwen2's GGUF", qwen, biased.end),
    ggufSeed("a Llama's GGUF, loaded", llama, plain.end, { reader: "model", weight: 0.1 }),
    ggufSeed("a Qwen2's GGUF, loaded", qwen, biased.end, { reader: "model", weight: 0.1 }),
    ...splitSeeds(),
    safetensors("a small safetensors", small.json, small.end, { weight: 4 }),
    weights,
    { ...index, file: "model.safetensors.index.json", reader: "index", beside: shards },
    {
      ...shard,
      name: "a shard",
      file: "one.safetensors",
      reader: "index",
      beside: new Map([...shards, ["model.safetensors.index.json", assemble(index, index.parts)]]),
      weight: 0.3,
    },
    jsonSeed("config", CONFIG),
    jsonSeed("tokenizer", TOKENIZER, { weight: 0.3 }),
    jsonSeed("reattention", PROFILE),
    inModel(weights, "model.safetensors"),
    inModel(jsonSeed("config", CONFIG), "config.json"),
    inModel(jsonSeed("tokenizer", TOKENIZER), "tokenizer.json"),
    inModel(jsonSeed("tokenizer_config", TOKENIZER_CONFIG), "tokenizer_config.json"),
    inModel(jsonSeed("generation_config", { eos_token_id: [2] }), "generation_config.json"),
    inModel(jsonSeed("reattention", PROFILE), "reattention.json"),
    sessionSeed(),
  ];
}

/** A Llama's GGUF that would load, with other metadata besides its shape's. */
export function llamaWith(pairs: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const { list, end } = placed(layerTensors(false));
  const own = shapePairs("llama");
  const parts = partsOfGguf(ggufBytes({ pairs: own, tensors: list }));
  const count = numberBytes(BigInt(own.length + pairs.length), 8);
  const [before, after] = [
    parts.filter(({ group }) => group <= own.length),
    parts.filter(({ group }) => group > own.length),
  ];
  before[3] = { ...before[3]!, bytes: count };
  const header = concatBytes(joinParts(before), ...pairs, joinParts(after));
  return concatBytes(header, new Uint8Array(-header.length & ALIGNMENT - 1), new Uint8Array(end));
}

/** Headers of real files, where they are; rarely taken, because they are long. */
function realSeeds(): Seed[] {
  const seeds: Seed[] = [];
  const read = (url: URL) => existsSync(url) ? new Uint8Array(readFileSync(url)) : null;
  for (
    const [path, weight] of [
      ["models/hostile/every_metadata_type.gguf", 0.3],
      ["models/stories260K/stories260K-q8_0.gguf", 0.02],
    ] as const
  ) {
    const bytes = read(sharedUrl(path));
    if (bytes === null) continue;
    const parts = partsOfGguf(bytes);
    const header = joinParts(parts).length;
    const dataBytes = bytes.length - Math.ceil(header / ALIGNMENT) * ALIGNMENT;
    seeds.push({ ...ggufSeed(path, {}, Math.max(0, dataBytes)), parts, weight });
  }
  for (
    const [url, weight] of [
      [sharedUrl("models/hostile/tiny.safetensors"), 0.3],
      [new URL("models/pocket/model.safetensors", repository), 0.02],
    ] as const
  ) {
    const bytes = read(url);
    if (bytes === null) continue;
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const text = new TextDecoder().decode(bytes.subarray(8, 8 + length));
    seeds.push(jsonSeed(url.pathname.split("/").slice(-2).join("/"), text, {
      file: "model.safetensors",
      reader: "safetensors",
      container: "safetensors",
      dataBytes: bytes.length - 8 - length,
      weight,
    }));
  }
  return seeds;
}

/** All of them; the real ones last, so that what is written stays where it is without them. */
export function allSeeds(): readonly Seed[] {
  return [...writtenSeeds(), ...realSeeds()];
}

/** What tells one set of seeds from another: the same index is another input then. */
export function seedsFingerprint(seeds: readonly Seed[]): string {
  const writer = new ByteWriter();
  for (const { name, parts } of seeds) writer.string(name).u32(xxHash32(joinParts(parts)));
  return xxHash32(writer.bytes()).toString(16).padStart(8, "0");
}
