/**
 * How an instruct model is talked to: its makers' chat template around a text of any length, and
 * the tokens that end a turn.
 *
 * @module
 */

import type { TokenizerFiles, TokenizerMetadata } from "../text/gguf_tokenizer.ts";
import { type ChatParts, splitChat } from "../text/chat_template.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Profile } from "./profile.ts";

/** A chat template, and where it was found. */
export interface ChatTemplate {
  /** For messages. */
  readonly name: string;
  /** A Jinja program. */
  readonly text: string;
}

/** The files that may have a chat template. */
export interface ChatFiles {
  /** For messages: the model. */
  readonly name: string;
  /** The text of chat_template.jinja, or null. */
  readonly jinja: string | null;
  /** The parsed tokenizer_config.json, or null. */
  readonly tokenizerConfig: TokenizerFiles["config"];
  /** GGUF's metadata; of other formats what they have. */
  readonly metadata: TokenizerMetadata;
}

/**
 * A model's chat template: from chat_template.jinja, else tokenizer_config.json (of several the one
 * called `default`), else GGUF's metadata.
 *
 * @returns Null where there is none: a base model.
 */
export function findChatTemplate(files: ChatFiles): ChatTemplate | null {
  const { name, jinja, metadata } = files;
  if (jinja !== null) return { name: `${name} (chat_template.jinja)`, text: jinja };
  const config = (files.tokenizerConfig as { chat_template?: unknown } | null)?.chat_template;
  const places: readonly (readonly [string, unknown])[] = [
    ["tokenizer_config.json", config],
    ["tokenizer.chat_template", metadata.get("tokenizer.chat_template")],
  ];
  for (const [place, found] of places) {
    const text = Array.isArray(found)
      ? found.find((one: unknown) => (one as { name?: unknown } | null)?.name === "default")
        ?.template
      : found;
    if (typeof text === "string" && text.trim() !== "") return { name: `${name} (${place})`, text };
  }
  return null;
}

/** How a model answers: in its profile's question forms, by its chat template, or not at all. */
export type AnswerMode = "question forms" | "chat template" | "continuation";

/** What makes a model answer. A profile with question forms goes before a template. */
export function answerMode(
  profile: Profile | null,
  template: ChatTemplate | null,
): AnswerMode {
  if (profile !== null && profile.forms.length > 0) return "question forms";
  return template === null ? "continuation" : "chat template";
}

/** An instruct model's manners. */
export interface Chat {
  /**
   * What goes around texts, questions and answers.
   *
   * @throws {TypeError} If the template cannot be used; says why.
   */
  parts(): ChatParts;
}

/** Between a text that was read and a question about it: one turn of the user. */
export const QUESTION_SEPARATOR = "\n\n";

/**
 * A template's parts, made when they are first wanted: a template that cannot be used is no reason
 * not to load the model.
 */
export function createChat(template: ChatTemplate, tokenizer: Tokenizer): Chat {
  const textOf = (token: number | null) =>
    token === null ? "" : tokenizer.decode([token], { special: true, continuation: true });
  const bosToken = textOf(tokenizer.bosToken);
  let parts: ChatParts | null = null;
  return {
    parts() {
      if (parts !== null) return parts;
      const { name, text } = template;
      const found = splitChat(text, { name, bosToken, eosToken: textOf(tokenizer.eosToken) });
      // Some templates leave it to the tokenizer.
      const addsBos = tokenizer.addBos && !found.opening.startsWith(bosToken);
      return parts = addsBos ? { ...found, opening: bosToken + found.opening } : found;
    },
  };
}

/**
 * Tokens at which an answer ends: those of the configuration, the tokenizer's end of text, GGUF's
 * ends of a turn and of a message, and what the template writes after an answer.
 */
export function endTokens(
  configured: readonly number[],
  tokenizer: Tokenizer,
  metadata: TokenizerMetadata,
  chat: Chat | null,
): readonly number[] {
  const ends = new Set(configured);
  if (tokenizer.eosToken !== null) ends.add(tokenizer.eosToken);
  for (const role of ["eot", "eom"]) {
    const id = metadata.get(`tokenizer.ggml.${role}_token_id`);
    if (Number.isInteger(id) && Number(id) < tokenizer.vocabSize) ends.add(Number(id));
  }
  let next: string | null = null;
  try {
    next = chat?.parts().next ?? null;
  } catch {
    // Who asks will hear of it.
  }
  const first = next === null ? null : tokenizer.rules.markup?.(next.trimStart(), true) ?? null;
  if (first !== null && first.token?.special && first.start === 0) ends.add(first.token.id);
  return [...ends];
}
