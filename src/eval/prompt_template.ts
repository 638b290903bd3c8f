/**
 * Prompts with fields in braces, as the benchmarks ship them: `{context}` is what is streamed, the
 * rest of a prompt stands before and behind it.
 *
 * @module
 */

/** A template that was read: literal text and names of fields in turns, text first and last. */
export interface PromptTemplate {
  /** For messages: the task's name. */
  readonly name: string;
  readonly texts: readonly string[]; // one more than names
  readonly names: readonly string[];
}

/** A prompt's parts, but for the context between them. */
export interface PromptParts {
  readonly before: string;
  readonly after: string;
}

/** The field that is streamed. */
export const CONTEXT_FIELD = "context";

/**
 * Reads a template in the notation of Python's `str.format`: `{name}`, and `{{` for a brace.
 *
 * @param aliases Other names for a field, e.g. `document` for `context`.
 * @throws {SyntaxError} If a brace is left alone, or `{context}` is not there exactly once.
 */
export function parseTemplate(
  name: string,
  template: string,
  aliases: Readonly<Record<string, string>> = {},
): PromptTemplate {
  const texts = [""];
  const names: string[] = [];
  for (const [part, field] of template.matchAll(/\{\{|\}\}|\{(\w+)\}|[{}]|[^{}]+/g)) {
    if (field !== undefined) {
      names.push(Object.hasOwn(aliases, field) ? aliases[field]! : field);
      texts.push("");
    } else if (part === "{" || part === "}") {
      throw new SyntaxError(
        `Cannot read the prompt of ${name}: a "${part}" must belong to a field such as ` +
          `{context}, or be written twice`,
      );
    } else texts[texts.length - 1] += part === "{{" ? "{" : part === "}}" ? "}" : part;
  }
  const contexts = names.filter((field) => field === CONTEXT_FIELD).length;
  if (contexts !== 1) {
    throw new SyntaxError(
      `Cannot read the prompt of ${name}: it must have {context} once, it has it ${contexts} times`,
    );
  }
  return { name, texts, names };
}

/**
 * Fills all fields but the context.
 *
 * @throws {TypeError} If the template has a field that there is no value for.
 */
export function fillTemplate(
  { name, texts, names }: PromptTemplate,
  fields: Readonly<Record<string, string>>,
): PromptParts {
  const parts: [string, string] = [texts[0]!, ""];
  let part: 0 | 1 = 0;
  for (const [i, field] of names.entries()) {
    if (field === CONTEXT_FIELD) part = 1;
    else if (Object.hasOwn(fields, field)) parts[part] += fields[field]!;
    else {
      throw new TypeError(
        `Cannot fill the prompt of ${name}: there is no {${field}}, only {context}` +
          Object.keys(fields).map((known) => `, {${known}}`).join(""),
      );
    }
    parts[part] += texts[i + 1]!;
  }
  return { before: parts[0], after: parts[1] };
}

/**
 * Templates by task, from a JSON file's content.
 *
 * @param source For messages: where it is from.
 * @throws {TypeError} If it is not an object of strings.
 */
export function toPrompts(value: unknown, source: string): Readonly<Record<string, string>> {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject || !Object.values(value).every((prompt) => typeof prompt === "string")) {
    throw new TypeError(
      `Cannot take the prompts of "${source}": it must be one JSON object with a prompt, a string, ` +
        `for each task`,
    );
  }
  return value as Record<string, string>;
}
