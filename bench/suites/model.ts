/**
 * Whole models of real size with random weights: reading and writing, against native llama.cpp, and
 * in Chromium against llama.cpp in WebAssembly.
 *
 * @module
 */

import { statSync } from "node:fs";
import { basename } from "node:path";
import { loadModel, type Model } from "../../mod.ts";
import { FULL_ATTENTION } from "../../src/reattention/scope.ts";
import { openPage, type Page } from "../peers/chromium.ts";
import { type LlamaCpp, openLlamaCpp } from "../peers/llama_cpp.ts";
import { layerWeights, type ShapeName, SHAPES } from "../shapes.ts";
import type { Contestant } from "../support/contest.ts";
import { notice, reasonOf } from "../support/notice.ts";
import { profiled } from "../support/profile.ts";
import { BLOCKS, bytesOf, type Format } from "../support/quantize.ts";
import {
  matmulOperations,
  profileStep,
  randomTokens,
  readTokens,
  stepContestant,
} from "../support/steps.ts";
import {
  checkThreads,
  type Contest,
  type Figure,
  type Machines,
  ONE_THREAD,
  openMachines,
  type Settings,
} from "../support/suite.ts";
import { writeSyntheticModel } from "../synthetic_model.ts";

/** Tokens of a step: what llama.cpp takes at once by default, and we for models of 8K and more. */
const PREFILL = 512;

/** The same where llama.cpp in WebAssembly takes part, which needs minutes for 512. */
const PREFILL_IN_PAGE = 128;

/** Tokens that are written, after a short text. */
const DECODE = 32;
const DECODE_IN_PAGE = 8;
const DECODE_AFTER = 16;

/** Runs take seconds, so there are few. */
const ROUNDS = 3;

/** The group `model`. */
export async function* modelSuite(settings: Settings): AsyncGenerator<Contest | Figure> {
  for (const wanted of settings.models) {
    const [shape, format] = wanted.split(":") as [ShapeName, Format];
    if (!(shape in SHAPES) || !(format in BLOCKS)) {
      throw new RangeError(
        `Cannot time a model: it must be <shape>:<format> with a shape of ${
          Object.keys(SHAPES).join(", ")
        } and a format of ${Object.keys(BLOCKS).join(", ")}, got "${wanted}"`,
      );
    }
    const path = await writeSyntheticModel({
      shape,
      format,
      container: "gguf",
      folder: settings.modelFolder,
    });
    for (const threads of settings.threads) {
      using machines = await openMachines(threads);
      yield* here(settings, machines, { path, shape, format, threads });
      // The page does not know who opened it: once is enough.
      if (!settings.peers || "Bun" in globalThis) continue;
      try {
        yield* inChromium(settings, { path, shape, format, threads });
      } catch (error) {
        notice(`what was to run in Chromium ended early: ${reasonOf(error)}`);
      }
    }
  }
}

interface ModelFile {
  readonly path: string;
  readonly shape: ShapeName;
  readonly format: Format;
  readonly threads: number;
}

/** In the runtime of the benchmark, against native llama.cpp. */
async function* here(
  settings: Settings,
  { ours: backend, single: singleBackend }: Machines,
  { path, shape, format, threads }: ModelFile,
): AsyncGenerator<Contest | Figure> {
  const title = `model/${format}/${shape}`;
  const watched = profiled(backend);
  const start = performance.now();
  // The same verbs, so that what is profiled is what is timed, and the weights are there once.
  const model = await tryLoad(path, watched.backend);
  if (model === null) return;
  using _model = model;
  const seconds = (performance.now() - start) / 1000;
  yield {
    name: `${title}/load`,
    threads,
    value: statSync(path).size / 1e9 / seconds,
    unit: "GB/s",
  };
  using single = singleBackend && await tryLoad(path, singleBackend);
  const peer = settings.peers
    ? await openLlamaCpp(path, PREFILL + DECODE + DECODE_AFTER, threads)
    : null;
  try {
    const config = SHAPES[shape];
    const layers = config.numLayers * layerWeights(config);
    const head = config.vocabSize * config.hiddenSize;
    const prefillName = `${title}/prefill ${PREFILL} tokens`;
    if (settings.wants(prefillName)) {
      yield {
        name: prefillName,
        threads,
        unit: "tokens/s",
        work: PREFILL,
        limit: {
          name: "fma",
          work: matmulOperations(config, { tokens: PREFILL, wantsLogits: false }),
        },
        rounds: ROUNDS,
        ours: prefiller(model, "reattention"),
        peers: [
          ...single ? [prefiller(single, ONE_THREAD)] : [],
          ...peer ? [peerPrefiller(peer, model)] : [],
        ],
      };
    }
    const decodeName = `${title}/decode ${DECODE} tokens`;
    if (settings.wants(decodeName)) {
      yield {
        name: decodeName,
        threads,
        unit: "tokens/s",
        work: 1,
        limit: { name: "read", work: bytesOf(format, layers + head) },
        rounds: ROUNDS,
        ours: decoder(model, "reattention"),
        peers: [
          ...single ? [decoder(single, ONE_THREAD)] : [],
          ...peer ? [peerDecoder(peer, model)] : [],
        ],
      };
    }
  } finally {
    await peer?.close();
  }
  for (const tokens of [PREFILL, 1]) {
    const name = `${title}/step of ${tokens} ${tokens === 1 ? "token" : "tokens"}`;
    if (!settings.wants(name)) continue;
    using read = await readTokens(model, DECODE_AFTER, FULL_ATTENTION);
    const contestant = stepContestant(read, {
      tokens,
      scope: FULL_ATTENTION,
      selects: false,
      wantsLogits: true,
    }, name);
    yield* await profileStep(watched, contestant, name, threads);
    await contestant.dispose?.();
  }
}

async function tryLoad(path: string, backend: Machines["ours"]): Promise<Model | null> {
  try {
    return await loadModel(path, { backend });
  } catch (error) {
    notice(`the library does not load ${basename(path)}: ${reasonOf(error)}`);
    return null;
  }
}

function session(model: Model) {
  return model.session({ scope: FULL_ATTENTION, select: "never", stepSize: PREFILL });
}

function prefiller(model: Model, name: string): Contestant {
  // The last token is held back for the next step.
  const tokens = randomTokens(model, PREFILL + 1, 1);
  return {
    name,
    async run() {
      using reading = session(model);
      await reading.prefill(tokens);
    },
  };
}

function decoder(model: Model, name: string): Contestant {
  const tokens = randomTokens(model, DECODE_AFTER, 1);
  let seconds = 0;
  return {
    name,
    async run() {
      using writing = session(model);
      await writing.prefill(tokens);
      // Everything is read now, and then the last token once more: that one is on the clock.
      await writing.logits();
      writing.truncate(DECODE_AFTER - 1);
      await writing.prefill(tokens.slice(-1));
      const start = performance.now();
      let count = 0;
      for await (const _ of writing.generate({ maxTokens: DECODE, temperature: 0 })) count++;
      seconds = (performance.now() - start) / 1000 / DECODE;
      if (count !== DECODE) {
        throw new Error(`${DECODE} tokens must be generated, got ${count}`);
      }
    },
    seconds: () => seconds,
  };
}

function peerPrefiller(peer: LlamaCpp, model: Model): Contestant {
  const tokens = [...randomTokens(model, PREFILL, 1)];
  let seconds = 0;
  return {
    name: peer.name,
    async run() {
      seconds = await peer.prefill(tokens);
    },
    seconds: () => seconds,
  };
}

function peerDecoder(peer: LlamaCpp, model: Model): Contestant {
  const tokens = [...randomTokens(model, DECODE_AFTER, 1)];
  let seconds = 0;
  return {
    name: peer.name,
    async run() {
      seconds = await peer.decode(tokens, DECODE) / DECODE;
    },
    seconds: () => seconds,
  };
}

/** The library and wllama on one page. */
async function* inChromium(
  settings: Settings,
  { path, shape, format, threads }: ModelFile,
): AsyncGenerator<Contest> {
  const names = {
    prefill: `model/${format}/${shape}/prefill ${PREFILL_IN_PAGE} tokens in Chromium`,
    decode: `model/${format}/${shape}/decode ${DECODE_IN_PAGE} tokens in Chromium`,
  };
  if (!settings.wants(names.prefill) && !settings.wants(names.decode)) return;
  const page = await openPage(path);
  if (page === null) return;
  try {
    const url = page.modelUrl + basename(path);
    try {
      const { description } = await page.ask<{ description: string }>({
        question: "ours",
        what: "load",
        url,
        threads,
      });
      checkThreads(description, threads);
    } catch (error) {
      notice(`the library does not load ${basename(path)} in ${page.name}: ${reasonOf(error)}`);
      return;
    }
    const contextSize = 4 * PREFILL_IN_PAGE;
    const { version } = await page.ask<{ version: string }>({
      question: "wllamaLoad",
      url,
      contextSize,
      threads,
    });
    const contest = (
      name: string,
      ours: Readonly<Record<string, unknown>>,
      peer: Readonly<Record<string, unknown>>,
    ): Contest => ({
      name,
      runtime: page.name,
      threads,
      unit: "tokens/s",
      work: 1,
      limit: null,
      rounds: ROUNDS,
      ours: onPage(page, { question: "ours", ...ours }, "reattention"),
      peers: [onPage(page, peer, `wllama (llama.cpp ${version} in WebAssembly)`)],
    });
    if (settings.wants(names.prefill)) {
      yield contest(
        names.prefill,
        { what: "prefill", tokens: PREFILL_IN_PAGE },
        // Two tokens or so a word.
        { question: "wllamaPrefill", words: PREFILL_IN_PAGE / 2 },
      );
    }
    if (settings.wants(names.decode)) {
      yield contest(
        names.decode,
        { what: "decode", count: DECODE_IN_PAGE },
        { question: "wllamaDecode", count: DECODE_IN_PAGE },
      );
    }
  } finally {
    await page.close();
  }
}

/** Something on the page, with the clock there. */
function onPage(page: Page, question: Readonly<Record<string, unknown>>, name: string): Contestant {
  let seconds = 0;
  return {
    name,
    async run() {
      const answer = await page.ask<{ tokens: number; seconds: number }>(question);
      seconds = answer.seconds / answer.tokens;
    },
    seconds: () => seconds,
  };
}
