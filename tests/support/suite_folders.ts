/**
 * Benchmarks' folders in memory.
 *
 * @module
 */

import { type ByteSource, fromBytes } from "../../src/files/byte_source.ts";
import type { EvalCase } from "../../src/eval/case.ts";
import type { SuiteFolder } from "../../src/eval/suite.ts";
import type { TextTokens } from "../../src/eval/text_tokens.ts";

/** A folder of files; `open` counts what is open. */
export function folderOf(
  files: Readonly<Record<string, string | Uint8Array>>,
  name = "data",
): SuiteFolder & { readonly openFiles: () => number } {
  let openFiles = 0;
  return {
    name,
    openFiles: () => openFiles,
    open(path): Promise<ByteSource | null> {
      const content = files[path];
      if (content === undefined) return Promise.resolve(null);
      openFiles++;
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      return Promise.resolve({
        ...fromBytes(bytes, `${name}/${path}`),
        close: () => Promise.resolve(void openFiles--),
      });
    },
  };
}

/** Rows as JSON lines. */
export function lines(...rows: readonly unknown[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

/** All cases. */
export async function all(cases: AsyncIterable<EvalCase>): Promise<EvalCase[]> {
  const found: EvalCase[] = [];
  for await (const each of cases) found.push(each);
  return found;
}

/** A case's context as one text. */
export async function contextOf(task: EvalCase): Promise<string> {
  let text = "";
  for await (const piece of task.context()) text += piece;
  return text;
}

/** A token for each character: what is cut is easy to see. */
export const characters: TextTokens = {
  perToken: 1,
  encode: (text) => Uint32Array.from([...text], (c) => c.codePointAt(0)!),
  decode: (tokens) => String.fromCodePoint(...tokens),
};
