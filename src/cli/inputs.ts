/**
 * The texts to read: files in order, then standard input; one after the other, as `cat` would.
 *
 * @module
 */

import { hasStandardInput, readFile, readStandardInput } from "../system/system.ts";
import { Utf8Decoder } from "../text/utf8.ts";
import { UsageError } from "./args.ts";

/** A stretch of the inputs, in bytes as they came, before invalid UTF-8 was replaced. */
export interface InputStretch {
  /** Index of the input that it starts in. */
  readonly input: number;
  readonly startByte: number;
  /** Index of the input that it ends in, where that is another. */
  readonly endInput?: number;
  readonly endByte: number;
}

/** What an input held. */
export interface InputReport {
  readonly name: string;
  /** Bytes read so far. */
  readonly byteLength: number;
  /** Invalid UTF-8 sequences, each of which became one U+FFFD. */
  readonly replaced: number;
}

/** All inputs, as one text. */
export interface Inputs {
  readonly names: readonly string[];
  /** Bytes read so far. */
  readonly byteLength: number;
  /** One for each input that has been opened. */
  reports(): InputReport[];
  /** The text, in pieces as it comes; asks for no more than is taken. */
  text(): AsyncGenerator<string>;
  /**
   * Where a stretch of the text, in bytes of its UTF-8, was in the inputs; null behind the last of
   * what was read.
   */
  locate(startByte: number, endByte: number): InputStretch | null;
}

/** Standard input among the paths of files. */
const STANDARD_INPUT = "-";

/**
 * Decides what there is to read; opens nothing yet.
 *
 * @param files Paths, in order; `-` is standard input, which else comes last if it is no terminal.
 * @param optional Whether there may be nothing.
 * @throws {UsageError} If there is nothing to read.
 */
export function chooseInputs(files: readonly string[], optional = false): Input[] {
  const paths = [...files];
  if (!paths.includes(STANDARD_INPUT) && hasStandardInput()) paths.push(STANDARD_INPUT);
  if (paths.length === 0 && !optional) {
    throw new UsageError(
      "There is nothing to read: pipe a text into the command, or name one with --file",
    );
  }
  if (paths.filter((path) => path === STANDARD_INPUT).length > 1) {
    throw new UsageError("Standard input can be read only once: give --file - once");
  }
  return paths.map((path) =>
    path === STANDARD_INPUT
      ? { name: "standard input", path: null, bytes: readStandardInput }
      : { name: path, path, bytes: () => readFile(path) }
  );
}

/** A text that can be opened. */
export interface Input {
  readonly name: string;
  /** Null where it is no file. */
  readonly path: string | null;
  bytes(): AsyncIterable<Uint8Array>;
}

/** Some inputs as one text. A character cut at the end of one is replaced: inputs are whole. */
export function joinInputs(inputs: readonly Input[]): Inputs {
  /** Those that were opened. */
  const parts: {
    readonly name: string;
    readonly decoder: Utf8Decoder;
    /** Where it starts in the text, in bytes of UTF-8. */
    readonly textStart: number;
    byteLength: number;
  }[] = [];
  const encoder = new TextEncoder();
  let textLength = 0; // bytes of UTF-8
  const count = (text: string): string => {
    textLength += encoder.encode(text).length;
    return text;
  };
  return {
    names: inputs.map(({ name }) => name),
    get byteLength(): number {
      return parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    },
    reports: () =>
      parts.map(({ name, byteLength, decoder: { replaced } }) => ({ name, byteLength, replaced })),
    async *text(): AsyncGenerator<string> {
      for (const { name, bytes } of inputs) {
        const decoder = new Utf8Decoder();
        const part = { name, decoder, textStart: textLength, byteLength: 0 };
        parts.push(part);
        for await (const chunk of bytes()) {
          part.byteLength += chunk.length;
          const text = count(decoder.push(chunk));
          if (text !== "") yield text;
        }
        const rest = count(decoder.flush());
        if (rest !== "") yield rest;
      }
    },
    locate(startByte: number, endByte: number): InputStretch | null {
      if (startByte >= endByte || endByte > textLength) return null;
      const partOf = (byte: number) => parts.findLastIndex(({ textStart }) => textStart <= byte);
      const first = partOf(startByte);
      const last = partOf(endByte - 1);
      const original = (index: number, byte: number) =>
        parts[index]!.decoder.originalByteOffset(byte - parts[index]!.textStart);
      return {
        input: first,
        startByte: original(first, startByte),
        ...(last === first ? {} : { endInput: last }),
        endByte: original(last, endByte),
      };
    },
  };
}
