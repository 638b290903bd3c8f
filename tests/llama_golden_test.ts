/**
 * Whole models against goldens that other code computed: float64 numpy for the two pretrained
 * models, PyTorch for pocket.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import type { Backend } from "../src/backend/backend.ts";
import type { LlamaConfig } from "../src/llama/config.ts";
import { Llama } from "../src/llama/llama.ts";
import { loadModel } from "../src/llama/load.ts";
import { openModelFiles } from "../src/llama/model_files.ts";
import { argmax } from "../src/llama/sampler.ts";
import { resolveSelectLayers } from "../src/llama/select_layers.ts";
import { loadWeights } from "../src/llama/weights.ts";
import { KvCache } from "../src/reattention/kv_cache.ts";
import { createRope } from "../src/reattention/rope.ts";
import {
  fitScope,
  FULL_ATTENTION,
  resolveScope,
  type ScopeConfig,
} from "../src/reattention/scope.ts";
import { machines } from "./support/long_test_backends.ts";
import { reference } from "./support/processors.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";

interface GoldenCase {
  readonly prompt_ids: number[];
  readonly last_logits: number[];
  readonly greedy_ids: number[];
}

interface PocketGolden {
  readonly short: readonly {
    file: string;
    ids: number[];
    logits16: number[];
    greedy: number[];
    float64_agrees: boolean;
  }[];
  readonly long: readonly {
    file: string;
    n_tokens: number;
    first_ids: number[];
    last_ids: number[];
    settings: Record<"global" | "local" | "span" | "topk" | "recallClip" | "chunk", number>;
    runs: readonly {
      recall: "always" | "generate";
      tail: 0 | 1;
      selected_middle: number[][];
      logits16: number[];
      greedy: number[];
      float64_agrees: { greedy: boolean; selected: boolean[] };
    }[];
  }[];
}

/** A model without its tokenizer: the loop below is the plainest that can be. */
async function openLlama(source: URL, backend: Backend): Promise<Llama> {
  const files = await openModelFiles(source);
  try {
    const { config } = files;
    const weights = await loadWeights(backend, files.tensors, config);
    return new Llama(backend, config, weights, createRope(config.ropeTheta, config.headDim));
  } finally {
    await files.close();
  }
}

function openCache(backend: Backend, config: LlamaConfig): KvCache {
  const { numLayers, numHeads, numKvHeads, headDim } = config;
  return new KvCache(
    backend.kvStore({ numLayers, numHeads, numKvHeads, headDim }, { format: "f32" }),
  );
}

/** Reads one step and gives the logits of its last token, and what each layer selected. */
async function readStep(
  backend: Backend,
  llama: Llama,
  cache: KvCache,
  tokens: number[],
  scope: ScopeConfig,
  selects: boolean,
): Promise<{ logits: Float32Array; selected: Uint32Array[] }> {
  const selections: Promise<Uint32Array[]>[] = [];
  const hidden = await llama.forward(Uint32Array.from(tokens), cache, {
    scope,
    selects,
    // The goldens select in all layers, whatever the model's profile says.
    selectLayers: resolveSelectLayers("all", llama.config.numLayers),
    wantsHidden: true,
    onAttention: (_, { selection }) => {
      if (selection) selections.push(selection.tokens());
    },
  });
  using out = backend.tensor(1, llama.config.vocabSize);
  llama.logits(out, backend.rows(hidden, tokens.length - 1, tokens.length));
  const selected = (await Promise.all(selections)).map((sets) => sets[0]!);
  return { logits: await backend.read(out), selected };
}

/** Goes on greedily for `count` tokens, the first of which `logits` decide. */
async function greedy(
  backend: Backend,
  llama: Llama,
  cache: KvCache,
  logits: Float32Array,
  count: number,
  scope: ScopeConfig,
): Promise<number[]> {
  const tokens = [argmax(logits)];
  while (tokens.length < count) {
    const step = await readStep(backend, llama, cache, [tokens.at(-1)!], scope, true);
    tokens.push(argmax(step.logits));
  }
  return tokens;
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    ok(error <= 1e-3, `${what} ${i}: ${actual[i]} instead of ${expected[i]}`);
  }
}

for (
  const [model, golden] of [
    ["models/stories260K/stories260K.gguf", "golden/stories260K_golden.json"],
    ["models/TinyStories-656K/model.safetensors", "golden/TinyStories-656K_golden.json"],
  ] as const
) {
  for (const { label, open } of [reference, ...machines]) {
    test(
      `${model} has the float64 logits and greedy text on ${label}`,
      { skip: missing(model, golden) },
      async () => {
        using backend = await open();
        using llama = await openLlama(sharedUrl(model), backend);
        const { cases } = readJson<{ cases: GoldenCase[] }>(golden);
        // The oracle is slow, and held to the goldens by the other cases.
        for (const each of label === "reference" ? cases.slice(0, 2) : cases) {
          using cache = openCache(backend, llama.config);
          const { logits } = await readStep(
            backend,
            llama,
            cache,
            each.prompt_ids,
            FULL_ATTENTION,
            false,
          );
          equal(logits.length, each.last_logits.length);
          assertClose(logits, each.last_logits, "logit");
          const count = each.greedy_ids.length;
          deepEqual(
            await greedy(backend, llama, cache, logits, count, FULL_ATTENTION),
            each.greedy_ids,
          );
        }
      },
    );
  }
}

test(
  "stories260K.gguf writes the upstream program's 200 greedy steps",
  { skip: missing("models/stories260K/stories260K.gguf", "golden/stories260K_golden.json") },
  async () => {
    using backend = await machines[0]!.open();
    using llama = await openLlama(sharedUrl("models/stories260K/stories260K.gguf"), backend);
    using cache = openCache(backend, llama.config);
    const { greedy_200_ids: [bos, ...ids] } = readJson<{ greedy_200_ids: number[] }>(
      "golden/stories260K_golden.json",
    );
    const { logits } = await readStep(backend, llama, cache, [bos!], FULL_ATTENTION, false);
    deepEqual(await greedy(backend, llama, cache, logits, ids.length, FULL_ATTENTION), ids);
  },
);

const pocket = "models/pocket/model.safetensors";
const pocketGolden = "models/pocket/golden.json";

for (const { label, open } of machines) {
  test(
    `pocket has PyTorch's logits and greedy text within the trained length on ${label}`,
    { skip: missing(pocket, pocketGolden) },
    async () => {
      using backend = await open();
      using llama = await openLlama(sharedUrl(pocket), backend);
      for (const each of readJson<PocketGolden>(pocketGolden).short) {
        using cache = openCache(backend, llama.config);
        const { logits } = await readStep(backend, llama, cache, each.ids, FULL_ATTENTION, false);
        assertClose(logits, each.logits16, `${each.file}: logit`);
        ok(each.float64_agrees);
        const count = each.greedy.length;
        deepEqual(await greedy(backend, llama, cache, logits, count, FULL_ATTENTION), each.greedy);
      }
    },
  );

  // Half a minute each; a processor that acts as a GPU would take half an hour.
  if (label === "webgpu") continue;
  test(
    `pocket selects, predicts and writes as PyTorch's ReAttention does over 2K-8K tokens on ${label}`,
    { skip: missing(pocket, pocketGolden) },
    async () => {
      using backend = await open();
      using model = await loadModel(sharedUrl("models/pocket/"), { backend });
      const { llama, tokenizer } = model;
      for (const each of readJson<PocketGolden>(pocketGolden).long) {
        const text = await (await import("node:fs/promises")).readFile(
          sharedUrl(`models/pocket/${each.file}`),
          "utf8",
        );
        const ids = [tokenizer.bosToken!, ...tokenizer.encode(text)];
        equal(ids.length, each.n_tokens);
        deepEqual([ids.slice(0, 16), ids.slice(-16)], [each.first_ids, each.last_ids]);
        const { settings } = each;
        const scope = resolveScope({
          globalSize: settings.global,
          localSize: settings.local,
          spanSize: settings.span,
          topK: settings.topk,
          maxSpans: settings.recallClip,
        }, fitScope(512));
        for (const run of each.runs) {
          const what = `${each.file}, ${run.recall}, tail ${run.tail}`;
          using cache = openCache(backend, llama.config);
          const body = ids.length - run.tail;
          let step: Awaited<ReturnType<typeof readStep>> | undefined;
          for (let start = 0; start < ids.length;) {
            const end = start < body ? Math.min(body, start + settings.chunk) : ids.length;
            const selects = run.recall === "always" || start >= body;
            step = await readStep(backend, llama, cache, ids.slice(start, end), scope, selects);
            start = end;
          }
          const { logits, selected } = step!;
          // Where rounding decided what was selected, in any layer, the logits follow from that.
          if (run.float64_agrees.selected.every((agrees) => agrees)) {
            assertClose(logits, run.logits16, `${what}: logit`);
          }
          for (const [layer, agrees] of run.float64_agrees.selected.entries()) {
            // Layer 0's keys tie by the hundred; where arithmetic decides, the golden says so.
            if (!agrees) continue;
            const middle = [...selected[layer]!].map((token) => token - settings.global);
            deepEqual(middle, run.selected_middle[layer], `${what}: layer ${layer}`);
          }
          ok(run.float64_agrees.greedy);
          const count = run.greedy.length;
          deepEqual(await greedy(backend, llama, cache, logits, count, scope), run.greedy, what);
        }
      }
    },
  );
}
