/**
 * Picks the build of the kernels that runs here, compiles and instantiates it.
 *
 * @module
 */

/** The exports of asm/kernels.ts. Pointers and sizes are u32; what each means is said there. */
export interface Kernels {
  add(out: number, a: number, b: number, start: number, end: number): void;
  attend(
    out: number,
    query: number,
    segments: number,
    ends: number,
    rope: number,
    scratch: number,
    layout: number,
    channels: number,
    stride: number,
    segmentsStride: number,
    endsStride: number,
    headDim: number,
    group: number,
    rows: number,
    partRows: number,
    parts: number,
    start: number,
    end: number,
  ): void;
  attendScratchBytes(partRows: number, group: number, headDim: number): number;
  attendFew(
    states: number,
    query: number,
    segments: number,
    ends: number,
    rope: number,
    scratch: number,
    layout: number,
    channels: number,
    stride: number,
    segmentsStride: number,
    endsStride: number,
    headDim: number,
    group: number,
    rows: number,
    pieceTokens: number,
    pieces: number,
    start: number,
    end: number,
  ): void;
  attendFewScratchBytes(queries: number, headDim: number): number;
  attendFewStateBytes(items: number, queries: number, headDim: number): number;
  attendMerge(
    out: number,
    states: number,
    stride: number,
    heads: number,
    headDim: number,
    group: number,
    rows: number,
    pieces: number,
  ): void;
  matmul(
    out: number,
    x: number,
    pairs: number,
    weight: number,
    scratch: number,
    outStride: number,
    xStride: number,
    rows: number,
    outputs: number,
    quads: number,
    format: number,
    start: number,
    end: number,
  ): void;
  matmulScratchBytes(quads: number, rows: number): number;
  matmulQuantised(
    out: number,
    x: number,
    weight: number,
    scratch: number,
    outStride: number,
    rows: number,
    outputs: number,
    blocks: number,
    format: number,
    exact: number,
    start: number,
    end: number,
  ): void;
  matmulQuantisedScratchBytes(): number;
  packBlocks(
    out: number,
    rows: number,
    count: number,
    outputs: number,
    blocks: number,
    format: number,
    offset: number,
    start: number,
  ): void;
  unpackBlocks(
    out: number,
    weight: number,
    row: number,
    outputs: number,
    blocks: number,
    format: number,
    offset: number,
  ): void;
  probeDots(a: number, b: number, pairs: number): number;
  quantizeRows(
    out: number,
    x: number,
    xStride: number,
    rows: number,
    blocks: number,
    format: number,
    exact: number,
    offset: number,
    start: number,
    end: number,
  ): void;
  quantisedBytes(rows: number, blocks: number, format: number, exact: number): number;
  quantisedGroups(rows: number, format: number, exact: number): number;
  packPairs(
    out: number,
    x: number,
    xStride: number,
    quads: number,
    start: number,
    end: number,
  ): void;
  packPanels(out: number, rows: number, count: number, cols: number, width: number): void;
  packQueries(
    out: number,
    query: number,
    stride: number,
    layout: number,
    channels: number,
    headDim: number,
    group: number,
    rows: number,
  ): void;
  unpackRow(out: number, panels: number, row: number, quads: number, format: number): void;
  widen(out: number, from: number, count: number, format: number): void;
  rmsNorm(
    out: number,
    x: number,
    gain: number,
    epsilon: number,
    cols: number,
    quads: number,
    start: number,
    end: number,
  ): void;
  ropeAngles(
    out: number,
    coarse: number,
    fine: number,
    half: number,
    position: number,
    count: number,
  ): void;
  listBytes(queries: number, topK: number): number;
  packedQueryBytes(queries: number, quads: number): number;
  scanScratchBytes(): number;
  selectKeys(
    lists: number,
    queries: number,
    segments: number,
    partStarts: number,
    scratch: number,
    layout: number,
    queriesPerHead: number,
    topK: number,
    weighting: number,
    runs: number,
    fused: number,
    parts: number,
    start: number,
    end: number,
  ): void;
  storeKeys(
    chunk: number,
    layout: number,
    channels: number,
    scratch: number,
    x: number,
    xStride: number,
    heads: number,
    headDim: number,
    row: number,
    rows: number,
  ): void;
  storeRows(
    out: number,
    x: number,
    xStride: number,
    heads: number,
    headDim: number,
    half: number,
    rows: number,
  ): void;
  swiGlu(out: number, gate: number, up: number, start: number, end: number): void;
  mergeTopK(
    values: number,
    tokens: number,
    laterValues: number,
    laterTokens: number,
    queries: number,
    topK: number,
  ): void;
  fill(out: number, byte: number, bytes: number): void;
  features(): number;
  heapBase(): number;
}

/** Which of the four builds. */
export interface Build {
  /** Fused multiply-add, where the engine fuses. */
  readonly relaxed: boolean;
  /** Of one memory with other threads. */
  readonly shared: boolean;
}

// (func (result v128) i32.const 1 i8x16.splat i32.const 2 i8x16.splat i8x16.relaxed_swizzle)
// deno-fmt-ignore
const RELAXED_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
);

// (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt)
// deno-fmt-ignore
const SIMD_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** Whether this engine runs 128-bit SIMD at all. */
export function hasSimd(): boolean {
  return WebAssembly.validate(SIMD_PROBE);
}

/** Whether this engine runs relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(RELAXED_PROBE);
}

/** Compiles one build; only that one's bytes are loaded. */
export async function compileKernels(build: Build): Promise<WebAssembly.Module> {
  const { default: base64 } = build.relaxed
    ? build.shared
      ? await import("./kernels_relaxed_shared.gen.ts")
      : await import("./kernels_relaxed.gen.ts")
    : build.shared
    ? await import("./kernels_simd_shared.gen.ts")
    : await import("./kernels_simd.gen.ts");
  return await WebAssembly.compile(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
}

/**
 * An instance over a memory, which must be shared if and only if the build's is.
 *
 * @throws {WebAssembly.LinkError} If it is not.
 */
export async function instantiateKernels(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<Kernels> {
  const instance = await WebAssembly.instantiate(module, { env: { memory } });
  return instance.exports as unknown as Kernels;
}

/** The same at once, for another memory of a module that was instantiated before. */
export function instantiateMore(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels;
}

/** Which build an instance is. */
export function buildOf(kernels: Kernels): Build {
  const features = kernels.features();
  return { relaxed: (features & 1) !== 0, shared: (features & 2) !== 0 };
}
