/**
 * What is damaged: small model files of each kind, written here, and headers of real ones.
 *
 * @module
 */

import { existsSync, readFileSync } from "node:fs";
import { xxHash32 } from "../../../src/files/xx_hash.ts";
import { encodeHeader } from "../../../src/llama/session_header.ts";
import { ByteWriter, GGUF, ggufBytes, type GgufParts, ggufValue as value } from "../model_bytes.ts";
import { repository, sharedUrl } from "../shared.ts";
import { concatBytes, joinParts, numberBytes, partsOfGguf, partsOfJson } from "./parts.ts";
import { ALIGNMENT, assemble, type Seed, type SeedFile, SESSION_FIXED_BYTES } from "./seed.ts";
import {
  CONFIG,
  HF_TENSORS,
  PROFILE,
  safetensorsHeader,
  SESSION,
  SESSION_BYTES,
  TOKENIZER,
  TOKENIZER_CONFIG,
} from "./small_files.ts";
import {
  ALL_TYPES,
  BYTE_LEVEL,
  HEAD_SIZE,
  layerTensors,
  type Pair,
  placed,
  SENTENCE_PIECE,
  shapePairs,
  SIZE,
  texts,
  VOCABULARY,
} from "./small_gguf.ts";

const { array, f32, string, u16, u32, i32 } = GGUF;

const utf8 = new TextEncoder();

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
