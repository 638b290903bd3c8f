/**
 * Streaming ReAttention: an ordinary language model reads a text of any length. Keys and values are
 * kept unrotated; each attention call reads a finite scope of them, renumbered to fit what the model
 * was trained on; what enters the scope is chosen by a position-agnostic top-k over everything read.
 *
 * @example Ask about a stream
 * ```ts
 * import { loadModel } from "./mod.ts";
 * import { equal } from "node:assert/strict";
 *
 * using model = await loadModel();
 * using session = model.session();
 * const page = "The sea was calm, and nobody spoke for a long while. ".repeat(200);
 * await new Blob([page, "The pass key is 71432. Remember it. 71432 is the pass key. ", page])
 *   .stream()
 *   .pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
 *   .pipeTo(session.writable());
 *
 * let answer = "";
 * for await (const text of session.ask("What is the pass key?", { maxTokens: 16 })) answer += text;
 * equal(answer.slice(0, 5), "71432");
 * ```
 *
 * @module
 */

export {
  BackendUnavailableError,
  DeviceLostError,
  ModelFormatError,
  OutOfMemoryError,
  SessionFileError,
} from "./src/errors.ts";
export {
  fitScope,
  FULL_ATTENTION,
  planScope,
  type Scope,
  scopeBound,
  type ScopeConfig,
} from "./src/reattention/scope.ts";
export {
  type AttentionStep,
  ReAttention,
  type ReAttentionOptions,
} from "./src/reattention/reattention.ts";
export type {
  Backend,
  BackendName,
  KvFormat,
  SpillFile,
  TokenRange,
} from "./src/backend/backend.ts";
export { type BackendOptions, openBackend } from "./src/backend/open.ts";
export { EMBEDDED_MODEL, loadModel, type LoadOptions, Model } from "./src/llama/load.ts";
export type { Chat } from "./src/llama/chat.ts";
export type { ChatParts } from "./src/text/chat_template.ts";
export type { ModelSource } from "./src/llama/model_files.ts";
export type { HubAccess, HubOptions, LoadProgress } from "./src/hub/access.ts";
export { AUTHORS_SCOPES, type AuthorsModel, slidingWindow } from "./src/reattention/presets.ts";
export { createRope, type Rope, type RopeScaling } from "./src/reattention/rope.ts";
export type { Architecture } from "./src/llama/architectures.ts";
export type { LlamaConfig } from "./src/llama/config.ts";
export type { Profile, QuestionForm } from "./src/llama/profile.ts";
export type { CalibratedSet, Calibration } from "./src/llama/calibration.ts";
export { Session } from "./src/llama/session.ts";
export type { RestoreSource, SaveTarget } from "./src/llama/session_file.ts";
export type { ModelIdentity } from "./src/llama/identity.ts";
export type {
  AskOptions,
  ForkOptions,
  GenerateOptions,
  RestoreOptions,
  SessionOptions,
  SessionStats,
} from "./src/llama/session_options.ts";
export type { SelectedSpan, SelectionRecord, StepPhase } from "./src/llama/selection_record.ts";
export type { SamplerOptions } from "./src/llama/sampler.ts";
export { type ByteSource, fromBlob, fromBytes } from "./src/files/byte_source.ts";
export { fromUrl, type FromUrlOptions } from "./src/files/http_source.ts";
export { ConnectionError, type Fetch, HttpError, type Patience } from "./src/files/http_range.ts";
export { createTokenizer, type Tokenizer } from "./src/text/tokenizer.ts";
export { TokenEncoderStream } from "./src/text/token_encoder.ts";
export { TokenDecoderStream } from "./src/text/token_decoder.ts";
export { Utf8DecoderStream } from "./src/text/utf8.ts";
