/**
 * llama.cpp itself, native, through node-llama-cpp in a Node of its own.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { notice, reasonOf } from "../support/notice.ts";
import { peerFile, peerVersion } from "./installed.ts";
import { startChild } from "./line_child.ts";

const SCRIPT = fileURLToPath(new URL("./llama_cpp_child.mjs", import.meta.url));

/** A model in llama.cpp. */
export interface LlamaCpp {
  readonly name: string;
  /** Seconds to read tokens, from nothing. */
  prefill(tokens: readonly number[]): Promise<number>;
  /** Seconds to generate `count` tokens after others. */
  decode(tokens: readonly number[], count: number): Promise<number>;
  /** Logits f32[vocabSize] after each of the last tokens of a text (default: all), from nothing. */
  logits(tokens: readonly number[], last?: number): Promise<Float32Array[]>;
  /** Loads another file in its place. */
  load(path: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * Loads a GGUF file; null, said aloud, where that cannot be.
 *
 * @param exact Whether attention computes in f32 with a cache in f32, instead of f16.
 */
export async function openLlamaCpp(
  path: string,
  contextSize: number,
  threads: number,
  exact = false,
): Promise<LlamaCpp | null> {
  const bindings = peerFile("node-llama-cpp", "dist/index.js");
  if (bindings === null) return null;
  try {
    const child = await startChild("node", [SCRIPT, bindings.href], {
      BENCH_THREADS: String(threads),
    });
    const load = async (path: string) => {
      const loaded = await child.ask<{ threads: number }>({
        question: "load",
        path,
        contextSize,
        threads,
        exact,
      });
      if (loaded.threads !== threads) {
        throw new Error(`it has ${loaded.threads} of the ${threads} threads asked for`);
      }
    };
    try {
      await load(path);
    } catch (error) {
      await child.close();
      throw error;
    }
    return {
      name: `llama.cpp, native (node-llama-cpp ${peerVersion("node-llama-cpp")})`,
      async prefill(tokens) {
        const { seconds } = await child.ask<{ seconds: number }>({ question: "prefill", tokens });
        return seconds;
      },
      async decode(tokens, count) {
        const answer = await child.ask<{ seconds: number; generated: number }>({
          question: "decode",
          tokens,
          count,
        });
        if (answer.generated !== count) {
          throw new Error(`${count} tokens must be generated, got ${answer.generated}`);
        }
        return answer.seconds;
      },
      async logits(tokens, last = tokens.length) {
        const { rows } = await child.ask<{ rows: number[][] }>({
          question: "logits",
          tokens,
          last,
        });
        return rows.map((row) => Float32Array.from(row));
      },
      load,
      close: () => child.close(),
    };
  } catch (error) {
    notice(`native llama.cpp does not run here, so it is left out: ${reasonOf(error)}`);
    return null;
  }
}
