/**
 * What a session needs of its model.
 *
 * @module
 */

import type { Backend } from "../backend/backend.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Chat } from "./chat.ts";
import type { Identified } from "./identity.ts";
import type { Llama } from "./llama.ts";
import type { Profile } from "./profile.ts";
import type { OpenSpillFile } from "./session_memory.ts";

/** A model, as sessions use it. */
export interface SessionModel extends Identified {
  readonly llama: Llama;
  readonly backend: Backend;
  readonly tokenizer: Tokenizer;
  /** Null where the model came with none. */
  readonly profile: Profile | null;
  /** Null where the model does not answer by a chat template. */
  readonly chat: Chat | null;
  /** Tokens that end a text or an answer. */
  readonly endTokens: readonly number[];
  /** How to spill into a folder; null where there are no files. */
  readonly openSpillFile?: OpenSpillFile | null;
  /** The same model on a machine that cannot be lost; null where this one cannot be, either. */
  readonly fallback?: (() => Promise<SessionModel>) | null;
}
