/**
 * The files of a model, wherever they are: found, opened, their headers read. No weight is read
 * here.
 *
 * @module
 */

import { ModelFormatError } from "../errors.ts";
import { type ByteSource, readBytes } from "../files/byte_source.ts";
import { parseGgufSplit, readSplitGguf } from "../files/gguf_split.ts";
import { HttpError } from "../files/http_range.ts";
import { fromUrl, type FromUrlOptions } from "../files/http_source.ts";
import { parseJson } from "../files/json.ts";
import {
  readSafetensors,
  readShardedSafetensors,
  WEIGHTS,
  WEIGHTS_INDEX,
} from "../files/safetensors.ts";
import type { TensorTable } from "../files/tensor_table.ts";
import { fingerprint } from "../files/xx_hash.ts";
import type { HubAccess } from "../hub/access.ts";
import { type ChatTemplate, findChatTemplate } from "./chat.ts";
import { type LlamaConfig, parseGgufConfig, parseHfConfig } from "./config.ts";
import { parseProfile, type Profile } from "./profile.ts";
import { readFactors } from "./rope_scaling.ts";

/**
 * Where a model is: the path or URL (`http:`, `https:`, `file:`) of a directory or of a
 * `.safetensors` or `.gguf` file; its name on the hub, `hf:user/model`, `hf:user/model:Q4_K_M` or
 * `hf:user/model/file.gguf`, with or without `#revision`; or its files by name, e.g. from a drop on
 * a page.
 */
export type ModelSource = string | URL | Readonly<Record<string, ByteSource>>;

/** A model's files, open. */
export interface ModelFiles {
  /** The source, for people. */
  readonly name: string;
  readonly config: LlamaConfig;
  readonly tensors: TensorTable;
  /** The parsed tokenizer.json; null where there is none. */
  readonly tokenizer: unknown;
  /** Of the bytes of tokenizer.json; null where there is none. */
  readonly tokenizerFingerprint: string | null;
  /** The parsed tokenizer_config.json; null where there is none. */
  readonly tokenizerConfig: unknown;
  /** Null where there is none: a base model. */
  readonly chatTemplate: ChatTemplate | null;
  /** The parsed generation_config.json; null where there is none. */
  readonly generationConfig: unknown;
  /** From reattention.json; null where there is none. */
  readonly profile: Profile | null;
  /** All files that hold weights, in bytes. */
  readonly byteLength: number;
  /** Closes what was opened here; sources that were handed in stay open. */
  close(): Promise<void>;
}

/** The longest configuration that is read, in bytes. */
export const MAX_CONFIG_BYTES: number = 16 * 2 ** 20;
/** The longest tokenizer.json that is read, in bytes; the largest known have about 35 MB. */
export const MAX_TOKENIZER_BYTES: number = 128 * 2 ** 20;

/**
 * Opens a model: reads its configuration, tokenizer and profile, and the headers of its weights.
 *
 * A directory is in Hugging Face's layout: config.json, model.safetensors or its sharded index,
 * tokenizer.json; tokenizer_config.json, chat_template.jinja, generation_config.json and
 * reattention.json where they are. Beside a single file the same are looked for; a `.gguf` needs none of them.
 * What has a name on the hub is downloaded first, where there are files.
 *
 * @param options How URLs are fetched, and what the hub offers.
 * @throws {Error} If there is no model at the place; the message says what was looked for.
 * @throws {ModelFormatError} If a file is not what it claims to be.
 */
export async function openModelFiles(
  source: ModelSource,
  options: HubAccess = {},
): Promise<ModelFiles> {
  const opened: ByteSource[] = [];
  const close = async () => {
    for (const file of opened.splice(0)) await file.close?.();
  };
  try {
    const place = await findPlace(source, options);
    const files = await readModelFiles(place, async (fileName) => {
      const file = await place.open(fileName);
      if (file && !place.isCallers) opened.push(file);
      return file;
    });
    return { ...files, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A folder of files, and which of them is meant. */
interface Place {
  readonly name: string;
  /** The weights' file name where the source named one; null: to be found. */
  readonly fileName: string | null;
  /** Whether the sources stay the caller's. */
  readonly isCallers: boolean;
  /** Null where there is no such file. */
  open(fileName: string): Promise<ByteSource | null>;
}

async function findPlace(source: ModelSource, options: HubAccess): Promise<Place> {
  if ((typeof source === "string" || source instanceof URL) && /^hf:/i.test(String(source))) {
    // Not at the top, because only these need what lists the hub.
    const { findOnHub } = await import("../hub/place.ts");
    return { ...await findOnHub(String(source), options), isCallers: false };
  }
  if (typeof source === "string" && /^(https?|file):/i.test(source)) {
    return await findPlace(new URL(source), options);
  }
  if (typeof source === "string") return await findPath(source);
  if (!(source instanceof URL)) return findInMap(source);
  if (source.protocol === "file:") {
    // Not at the top, because browsers have no such module.
    const { pathOf } = await import("../system/file_source.ts");
    return await findPath(pathOf(source));
  }
  return findUrl(source, options);
}

async function findPath(path: string): Promise<Place> {
  const { kindOf, openFile } = await import("../system/file_source.ts");
  const kind = await kindOf(path);
  if (kind === "missing") {
    throw new Error(`Cannot open the model "${path}": there is no such file or directory`);
  }
  const [, folder, fileName] = kind === "directory"
    ? ["", path.replace(/[/\\]+$/, "") + "/", null]
    : path.match(/^(.*[/\\])?([^/\\]*)$/s)!;
  return {
    name: path,
    fileName: fileName ?? null,
    isCallers: false,
    async open(name) {
      const file = (folder ?? "") + name;
      return await kindOf(file) === "missing" ? null : await openFile(file);
    },
  };
}

function findUrl(url: URL, options: FromUrlOptions): Place {
  const isFile = isWeights(url.pathname) || url.pathname.endsWith(WEIGHTS_INDEX);
  const fileName = isFile ? url.pathname.split("/").at(-1)! : null;
  const base = new URL(url);
  if (!isFile && !base.pathname.endsWith("/")) base.pathname += "/";
  return {
    name: url.href,
    fileName,
    isCallers: false,
    async open(name) {
      // The named file's name is encoded already. A token or a version counts for all files.
      const file = new URL(name === fileName ? name : encodeURIComponent(name), base);
      file.search = url.search;
      try {
        return await fromUrl(file, options);
      } catch (error) {
        if (error instanceof HttpError && (error.status === 404 || error.status === 410)) {
          return null;
        }
        throw error;
      }
    },
  };
}

function findInMap(files: Readonly<Record<string, ByteSource>>): Place {
  const names = Object.keys(files);
  const weights = names.filter(isWeights);
  const splits = weights.map((name) => parseGgufSplit(name));
  // The files of one split model: any of them names all.
  const first = splits[0]?.nameOf(1);
  const isOne = weights.length === 1 ||
    (first !== undefined && splits.every((split) => split?.nameOf(1) === first));
  const isDirectory = names.includes(WEIGHTS) || names.includes(WEIGHTS_INDEX);
  return {
    name: isOne ? files[weights[0]!]!.name : `the files ${names.join(", ")}`,
    fileName: !isDirectory && isOne ? weights[0]! : null,
    isCallers: true,
    open: (name) => Promise.resolve(Object.hasOwn(files, name) ? files[name]! : null),
  };
}

function isWeights(name: string): boolean {
  return /\.(safetensors|gguf)$/i.test(name);
}

async function readModelFiles(
  place: Place,
  open: Place["open"],
): Promise<Omit<ModelFiles, "close">> {
  const readJson = async (fileName: string, most = MAX_CONFIG_BYTES) => {
    const file = await open(fileName);
    return file && await readJsonFile(file, most);
  };
  const tensors = await openTensors(place, open);
  const generation = await readJson("generation_config.json");
  let config: LlamaConfig;
  if (tensors.format === "gguf") {
    config = parseGgufConfig(tensors);
    const ropeScaling = await readFactors(tensors, config.headDim >> 1, config.ropeScaling);
    if (ropeScaling !== undefined) config = { ...config, ropeScaling };
  } else {
    const json = await readJson("config.json") ??
      notThere(place, "config.json must be beside the weights");
    config = parseHfConfig(json.value, json.name, generation?.value);
  }
  const profile = await readJson("reattention.json");
  const tokenizer = await readJson("tokenizer.json", MAX_TOKENIZER_BYTES);
  const tokenizerConfig = (await readJson("tokenizer_config.json"))?.value ?? null;
  const jinja = await open("chat_template.jinja");
  const sources = new Set([...tensors.tensors.values()].map((tensor) => tensor.source));
  return {
    name: place.name,
    config,
    tensors,
    tokenizer: tokenizer?.value ?? null,
    tokenizerFingerprint: tokenizer?.fingerprint() ?? null,
    tokenizerConfig,
    chatTemplate: findChatTemplate({
      name: place.name,
      jinja: jinja && new TextDecoder().decode(await readConfigFile(jinja, MAX_CONFIG_BYTES)),
      tokenizerConfig,
      metadata: tensors.metadata,
    }),
    generationConfig: generation?.value ?? null,
    profile: profile && parseProfile(profile.value, profile.name, config.numLayers),
    byteLength: [...sources].reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

async function openTensors(place: Place, open: Place["open"]): Promise<TensorTable> {
  const openShard = async (name: string) =>
    await open(name) ?? notThere(place, `${name} must be there, as ${WEIGHTS_INDEX} says`);
  if (place.fileName === null) {
    const weights = await open(WEIGHTS);
    if (weights) return await readSafetensors(weights);
    const index = await open(WEIGHTS_INDEX);
    if (index) return await readShardedSafetensors(index, openShard);
    return notThere(
      place,
      `looked for ${WEIGHTS} and ${WEIGHTS_INDEX} (name a .gguf or .safetensors file to open that)`,
    );
  }
  const file = await openShard(place.fileName);
  if (file.byteLength === 0) {
    throw new ModelFormatError("Cannot open the model: the file is empty", file.name, 0);
  }
  if (place.fileName === WEIGHTS_INDEX) return await readShardedSafetensors(file, openShard);
  // By content, not by name: a model may be called anything.
  const magic = await readBytes(file, 0, Math.min(4, file.byteLength));
  return String.fromCharCode(...magic) === "GGUF" || /\.gguf$/i.test(place.fileName)
    ? await readSplitGguf(
      file,
      place.fileName,
      async (name) =>
        await open(name) ?? notThere(place, `${name} must be beside ${place.fileName}`),
    )
    : await readSafetensors(file);
}

function notThere(place: Place, what: string): never {
  throw new Error(`Cannot open the model "${place.name}": ${what}, found none`);
}

async function readJsonFile(
  file: ByteSource,
  most: number,
): Promise<{ name: string; value: unknown; fingerprint: () => string }> {
  const bytes = await readConfigFile(file, most);
  const { value } = parseJson(bytes, { name: file.name });
  return { name: file.name, value, fingerprint: () => fingerprint(bytes) };
}

async function readConfigFile(file: ByteSource, most: number): Promise<Uint8Array> {
  if (file.byteLength > most) {
    throw new ModelFormatError(
      `Cannot read the configuration: the file must have at most ${most} bytes, got ${file.byteLength}`,
      file.name,
      0,
    );
  }
  return await readBytes(file, 0, file.byteLength);
}
