/**
 * Chat templates: Jinja programs that come with a model and say how its turns are written.
 *
 * They are strangers' programs, so their work, their memory and what they write are bounded, and
 * they see nothing but the conversation.
 *
 * @module
 */

import { Environment, Interpreter, parse, Template, tokenize } from "@huggingface/jinja";

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** What a template is told beside the messages. */
export interface ChatTemplateOptions {
  /** For messages: where the template came from. */
  readonly name: string;
  /** The text of the beginning-of-text token. Default: empty. */
  readonly bosToken?: string;
  /** The text of the end-of-text token. Default: empty. */
  readonly eosToken?: string;
  /** Whether the start of the next answer is written as well. Default true. */
  readonly addGenerationPrompt?: boolean;
}

/** The longest template, in UTF-16 units; the largest known have about 30,000. */
export const MAX_CHAT_TEMPLATE_LENGTH: number = 1 << 17;
/** Parts of a template that are evaluated, and values that are looked at; three turns take some thousand. */
export const MAX_CHAT_TEMPLATE_STEPS = 500_000;
/** UTF-16 units and items that any value of a template may have, the whole text included. */
export const MAX_CHAT_TEMPLATE_VALUE: number = 1 << 14;
/** The largest number that it may have: numbers repeat and indent. */
export const MAX_CHAT_TEMPLATE_NUMBER: number = 1 << 16;

/** What surrounds a user's text of any length, and an answer to it. */
export interface ChatParts {
  /** From the beginning up to the user's text. */
  readonly opening: string;
  /** From the end of the user's text to where the answer begins. */
  readonly closing: string;
  /** From the end of an answer to the user's next text; null where the template has one turn only. */
  readonly next: string | null;
}

/**
 * Writes a conversation as a template says.
 *
 * @throws {TypeError} If the template is no such program, refuses the conversation, or does more
 * than it may; the message names it.
 *
 * @example Usage
 * ```ts
 * import { renderChat } from "./chat_template.ts";
 * import { equal } from "node:assert/strict";
 *
 * const template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";
 * equal(
 *   renderChat(template, [{ role: "user", content: "Hello" }], { name: "example" }),
 *   "<user>Hello<assistant>",
 * );
 * ```
 */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions,
): string {
  const { name, bosToken = "", eosToken = "", addGenerationPrompt = true } = options;
  const fail = (found: string) =>
    new TypeError(`Cannot use the chat template of ${name}: ${found}`);
  if (template.length > MAX_CHAT_TEMPLATE_LENGTH) {
    throw fail(
      `it must have at most ${MAX_CHAT_TEMPLATE_LENGTH} characters, got ${template.length}`,
    );
  }
  try {
    const environment = createEnvironment();
    environment.set("messages", messages.map(({ role, content }) => ({ role, content })));
    environment.set("bos_token", bosToken);
    environment.set("eos_token", eosToken);
    environment.set("add_generation_prompt", addGenerationPrompt);
    const program = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }));
    const { value } = new BoundedInterpreter(environment).run(program);
    return String(value);
  } catch (error) {
    throw fail(error instanceof Error ? error.message.slice(0, 500) : String(error));
  }
}

/** Stand for texts; letters and digits, so that nothing is trimmed or escaped. */
const MARKS = ["userA51d0c7e", "answerB93f2e61", "userC07be4d8"] as const;

/**
 * What a template puts around a text that is not known yet, since it may be endless: it is written
 * for a short text in its place, and cut there.
 *
 * @throws {TypeError} As {@linkcode renderChat}; and if the user's text does not come out once.
 *
 * @example Usage
 * ```ts
 * import { splitChat } from "./chat_template.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}<assistant>";
 * deepEqual(splitChat(template, { name: "example" }), {
 *   opening: "<user>",
 *   closing: "</><assistant>",
 *   next: "</><user>",
 * });
 * ```
 */
export function splitChat(template: string, options: ChatTemplateOptions): ChatParts {
  const [user, answer, nextUser] = MARKS;
  const first = renderChat(template, [{ role: "user", content: user }], options);
  const [opening, closing, ...more] = first.split(user);
  if (closing === undefined || more.length > 0) {
    throw new TypeError(
      `Cannot use the chat template of ${options.name}: the user's text must come out of it once, ` +
        `unchanged, found ${first.split(user).length - 1} times`,
    );
  }
  return { opening: opening!, closing, next: between(answer, nextUser) };

  function between(start: string, end: string): string | null {
    try {
      const text = renderChat(template, [
        { role: "user", content: user },
        { role: "assistant", content: answer },
        { role: "user", content: nextUser },
      ], options);
      const parts = text.split(start);
      const rest = parts[1]?.split(end);
      return parts.length === 2 && rest!.length === 2 ? rest![0]! : null;
    } catch {
      // The first turn was written well: the template has no second.
      return null;
    }
  }
}

/** What a template may call and name; nothing of the host. */
function createEnvironment(): Environment {
  const environment = new Environment();
  for (
    const [name, value] of [["true", true], ["false", false], ["none", null]] as const
  ) {
    environment.set(name, value);
    environment.set(name[0]!.toUpperCase() + name.slice(1), value);
  }
  environment.set("raise_exception", (message: unknown) => {
    throw new Error(`it says "${String(message)}"`);
  });
  environment.set("range", (...bounds: unknown[]) => boundedRange(bounds.map(Number)));
  environment.set(
    "strftime_now",
    (format: unknown) =>
      new Template("{{ strftime_now(format) }}").render({ format: String(format).slice(0, 100) }),
  );
  return environment;
}

/** Python's `range`, counted before it is made. */
function boundedRange(bounds: readonly number[]): number[] {
  const [start, stop] = bounds.length < 2 ? [0, bounds[0] ?? NaN] : [bounds[0]!, bounds[1]!];
  const step = bounds[2] ?? 1;
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_CHAT_TEMPLATE_VALUE)) {
    throw new Error(`a range must have at most ${MAX_CHAT_TEMPLATE_VALUE} numbers, got ${length}`);
  }
  return Array.from({ length }, (_, i) => start + i * step);
}

/** Counts its steps, and weighs every value that comes up: what is small stays small when shown. */
class BoundedInterpreter extends Interpreter {
  #steps = 0;

  override evaluate(
    ...[statement, environment]: Parameters<Interpreter["evaluate"]>
  ): ReturnType<Interpreter["evaluate"]> {
    this.#step();
    const result = super.evaluate(statement, environment);
    this.#weigh(result.value, 0);
    return result;
  }

  #step(): void {
    if (++this.#steps > MAX_CHAT_TEMPLATE_STEPS) {
      throw new Error(`it must take at most ${MAX_CHAT_TEMPLATE_STEPS} steps`);
    }
  }

  /** Adds up the items and characters in a value, those of a list in itself each time. */
  #weigh(value: unknown, before: number): number {
    if (typeof value === "number" && !(Math.abs(value) <= MAX_CHAT_TEMPLATE_NUMBER)) {
      throw new Error(`a number in it must be at most ${MAX_CHAT_TEMPLATE_NUMBER}, got ${value}`);
    }
    let weight = before + (typeof value === "string" ? value.length : 0);
    if (value instanceof Map || Array.isArray(value)) {
      // Before its items are looked at, which may be many.
      weight += value instanceof Map ? value.size : value.length;
      this.#check(weight);
      for (const item of value.values()) {
        this.#step();
        weight = this.#weigh(item.value, weight);
      }
    }
    this.#check(weight);
    return weight;
  }

  #check(weight: number): void {
    if (weight <= MAX_CHAT_TEMPLATE_VALUE) return;
    throw new Error(
      `a text or list in it must have at most ${MAX_CHAT_TEMPLATE_VALUE} characters and items, ` +
        `got ${weight}`,
    );
  }
}
