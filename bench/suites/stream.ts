/**
 * Text streaming into a session of the embedded model: tokenizer, steps, back-pressure.
 *
 * @module
 */

import { writeHaystack } from "../../src/eval/haystack.ts";
import { loadModel, type Model, type SessionOptions } from "../../mod.ts";
import { TokenEncoder } from "../../src/text/token_encoder.ts";
import type { Contestant } from "../support/contest.ts";
import {
  type Contest,
  type Figure,
  ONE_THREAD,
  openMachines,
  type Settings,
} from "../support/suite.ts";

/** Characters of the text: about 9,000 of the embedded model's tokens. */
const LENGTH = 24_000;

/** Runs take a second or more, so there are few. */
const ROUNDS = 3;

/** Characters of a piece, as a pipe gives them. */
const PIECE = 4096;

const SELECTIONS = ["ask", "always", "never"] as const satisfies SessionOptions["select"][];

/** The group `stream`. */
export async function* streamSuite(settings: Settings): AsyncGenerator<Contest | Figure> {
  const text = [...writeHaystack({ seed: 1, length: LENGTH })].map((piece) => piece.text).join("");
  const pieces = Array.from(
    { length: Math.ceil(text.length / PIECE) },
    (_, i) => text.slice(i * PIECE, (i + 1) * PIECE),
  );
  for (const threads of settings.threads) {
    using machines = await openMachines(threads);
    using model = await loadModel(undefined, { backend: machines.ours });
    using single = machines.single &&
      await loadModel(undefined, { backend: machines.single });
    const tokens = model.tokenizer.encode(text).length;
    for (const select of SELECTIONS) {
      const name = `stream/pocket/${tokens} tokens, selection ${select}`;
      if (!settings.wants(name)) continue;
      yield {
        name,
        threads,
        unit: "tokens/s",
        work: tokens,
        limit: null,
        rounds: ROUNDS,
        ours: reader(model, pieces, tokens, select, "reattention"),
        peers: single ? [reader(single, pieces, tokens, select, ONE_THREAD)] : [],
      };
    }
    const name = `stream/pocket/the tokenizer alone`;
    if (settings.wants(name)) {
      yield {
        name,
        threads,
        unit: "tokens/s",
        work: tokens,
        limit: null,
        ours: tokenizerOf(model, pieces, tokens),
        peers: [],
      };
    }
    if (settings.wants("stream/pocket/taken ahead of reading")) {
      yield {
        name: "stream/pocket/taken ahead of reading, at most",
        threads,
        value: await mostTakenAhead(model, pieces) / 1024,
        unit: "KiB",
      };
    }
  }
}

/** A session that reads all pieces through its writable. */
function reader(
  model: Model,
  pieces: readonly string[],
  tokens: number,
  select: SessionOptions["select"],
  name: string,
): Contestant {
  let length = 0;
  return {
    name,
    async run() {
      using session = model.session({ select });
      const writer = session.writable().getWriter();
      for (const piece of pieces) await writer.write(piece);
      await writer.close();
      length = session.length;
    },
    check() {
      // A token at the beginning of the text may be the model's own.
      if (length !== tokens && length !== tokens + 1) {
        throw new Error(`${tokens} tokens must have been read, got ${length}`);
      }
    },
  };
}

function tokenizerOf(model: Model, pieces: readonly string[], tokens: number): Contestant {
  let length = 0;
  return {
    name: "reattention",
    run() {
      const encoder = new TokenEncoder(model.tokenizer, { special: false, continuation: false });
      length = 0;
      for (const piece of pieces) length += encoder.push(piece).tokens.length;
      length += encoder.flush().tokens.length;
    },
    check() {
      if (Math.abs(length - tokens) > 1) {
        throw new Error(`${tokens} tokens must come out, got ${length}`);
      }
    },
  };
}

/** The most characters that a piped source had given out and the model had not read yet. */
async function mostTakenAhead(model: Model, pieces: readonly string[]): Promise<number> {
  using session = model.session();
  let taken = 0;
  let next = 0;
  let most = 0;
  const source = new ReadableStream<string>({
    pull(controller) {
      const piece = pieces[next++];
      if (piece === undefined) return controller.close();
      taken += piece.length;
      const { readTokens } = session.stats;
      // All of the text is ASCII: its bytes are its characters.
      const read = readTokens === 0 ? 0 : session.byteOffset(readTokens - 1);
      most = Math.max(most, taken - read);
      controller.enqueue(piece);
    },
  }, { highWaterMark: 0 });
  await source.pipeTo(session.writable());
  return most;
}
