/**
 * Files of any size that ask for as much as they can for each of their bytes.
 *
 * @module
 */

import { concatBytes, repeatBytes } from "./parts.ts";
import { llamaWith } from "./seeds.ts";
import { ByteWriter, GGUF, ggufBytes, ggufValue, safetensorsBytes } from "../model_bytes.ts";

/** One of them. */
export interface Bomb {
  readonly name: string;
  readonly reader: "gguf" | "safetensors" | "model";
  /** A file of about so many bytes. */
  bytes(size: number): Uint8Array<ArrayBuffer>;
}

const { array, bool, string, u8 } = GGUF;
const utf8 = new TextEncoder();

/** A GGUF whose one pair is an array of so many items. */
function arrayOf(type: number, item: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const count = Math.floor(size / item.length);
  const start = ggufBytes({ pairCount: 1 });
  const pair = new ByteWriter().string("x").u32(array).u32(type).u64(count).bytes();
  return concatBytes(start, pair, repeatBytes(item, count));
}

/** The same item again and again, but for a counter's eight digits. */
function counted(size: number, before: string, after: string): Uint8Array<ArrayBuffer> {
  const item = utf8.encode(`${before}00000000${after}`);
  const count = Math.floor(size / item.length);
  const bytes = repeatBytes(item, count);
  const at = utf8.encode(before).length;
  for (let i = 0; i < count; i++) {
    for (let digit = 7, rest = i; digit >= 0; digit--) {
      bytes[i * item.length + at + digit] = 48 + rest % 10;
      rest = Math.floor(rest / 10);
    }
  }
  return bytes;
}

/** A safetensors whose header is a beginning, items and an end. */
function header(start: string, items: Uint8Array, end: string): Uint8Array<ArrayBuffer> {
  const empty = safetensorsBytes("");
  const text = concatBytes(utf8.encode(start), items, utf8.encode(end));
  new DataView(empty.buffer).setBigUint64(0, BigInt(text.length), true);
  return concatBytes(empty, text);
}

const repeated = (item: string, size: number) => {
  const bytes = utf8.encode(item);
  return repeatBytes(bytes, Math.floor(size / bytes.length));
};

/** A tensor of nothing, whose name is a counter's eight digits. */
function tensors(size: number): Uint8Array<ArrayBuffer> {
  const item = new ByteWriter().string("").u32(1).u64(0).u32(0).u64(0).bytes();
  const before = String.fromCharCode(8, 0, 0, 0, 0, 0, 0, 0);
  const after = new TextDecoder().decode(item.subarray(8));
  const infos = counted(size, before, after);
  const count = infos.length / (8 + item.length);
  return concatBytes(ggufBytes({ tensorCount: count }), infos);
}

/** A pair whose value is an array of so many texts, each a counter's eight digits between others. */
function countedTexts(key: string, size: number, before: string, after: string): Uint8Array {
  const length = String.fromCharCode(before.length + 8 + after.length, 0, 0, 0, 0, 0, 0, 0);
  const items = counted(size, `${length}${before}`, after);
  const count = items.length / (8 + before.length + 8 + after.length);
  const start = new ByteWriter().string(key).u32(array).u32(string).u64(count).bytes();
  return concatBytes(start, items);
}

const textPair = (key: string, text: string) =>
  new ByteWriter().string(key).u32(string).string(text).bytes();

/** All of them. */
export const BOMBS: readonly Bomb[] = [
  {
    name: "GGUF, empty arrays in an array",
    reader: "gguf",
    bytes: (size) => arrayOf(array, ggufValue.array(u8, 0, []), size),
  },
  {
    name: "GGUF, empty texts",
    reader: "gguf",
    bytes: (size) => arrayOf(string, ggufValue.string(""), size),
  },
  {
    name: "GGUF, short texts",
    reader: "gguf",
    bytes: (size) => arrayOf(string, ggufValue.string("ab"), size),
  },
  {
    name: "GGUF, truths",
    reader: "gguf",
    bytes: (size) => arrayOf(bool, Uint8Array.of(1), size),
  },
  {
    name: "GGUF, bytes",
    reader: "gguf",
    bytes: (size) => arrayOf(u8, Uint8Array.of(1), size),
  },
  {
    name: "GGUF, an alignment of bytes",
    reader: "gguf",
    bytes: (size) => {
      const file = arrayOf(GGUF.i8, Uint8Array.of(0x80), size);
      const key = new ByteWriter().string("general.alignment").bytes();
      return concatBytes(file.subarray(0, 24), key, file.subarray(24 + 9));
    },
  },
  {
    name: "GGUF, an architecture of NULs",
    reader: "gguf",
    bytes: (size) => {
      const most = Math.min(size, 16 * 2 ** 20);
      const text = concatBytes(new ByteWriter().u64(most).bytes(), new Uint8Array(most));
      const key = new ByteWriter().string("general.architecture").u32(string).bytes();
      return concatBytes(ggufBytes({ pairCount: 1 }), key, text);
    },
  },
  { name: "GGUF, tensors of nothing", reader: "gguf", bytes: tensors },
  {
    name: "GGUF, a model of more tokens than it has",
    reader: "model",
    bytes: (size) =>
      llamaWith([
        textPair("tokenizer.ggml.model", "llama"),
        countedTexts("tokenizer.ggml.tokens", size, "", ""),
      ]),
  },
  {
    name: "GGUF, a model of more merges than tokens",
    reader: "model",
    bytes: (size) =>
      llamaWith([
        textPair("tokenizer.ggml.model", "gpt2"),
        countedTexts("tokenizer.ggml.tokens", 8 * 16, "", ""),
        countedTexts("tokenizer.ggml.merges", size, "", " a"),
      ]),
  },
  {
    name: "safetensors, empty lists",
    reader: "safetensors",
    bytes: (size) => header('{"a":[[]', repeated(",[]", size), "]}"),
  },
  {
    name: "safetensors, empty objects",
    reader: "safetensors",
    bytes: (size) => header('{"a":[{}', repeated(",{}", size), "]}"),
  },
  {
    name: "safetensors, numbers",
    reader: "safetensors",
    bytes: (size) => header('{"a":[0', repeated(",1", size), "]}"),
  },
  {
    name: "safetensors, names",
    reader: "safetensors",
    bytes: (size) => header('{"a":0', counted(size, ',"', '":0'), "}"),
  },
  {
    name: "safetensors, names in __metadata__",
    reader: "safetensors",
    bytes: (size) => header('{"__metadata__":{"a":""', counted(size, ',"', '":""'), "}}"),
  },
  {
    name: "safetensors, tensors of nothing",
    reader: "safetensors",
    bytes: (size) =>
      header(
        '{"__metadata__":{}',
        counted(size, ',"', '":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'),
        "}",
      ),
  },
  {
    name: "safetensors, a shape of many numbers",
    reader: "safetensors",
    bytes: (size) =>
      header('{"a":{"dtype":"U8","shape":[1', repeated(",1", size), '],"data_offsets":[0,0]}}'),
  },
];
