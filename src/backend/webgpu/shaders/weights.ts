/**
 * How kernels read weights: `weightQuad(panel, row, quad)` is four numbers of a row, from the panels of
 * src/backend/webgpu/weights.ts.
 *
 * @module
 */

import type { BufferUse } from "../kernel.ts";
import type { PackingName } from "../packings.ts";

/** The parameters that readers need beside their kernel's own: rows of a panel, quads of a row. */
export const WEIGHT_PARAMS = { panel: "u32", quads: "u32" } as const;

/** What reads one packing. */
interface WeightReader {
  /** The type of the buffer of numbers, and of the buffer of scales. */
  readonly numbers: string;
  readonly scales: string;
  readonly code: string;
}

const SCALED = (quads: string) => `
fn weightScale(panel: u32, row: u32, quad: u32) -> f32 {
  // Two scales a word; each panel begins with a word of its own.
  let blocks = p.quads / 8u;
  let i = (quad / 8u) * p.panel + row;
  let word = scales[panel * ((blocks * p.panel + 1u) / 2u) + i / 2u];
  return fromHalf((word >> ((i & 1u) * 16u)) & 0xffffu);
}
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  ${quads}
  return weightScale(panel, row, quad) * vec4<f32>(q);
}`;

const BYTES = "let q = vec4<i32>(i32(w << 24u), i32(w << 16u), i32(w << 8u), i32(w)) >> vec4<u32>(24u);";

const SHARED = (quadsPerBlock: number) => `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  let w = numbers[(panel * p.quads + quad) * p.panel + row];
  ${BYTES}
  let pair = scales[(panel * (p.quads / ${quadsPerBlock}u) + quad / ${quadsPerBlock}u) * p.panel + row];
  return fma(vec4<f32>(pair.x), vec4<f32>(q), vec4<f32>(pair.y));
}`;

/** The readers of all packings. Where there are no scales, their buffer is not read. */
export const WEIGHT_READERS: Readonly<Record<PackingName, WeightReader>> = {
  f32: {
    numbers: "array<vec4<f32>>",
    scales: "array<vec4<f32>>",
    code: `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  return numbers[(panel * p.quads + quad) * p.panel + row];
}`,
  },
  f16: {
    numbers: "array<vec2<u32>>",
    scales: "array<vec2<u32>>",
    code: `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  let words = numbers[(panel * p.quads + quad) * p.panel + row];
  return vec4<f32>(fromHalves(words.x), fromHalves(words.y));
}`,
  },
  bf16: {
    numbers: "array<vec2<u32>>",
    scales: "array<vec2<u32>>",
    code: `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  let words = numbers[(panel * p.quads + quad) * p.panel + row];
  return bitcast<vec4<f32>>(
    vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u),
  );
}`,
  },
  q8: {
    numbers: "array<u32>",
    scales: "array<u32>",
    code: SCALED(`let w = numbers[(panel * p.quads + quad) * p.panel + row];
  ${BYTES}`),
  },
  q4: {
    numbers: "array<u32>",
    scales: "array<u32>",
    code: SCALED(`let eight = numbers[(panel * (p.quads / 2u) + quad / 2u) * p.panel + row];
  let w = eight >> ((quad & 1u) * 16u);
  let q = vec4<i32>((vec4<u32>(w) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - vec4<i32>(8);`),
  },
  bytes32: { numbers: "array<u32>", scales: "array<vec2<f32>>", code: SHARED(8) },
  bytes16: { numbers: "array<u32>", scales: "array<vec2<f32>>", code: SHARED(4) },
};

/** The buffers of a reader. Scales only where there are some: a buffer is bound once. */
export function weightBuffers(packing: PackingName): { numbers: BufferUse; scales: BufferUse } {
  const { numbers, scales } = WEIGHT_READERS[packing];
  return { numbers: ["read", numbers], scales: ["read", scales] };
}

/** All packings. */
export const PACKING_NAMES = Object.keys(WEIGHT_READERS) as PackingName[];
