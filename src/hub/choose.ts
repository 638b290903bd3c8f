/**
 * Which files of a repository are the model that a name means. Nothing else is downloaded.
 *
 * @module
 */

import { parseGgufSplit } from "../files/gguf_split.ts";
import { WEIGHTS, WEIGHTS_INDEX } from "../files/safetensors.ts";
import { type HubName, isWeightsName } from "./name.ts";

/** A file of a repository. */
export interface HubFile {
  /** Within the repository. */
  readonly path: string;
  /** In bytes. */
  readonly byteLength: number;
}

/** The files of one model. */
export interface Choice<File extends HubFile> {
  /** Where they are: empty, or ending in a slash. */
  readonly folder: string;
  /** The weights' file name within it; null: model.safetensors or its index. */
  readonly fileName: string | null;
  /** What is needed; configuration first: where the weights are, all is. */
  readonly files: readonly File[];
  /** What was decided without being asked for; null where nothing was. */
  readonly note: string | null;
}

/** What may stand beside the weights. */
const COMPANIONS: readonly string[] = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "reattention.json",
];

/** The longest of these that is downloaded, in bytes; the largest known have about 35 MB. */
const MAX_COMPANION_BYTES = 128 * 2 ** 20;

/** In this order, where no quantisation is named: what llama.cpp takes first, then the nearest. */
const PREFERRED: readonly string[] = [
  "Q4_K_M",
  "Q4_K_S",
  "Q4_0",
  "Q5_K_M",
  "Q5_K_S",
  "Q5_0",
  "Q6_K",
  "Q8_0",
  "Q4_1",
  "Q5_1",
  "F16",
  "BF16",
  "F32",
];

/** The most names that an error lists. */
const MAX_LISTED = 20;

/**
 * Finds the files that a name means: the named one; the GGUF with the named quantisation, in all
 * its parts; else the safetensors model, else the only GGUF or the preferred one.
 *
 * @throws {Error} If there are none, or several fit equally; lists what there is.
 */
export function chooseFiles<File extends HubFile>(
  all: readonly File[],
  name: HubName,
): Choice<File> {
  const { path, quant } = name;
  if (isWeightsName(path)) {
    const [, folder, fileName] = /^(.*\/)?([^/]*)$/.exec(path)! as unknown as string[];
    return collect(all, name, folder ?? "", fileName!, null);
  }
  const folder = path === "" ? "" : `${path}/`;
  const has = (fileName: string) => all.some((file) => file.path === folder + fileName);
  if (quant === null && (has(WEIGHTS) || has(WEIGHTS_INDEX))) {
    return collect(all, name, folder, null, null);
  }
  const models = ggufModels(all, folder);
  const fitting = quant === null
    ? preferred(models)
    : models.filter((gguf) => carries(gguf, quant));
  if (fitting.length !== 1) {
    throw notOne(name, models, fitting, all);
  }
  const [, place, fileName] = /^(.*\/)?([^/]*)$/.exec(fitting[0]!)! as unknown as string[];
  const note = quant === null && models.length > 1
    ? `chose ${fileName} of ${models.length} GGUF models; another by ${
      name.text.split("#")[0]
    }:NAME`
    : null;
  return collect(all, name, place ?? "", fileName!, note);
}

/** Paths of GGUF models below a folder; of a split one the first part. */
function ggufModels(all: readonly HubFile[], folder: string): string[] {
  return all.map(({ path }) => path).filter((path) =>
    path.startsWith(folder) && /\.gguf$/i.test(path) &&
    (parseGgufSplit(path)?.number ?? 1) === 1 &&
    // What a model sees with, or was quantised by: not the model.
    !/(^|[-._/])(mmproj|imatrix)/i.test(path)
  );
}

/** Whether a path carries a quantisation as a word of its own: Q4_K is no part of Q4_K_M. */
function carries(path: string, quant: string): boolean {
  const wanted = quant.toLowerCase();
  const text = path.toLowerCase();
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
    const before = text[at - 1] ?? "/";
    const after = text[at + wanted.length] ?? "/";
    if (/[-._/]/.test(before) && /[-./]/.test(after)) return true;
  }
  return false;
}

function preferred(models: readonly string[]): readonly string[] {
  if (models.length === 1) return models;
  for (const quant of PREFERRED) {
    const fitting = models.filter((path) => carries(path, quant));
    if (fitting.length > 0) return fitting;
  }
  return [];
}

function notOne(
  name: HubName,
  models: readonly string[],
  fitting: readonly string[],
  all: readonly HubFile[],
): Error {
  const { text, quant } = name;
  const at = name.path === "" ? "" : ` in ${name.path}`;
  if (fitting.length > 1) {
    return new Error(
      `Cannot open "${text}": one GGUF must ${
        quant === null ? "be there, or one be the first choice" : `carry ${quant} in its name`
      }, found ${list(fitting)}; name the file`,
    );
  }
  if (models.length > 0) {
    return new Error(
      `Cannot open "${text}": a GGUF must ${
        quant === null ? "be a known quantisation, or be named" : `carry ${quant} in its name`
      }, found ${list(models)}`,
    );
  }
  const weights = all.map(({ path }) => path).filter((path) =>
    /\.(safetensors|gguf|bin|pth?|onnx|h5|msgpack)$/i.test(path)
  );
  return new Error(
    quant === null
      ? `Cannot open "${text}": there must be ${WEIGHTS}, its index or a .gguf${at}, found ${
        list(weights)
      }`
      : `Cannot open "${text}": there must be a .gguf with ${quant} in its name${at}, found ${
        list(weights)
      }`,
  );
}

function list(paths: readonly string[]): string {
  if (paths.length === 0) return "none";
  const shown = paths.slice(0, MAX_LISTED).join(", ");
  return paths.length > MAX_LISTED ? `${shown} and ${paths.length - MAX_LISTED} more` : shown;
}

/** The weights and what stands beside them. */
function collect<File extends HubFile>(
  all: readonly File[],
  name: HubName,
  folder: string,
  fileName: string | null,
  note: string | null,
): Choice<File> {
  const byPath = new Map(all.map((file) => [file.path, file]));
  const companions = COMPANIONS.flatMap((companion) => byPath.get(folder + companion) ?? []);
  for (const { path, byteLength } of companions) {
    if (byteLength > MAX_COMPANION_BYTES) {
      throw new RangeError(
        `Cannot open "${name.text}": ${path} must have at most ${MAX_COMPANION_BYTES} bytes, ` +
          `got ${byteLength}`,
      );
    }
  }
  const weights = weightNames(all, folder, fileName).map((weight) => {
    const file = byPath.get(folder + weight);
    if (file !== undefined) return file;
    const found = all.map(({ path }) => path).filter(isWeightsName);
    throw new Error(
      `Cannot open "${name.text}": ${folder}${weight} must be there, found ${list(found)}`,
    );
  });
  return { folder, fileName, files: [...companions, ...weights], note };
}

function weightNames(all: readonly HubFile[], folder: string, fileName: string | null): string[] {
  const isThere = (weight: string) => all.some((file) => file.path === folder + weight);
  const named = fileName ?? (isThere(WEIGHTS) ? WEIGHTS : WEIGHTS_INDEX);
  if (named === WEIGHTS_INDEX) {
    // As all that write them name them; an index that names others has them fetched when they are opened.
    const shards = all.map(({ path }) => path.slice(folder.length)).filter((rest, i) =>
      all[i]!.path.startsWith(folder) && /^model-\d{5}-of-\d{5}\.safetensors$/.test(rest)
    );
    return [WEIGHTS_INDEX, ...shards];
  }
  const split = parseGgufSplit(named);
  if (split === null) return [named];
  return Array.from(
    { length: Math.min(split.count, all.length + 1) },
    (_, i) => split.nameOf(i + 1),
  );
}
