import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import type { Backend, Weight, WeightSource } from "../src/backend/backend.ts";
import { ReferenceBackend } from "../src/backend/reference/backend.ts";
import { ModelFormatError } from "../src/errors.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import type { TensorInfo, TensorTable } from "../src/files/tensor_table.ts";
import type { LlamaConfig } from "../src/llama/config.ts";
import { type ModelFiles, openModelFiles } from "../src/llama/model_files.ts";
import { disposeWeights, findWeights, loadWeights } from "../src/llama/weights.ts";
import { mulberry32 } from "./support/random.ts";
import { missing, repository, sharedUrl } from "./support/shared.ts";

const TINY_STORIES = "models/TinyStories-656K/";
const TINY_STORIES_GGUF = "models/TinyStories-656K/TinyStories-656K-f16.gguf";

/** Opens a model for as long as `use` takes. */
async function withModel(source: URL, use: (files: ModelFiles) => Promise<void>): Promise<void> {
  const files = await openModelFiles(source);
  try {
    await use(files);
  } finally {
    await files.close();
  }
}

/** All bytes of a weight. */
async function readWhole(source: WeightSource): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(source.rows * source.cols * (source.format === "f32" ? 4 : 2));
  await source.read(bytes, 0);
  return bytes;
}

/** Two layers of four heads of four numbers; the KV heads are two. */
const CONFIG: LlamaConfig = {
  architecture: "llama",
  hiddenSize: 6,
  intermediateSize: 10,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 4,
  vocabSize: 12,
  rmsNormEpsilon: 1e-5,
  ropeTheta: 10000,
  qkvBias: false,
  outputBias: false,
  qkNorm: false,
  trainedLength: 64,
  tiedEmbeddings: false,
  eosTokens: [],
};

const HF_LAYER: Record<string, number[]> = {
  "input_layernorm.weight": [6],
  "self_attn.q_proj.weight": [16, 6],
  "self_attn.k_proj.weight": [8, 6],
  "self_attn.v_proj.weight": [8, 6],
  "self_attn.o_proj.weight": [6, 16],
  "post_attention_layernorm.weight": [6],
  "mlp.gate_proj.weight": [10, 6],
  "mlp.up_proj.weight": [10, 6],
  "mlp.down_proj.weight": [6, 10],
};
const GGUF_LAYER: Record<string, number[]> = {
  "attn_norm.weight": [6],
  "attn_q.weight": [16, 6],
  "attn_k.weight": [8, 6],
  "attn_v.weight": [8, 6],
  "attn_output.weight": [6, 16],
  "ffn_norm.weight": [6],
  "ffn_gate.weight": [10, 6],
  "ffn_up.weight": [10, 6],
  "ffn_down.weight": [6, 10],
};
const HF: Record<string, number[]> = {
  "model.embed_tokens.weight": [12, 6],
  "lm_head.weight": [12, 6],
  "model.norm.weight": [6],
};
const GGUF: Record<string, number[]> = {
  "token_embd.weight": [12, 6],
  "output.weight": [12, 6],
  "output_norm.weight": [6],
};
for (const layer of [0, 1]) {
  for (const [name, shape] of Object.entries(HF_LAYER)) HF[`model.layers.${layer}.${name}`] = shape;
  for (const [name, shape] of Object.entries(GGUF_LAYER)) GGUF[`blk.${layer}.${name}`] = shape;
}

interface TableParts {
  readonly format?: TensorTable["format"];
  /** Shapes that differ; null takes a tensor out. */
  readonly shapes?: Record<string, number[] | null>;
  readonly dtypes?: Record<string, string>;
  readonly metadata?: Record<string, string>;
  /** Reads fail from this byte of the file on. */
  readonly failsFrom?: number;
}

/** A made-up model of CONFIG's shape, whose numbers count up through the file. */
function table(parts: TableParts = {}): TensorTable {
  const { format = "safetensors", shapes = {}, dtypes = {}, failsFrom = Infinity } = parts;
  const all = { ...(format === "gguf" ? GGUF : HF), ...shapes };
  const tensors = new Map<string, TensorInfo>();
  let end = 0;
  const file = { bytes: new Uint8Array() };
  const source = {
    name: "x.file",
    byteLength: 1e6,
    async read(target: Uint8Array, start: number): Promise<void> {
      if (start + target.length > failsFrom) throw new Error("the disk is gone");
      await fromBytes(file.bytes, "x.file").read(target, start);
    },
  };
  for (const [name, shape] of Object.entries(all)) {
    if (shape === null) continue;
    const byteLength = 4 * shape.reduce((product, size) => product * size, 1);
    tensors.set(name, {
      name,
      dtype: dtypes[name] ?? "F32",
      shape,
      source,
      byteOffset: end,
      byteLength,
    });
    end += byteLength;
  }
  file.bytes = new Uint8Array(Float32Array.from({ length: end / 4 }, (_, i) => i).buffer);
  return {
    name: "x.file",
    format,
    tensors,
    metadata: new Map(Object.entries(parts.metadata ?? {})),
  };
}

function refuses(parts: TableParts, message: RegExp, config: Partial<LlamaConfig> = {}): void {
  throws(() => findWeights(table(parts), { ...CONFIG, ...config }), (error: unknown) => {
    ok(error instanceof ModelFormatError, `${error}`);
    match(error.message, message);
    return true;
  });
}

test("loadWeights loads the embedded model, and disposeWeights gives all of it back", async () => {
  await withModel(new URL("models/pocket/", repository), async ({ tensors, config }) => {
    using backend = new ReferenceBackend();
    const weights = await loadWeights(backend, tensors, config);
    equal(weights.layers.length, 4);
    equal(weights.lmHead, weights.embedTokens);
    deepEqual([weights.embedTokens.rows, weights.embedTokens.cols], [1024, 256]);
    deepEqual([weights.norm.rows, weights.norm.cols], [1, 256]);
    const { kProj, gateProj } = weights.layers[3]!;
    deepEqual([kProj.rows, kProj.cols, gateProj.rows], [128, 256, 512]);
    equal(backend.byteLength, 2 * 2_623_744);
    disposeWeights(weights);
    equal(backend.byteLength, 0);
  });
});

test("GGUF's q and k rows come in the order of safetensors", {
  skip: missing(TINY_STORIES + "model.safetensors", TINY_STORIES_GGUF),
}, async () => {
  await withModel(sharedUrl(TINY_STORIES), async (hf) => {
    await withModel(sharedUrl(TINY_STORIES_GGUF), async (gguf) => {
      const expected = findWeights(hf.tensors, hf.config);
      const actual = findWeights(gguf.tensors, gguf.config);
      for (const [i, layer] of expected.layers.entries()) {
        for (const part of Object.keys(layer) as (keyof typeof layer)[]) {
          const exact = new Float32Array((await readWhole(layer[part]!)).buffer);
          const bytes = await readWhole(actual.layers[i]![part]!);
          const rounded = actual.layers[i]![part]!.format === "f16"
            ? decodeF16(bytes)
            : new Float32Array(bytes.buffer);
          equal(rounded.length, exact.length);
          // Half precision rounds by 2^-11 of a value, and by 2^-25 below its normal numbers.
          ok(
            exact.every((x, j) => Math.abs(x - rounded[j]!) <= 2 ** -11 * Math.abs(x) + 2 ** -25),
            `${part} of layer ${i}`,
          );
        }
      }
    });
  });
});

function decodeF16(bytes: Uint8Array<ArrayBuffer>): Float32Array {
  return Float32Array.from(new Uint16Array(bytes.buffer), (bits) => {
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    const magnitude = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
    return bits >> 15 ? -magnitude : magnitude;
  });
}

test("GGUF's permuted rows are the same however they are read", async () => {
  const random = mulberry32(1);
  const { layers } = findWeights(table({ format: "gguf" }), CONFIG);
  const source = layers[1]!.qProj;
  const whole = await readWhole(source);
  // Rows of a head: 0 2 1 3 in the file are 0 1 2 3 of the weight's.
  const rows = Array.from({ length: 8 }, (_, r) => new Float32Array(whole.buffer)[r * 6]!);
  const first = Math.min(...rows);
  deepEqual(rows.map((value) => (value - first) / 6), [0, 2, 1, 3, 4, 6, 5, 7]);

  for (let i = 0; i < 200; i++) {
    const start = Math.floor(random() * whole.length);
    const end = start + Math.floor(random() * (whole.length - start + 1));
    const part = new Uint8Array(end - start);
    await source.read(part, start);
    deepEqual(part, whole.slice(start, end), `[${start}, ${end})`);
  }
  const halves = [new Uint8Array(whole.length / 2), new Uint8Array(whole.length / 2)];
  await Promise.all([source.read(halves[1]!, whole.length / 2), source.read(halves[0]!, 0)]);
  deepEqual(new Uint8Array([...halves[0]!, ...halves[1]!]), whole);
});

test("a weight's source refuses to read beyond its tensor", async () => {
  for (const format of ["safetensors", "gguf"] as const) {
    const { layers, norm } = findWeights(table({ format }), CONFIG);
    for (const source of [norm, layers[0]!.kProj]) {
      await rejects(
        () => source.read(new Uint8Array(8), source.rows * source.cols * 4 - 4),
        RangeError,
      );
      await rejects(() => source.read(new Uint8Array(8), -4), RangeError);
    }
  }
});

test("a missing tensor, another shape or a type that cannot be used is named", () => {
  refuses(
    { shapes: { "model.layers.1.mlp.up_proj.weight": null } },
    /tensor "model.layers.1.mlp.up_proj.weight" \[10,6\] must be there, but is missing among 20 tensors/,
  );
  refuses(
    { format: "gguf", shapes: { "blk.0.attn_norm.weight": null } },
    /tensor "blk.0.attn_norm.weight" \[6\] must be there/,
  );
  refuses(
    { shapes: { "model.norm.weight": [7] } },
    /"model.norm.weight" must have the shape \[6\], got \[7\]/,
  );
  refuses({ shapes: { "model.norm.weight": [1, 6] } }, /must have the shape \[6\], got \[1,6\]/);
  refuses(
    { shapes: { "model.embed_tokens.weight": [6, 12] } },
    /must have the shape \[12,6\], got \[6,12\]/,
  );
  refuses(
    {},
    /"model.layers.0.self_attn.k_proj.weight" must have the shape \[16,6\], got \[8,6\]/,
    { numKvHeads: 4 },
  );
  refuses({}, /"model.layers.2.input_layernorm.weight" \[6\] must be there/, { numLayers: 3 });
  refuses(
    { dtypes: { "model.norm.weight": "I32" } },
    /"model.norm.weight" must be one of F32, F16, BF16, Q8_0, .*, Q6_K, got I32/,
  );
  refuses(
    { format: "gguf", dtypes: { "blk.1.attn_q.weight": "IQ4_XS" } },
    /"blk.1.attn_q.weight" must be one of F32, F16, BF16, Q8_0, .*, Q6_K, got IQ4_XS/,
  );
});

test("tensors that a plain Llama would leave out are refused", () => {
  const extra = [
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.1.self_attn.q_norm.weight",
    "model.layers.2.input_layernorm.weight",
  ];
  for (const name of extra) {
    refuses({ shapes: { [name]: [6] } }, new RegExp(`a use for tensor "${name}"`));
  }
  refuses(
    { format: "gguf", shapes: { "blk.0.attn_q.bias": [16] } },
    /a use for tensor "blk.0.attn_q.bias"/,
  );
  // Old files keep the rotary frequencies, which say nothing new.
  findWeights(table({ shapes: { "model.layers.0.self_attn.rotary_emb.inv_freq": [2] } }), CONFIG);
});

test("a tied head is the embedding table, whichever of the two the file has", () => {
  const embed = "model.embed_tokens.weight";
  const head = "lm_head.weight";
  const names = (parts: TableParts, tiedEmbeddings: boolean) => {
    const { embedTokens, lmHead } = findWeights(table(parts), { ...CONFIG, tiedEmbeddings });
    return [embedTokens.name, lmHead?.name ?? null];
  };
  deepEqual(names({}, false), [embed, head]);
  deepEqual(names({}, true), [embed, null]);
  deepEqual(names({ shapes: { [head]: null } }, true), [embed, null]);
  deepEqual(names({ shapes: { [embed]: null } }, true), [head, null]);
  const ties: Record<string, string>[] = [{ [embed]: head }, { [head]: embed }];
  for (const metadata of ties) {
    deepEqual(names({ shapes: { [embed]: null }, metadata }, false), [head, null]);
    deepEqual(names({ shapes: { [head]: null }, metadata }, false), [embed, null]);
    deepEqual(names({ metadata }, false), [embed, head]);
  }
  refuses({ shapes: { [head]: null } }, /"lm_head.weight" \[12,6\] must be there/);
  refuses({ shapes: { [embed]: null } }, /"model.embed_tokens.weight" \[12,6\] must be there/);
  refuses({ shapes: { [embed]: null, [head]: null } }, /"model.embed_tokens.weight"/, {
    tiedEmbeddings: true,
  });
});

test("a head of its own is loaded beside the table", async () => {
  using backend = new ReferenceBackend();
  const weights = await loadWeights(backend, table(), CONFIG);
  ok(weights.lmHead !== weights.embedTokens);
  disposeWeights(weights);
  equal(backend.byteLength, 0);
});

test("loadWeights gives back what it had loaded when a read fails", async () => {
  const whole = [...table().tensors.values()].reduce((sum, t) => sum + t.byteLength, 0);
  for (const failsFrom of [0, whole / 2, whole - 1]) {
    using backend = new ReferenceBackend();
    await rejects(() => loadWeights(backend, table({ failsFrom }), CONFIG), /the disk is gone/);
    equal(backend.byteLength, 0);
  }
});

test("loadWeights checks everything before it asks the backend for anything", async () => {
  let asked = 0;
  const backend = {
    weight(_source: WeightSource): Promise<Weight> {
      asked++;
      throw new Error("must not be reached");
    },
  } as Partial<Backend> as Backend;
  const shapes = { "model.norm.weight": [5] };
  await rejects(() => loadWeights(backend, table({ shapes }), CONFIG), ModelFormatError);
  equal(asked, 0);
});
