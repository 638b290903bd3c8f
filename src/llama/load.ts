/**
 * From files to a model that is ready to read.
 *
 * @module
 */

import type { Backend, BackendName } from "../backend/backend.ts";
import { type BackendOptions, openBackend } from "../backend/open.ts";
import { createRope } from "../reattention/rope.ts";
import type { TensorTable } from "../files/tensor_table.ts";
import { fingerprint } from "../files/xx_hash.ts";
import type { HubAccess } from "../hub/access.ts";
import { readGgufTokenizer } from "../text/gguf_tokenizer.ts";
import { createTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import { answerMode, type Chat, createChat, endTokens } from "./chat.ts";
import type { LlamaConfig } from "./config.ts";
import { type ModelIdentity, watchWeights } from "./identity.ts";
import { Llama } from "./llama.ts";
import { watchProgress } from "./load_watch.ts";
import { type ModelSource, openModelFiles } from "./model_files.ts";
import type { Profile } from "./profile.ts";
import { Session } from "./session.ts";
import type { RestoreSource } from "./session_file.ts";
import type { OpenSpillFile } from "./session_memory.ts";
import type { RestoreOptions, SessionOptions } from "./session_options.ts";
import { findWeights, loadWeights } from "./weights.ts";

/**
 * The model that comes with the library: 2.6 million parameters, trained to 512 tokens. It answers
 * the question forms on its card (models/pocket/README.md) and is no assistant.
 */
export const EMBEDDED_MODEL: URL = new URL("../../models/pocket/", import.meta.url);

/** How a model is loaded; `signal` ends the loading. */
export interface LoadOptions extends BackendOptions, HubAccess {
  /**
   * The most memory to hold, in bytes. Default: three quarters of what the machine, or the container, has
   * available; 4 GiB where that is unknown.
   */
  readonly memoryLimit?: number;
  /** A name, or an open backend that stays the caller's. Default `"auto"`. */
  readonly backend?: BackendName | "auto" | Backend;
}

/** A model in memory. Sessions read with it. */
export class Model implements Disposable {
  /** Where it came from. */
  readonly name: string;
  readonly config: LlamaConfig;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  /** What comes with the model beside its weights: a scope, question forms. */
  readonly profile: Profile | null;
  /** Its chat template, where it answers by that; null for base models and those with question forms. */
  readonly chat: Chat | null;
  /** Tokens that end a text or an answer. */
  readonly endTokens: readonly number[];
  /** What the weights occupy, in bytes. */
  readonly weightBytes: number;
  /** The decoder itself, for those who bring their own loop. */
  readonly llama: Llama;
  /** What ties the files of its sessions to it. */
  readonly identity: ModelIdentity;
  /** How sessions spill into a folder; null where there are no files. */
  readonly openSpillFile: OpenSpillFile | null;
  /** The same model on the wasm backend, loaded when it is first asked for; null where it is not on a GPU of its own. */
  readonly fallback: (() => Promise<Model>) | null;
  readonly #ownsBackend: boolean;
  #fallen: Promise<Model> | null = null;

  /** Made by {@linkcode loadModel}. */
  constructor(
    parts: Pick<
      Model,
      | "name"
      | "config"
      | "tokenizer"
      | "backend"
      | "profile"
      | "chat"
      | "endTokens"
      | "weightBytes"
      | "llama"
      | "identity"
      | "openSpillFile"
    >,
    ownsBackend: boolean,
    reload: (() => Promise<Model>) | null = null,
  ) {
    this.name = parts.name;
    this.config = parts.config;
    this.tokenizer = parts.tokenizer;
    this.backend = parts.backend;
    this.profile = parts.profile;
    this.chat = parts.chat;
    this.endTokens = parts.endTokens;
    this.weightBytes = parts.weightBytes;
    this.llama = parts.llama;
    this.identity = parts.identity;
    this.openSpillFile = parts.openSpillFile;
    this.#ownsBackend = ownsBackend;
    this.fallback = reload && (() => this.#fallen ??= reload());
  }

  /**
   * Opens an empty sequence.
   *
   * @throws {RangeError} If the scope or step does not fit the trained length; says what would.
   */
  session(options: SessionOptions = {}): Session {
    return new Session(this, options);
  }

  /**
   * Goes on with a session that {@linkcode Session.save} kept: same tokens, to the last bit, as if it had never
   * ended. The file is read once, straight through, and never held whole.
   *
   * @param source A path, a URL, or a source of bytes.
   * @param options Where it is not to go on as it was.
   * @throws {SessionFileError} If the file is damaged, of another model or backend, or no session's.
   * @throws {OutOfMemoryError} If there is no room for its cache.
   *
   * @example Usage
   * ```ts
   * import { fromBlob, loadModel } from "../../mod.ts";
   * import { equal } from "node:assert/strict";
   *
   * using model = await loadModel();
   * using session = model.session();
   * await session.prefill(model.tokenizer.encode("It was a dark and stormy night"));
   * const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
   * const [blob] = await Promise.all([new Response(readable).blob(), session.save(writable)]);
   * using restored = await model.restore(fromBlob(blob, "a session"));
   * equal(restored.textOf(0, restored.length), "It was a dark and stormy night");
   * ```
   */
  restore(source: RestoreSource, options: RestoreOptions = {}): Promise<Session> {
    return Session.restore(this, source, options);
  }

  /** Frees the weights, and the backend if the model opened it. Dispose sessions first. */
  [Symbol.dispose](): void {
    this.llama[Symbol.dispose]();
    if (this.#ownsBackend) this.backend[Symbol.dispose]();
    this.#fallen?.then((model) => model[Symbol.dispose](), () => {});
  }
}

/**
 * Loads a model.
 *
 * @param source A directory in Hugging Face's layout (config.json, model.safetensors or its sharded
 * index, tokenizer.json), a file in one (a GGUF brings its own tokenizer), a URL of either, or a map from file names to sources of
 * bytes; or a name on the hub: `hf:user/model`, `hf:user/model:Q4_K_M`, `hf:user/model/file.gguf`, each with
 * `#revision` or without. That is downloaded into the hub's cache, checked, and gone on with after a break; where there
 * are no files it is read by ranges. Default: the embedded model.
 * @throws {ModelFormatError} If a file is not what it claims to be.
 * @throws {OutOfMemoryError} If the weights do not fit; nothing of them has been read then.
 *
 * @example Usage
 * ```ts
 * import { loadModel } from "../../mod.ts";
 * import { match } from "node:assert/strict";
 *
 * using model = await loadModel();
 * using session = model.session();
 * const writer = session.writable().getWriter();
 * await writer.write("It was a dark and stormy night, and the old man");
 * await writer.close();
 * let text = "";
 * for await (const piece of session.continue({ maxTokens: 8 })) text += piece;
 * match(text, /^ had a little dark/);
 * ```
 */
export async function loadModel(
  source: ModelSource = EMBEDDED_MODEL,
  options: LoadOptions = {},
): Promise<Model> {
  const { backend: wanted = "auto", ...given } = options;
  const host = await findHost();
  const memoryLimit = given.memoryLimit ?? host?.memoryLimit() ?? undefined;
  const backendOptions = memoryLimit === undefined ? given : { ...given, memoryLimit };
  const { close, tensors, tokenizerFingerprint, ...parts } = await prepare(source, options);
  const { config } = parts;
  try {
    const ownsBackend = typeof wanted === "string";
    const backend = typeof wanted === "string" ? await openBackend(wanted, backendOptions) : wanted;
    try {
      const before = backend.byteLength;
      const watch = watchProgress(watchWeights(), tensors, options);
      const weights = await loadWeights(backend, tensors, config, watch);
      const weightBytes = backend.byteLength - before;
      const rope = createRope(config.ropeTheta, config.headDim, config.ropeScaling);
      const llama = new Llama(backend, config, weights, rope);
      const identity = { config, tokenizer: tokenizerFingerprint, weights: watch.fingerprint() };
      return new Model(
        {
          ...parts,
          backend,
          weightBytes,
          llama,
          identity,
          openSpillFile: host?.createTemporaryFile ?? null,
        },
        ownsBackend,
        ownsBackend && backend.name === "webgpu"
          ? () => loadModel(source, { ...options, backend: "wasm" })
          : null,
      );
    } catch (error) {
      if (ownsBackend) backend[Symbol.dispose]();
      throw error;
    }
  } finally {
    await close();
  }
}

/** What a model is made of but its weights; those are found, and none is read. */
interface Prepared extends
  Pick<
    Model,
    "name" | "config" | "tokenizer" | "profile" | "chat" | "endTokens"
  > {
  readonly tensors: TensorTable;
  readonly tokenizerFingerprint: string;
  /** Closes the files. */
  close(): Promise<void>;
}

/**
 * All that goes before the weights, in a function of its own: what files say in a hundred thousand texts
 * is gone when it returns.
 */
async function prepare(source: ModelSource, options: LoadOptions): Promise<Prepared> {
  const files = await openModelFiles(source, options);
  try {
    const { config, profile, name, tensors } = files;
    // Reads nothing, but refuses a configuration of more than the file has before that sizes anything.
    findWeights(tensors, config);
    const found = files.tokenizer !== null
      ? { json: files.tokenizer, config: files.tokenizerConfig }
      : readGgufTokenizer(tensors.metadata, name);
    if (found === null) {
      throw new TypeError(
        `Cannot load ${name}: a tokenizer must be in the file or a tokenizer.json beside the weights, found none`,
      );
    }
    const tokenizer = createTokenizer(found.json, found.config, {
      vocabSize: config.vocabSize,
      name,
    });
    const template = files.chatTemplate;
    const chat = template && answerMode(profile, template) === "chat template"
      ? createChat(template, tokenizer)
      : null;
    const metadata = [...tensors.metadata].filter(([, value]) => typeof value !== "object");
    return {
      name,
      config,
      tokenizer,
      profile,
      chat,
      endTokens: endTokens(config.eosTokens, tokenizer, tensors.metadata, chat),
      tensors: { ...tensors, metadata: new Map(metadata) },
      tokenizerFingerprint: files.tokenizerFingerprint ??
        fingerprint(new TextEncoder().encode(JSON.stringify([found.json, found.config]))),
      close: files.close,
    };
  } catch (error) {
    await files.close();
    throw error;
  }
}

/** What a machine with files offers; null in browsers and where modules of the host are missing. */
async function findHost(): Promise<
  | Pick<typeof import("../system/memory.ts"), "memoryLimit">
    & Pick<typeof import("../system/spill_file.ts"), "createTemporaryFile">
  | null
> {
  if (!("process" in globalThis)) return null;
  try {
    // Not at the top, because browsers have no such modules.
    const { memoryLimit } = await import("../system/memory.ts");
    const { createTemporaryFile } = await import("../system/spill_file.ts");
    return { memoryLimit, createTemporaryFile };
  } catch {
    return null;
  }
}
