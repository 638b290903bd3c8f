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

const BYTES =
  "let q = vec4<i32>(i32(w << 24u), i32(w << 16u), i32(w << 8u), i32(w)) >> vec4<u32>(24u);";

/** Four lower halves of bytes of the word that the quad is in. */
const NIBBLES = `let eight = numbers[(panel * (p.quads / 2u) + quad / 2u) * p.panel + row];
  let nibbles = (vec4<u32>(eight >> ((quad & 1u) * 16u)) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);`;

/** Four bits of a word, above the lower halves. */
const FIFTH = (word: string) =>
  `((vec4<u32>(${word} >> ((quad & 7u) * 4u)) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u)`;

/** u32[block][row][2]: fifth bits; the scale, and the minimum above it. */
const FIVE_BITS = (value: string) => `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  ${NIBBLES}
  let beside = scales[(panel * (p.quads / 8u) + quad / 8u) * p.panel + row];
  let q = vec4<f32>(nibbles | (${FIFTH("beside.x")}));
  let scale = fromHalf(beside.y & 0xffffu);
  let minimum = fromHalf(beside.y >> 16u);
  return ${value};
}`;

/**
 * u32[superblock][words][row]: scale and minimum of all; eight scales, and eight minima, as bytes; where there is
 * one, the fifth bits of each part. A scale of a part has 17 bits and its products 22, so that only the
 * minimum's sum rounds.
 */
const SUPERBLOCK = (words: number) => `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  ${NIBBLES}
  let part = (quad / 8u) & 7u;
  let begin = (panel * (p.quads / 64u) + quad / 64u) * ${words}u * p.panel + row;
  let both = scales[begin];
  let shift = (part & 3u) * 8u;
  let scale = (scales[begin + (1u + part / 4u) * p.panel] >> shift) & 0xffu;
  let minimum = (scales[begin + (3u + part / 4u) * p.panel] >> shift) & 0xffu;
  ${
  words === 5 ? "let q = vec4<f32>(nibbles);" : `let fifths = scales[begin + (5u + part) * p.panel];
  let q = vec4<f32>(nibbles | (${FIFTH("fifths")}));`
}
  return fromHalf(both & 0xffffu) * f32(scale) * q - vec4<f32>(fromHalf(both >> 16u) * f32(minimum));
}`;

/** u32[superblock][20][row]: upper two bits of 16 numbers each, 16 scales as bytes; then u16[superblock][row], scales of all. */
const SIX_BITS = `
fn weightQuad(panel: u32, row: u32, quad: u32) -> vec4<f32> {
  ${NIBBLES}
  let blocks = p.quads / 64u;
  let block = quad / 64u;
  let place = quad & 63u;
  let words = blocks * 20u * p.panel;
  let whole = panel * (words + (blocks * p.panel + 1u) / 2u);
  let begin = whole + block * 20u * p.panel + row;
  let two = scales[begin + (place / 4u) * p.panel] >> ((place & 3u) * 8u);
  let high = ((vec4<u32>(two) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u)) << vec4<u32>(4u);
  let q = vec4<f32>(nibbles | high) - vec4<f32>(32.0);
  let bytes = scales[begin + (16u + place / 16u) * p.panel];
  let scale = i32(bytes << (24u - ((place / 4u) & 3u) * 8u)) >> 24u;
  let i = block * p.panel + row;
  let half = fromHalf((scales[whole + words + i / 2u] >> ((i & 1u) * 16u)) & 0xffffu);
  return half * f32(scale) * q;
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
  q5: {
    numbers: "array<u32>",
    scales: "array<vec2<u32>>",
    code: FIVE_BITS("scale * (q - vec4<f32>(16.0))"),
  },
  q5m: {
    numbers: "array<u32>",
    scales: "array<vec2<u32>>",
    code: FIVE_BITS("scale * q + vec4<f32>(minimum)"),
  },
  q4k: { numbers: "array<u32>", scales: "array<u32>", code: SUPERBLOCK(5) },
  q5k: { numbers: "array<u32>", scales: "array<u32>", code: SUPERBLOCK(13) },
  q6k: { numbers: "array<u32>", scales: "array<u32>", code: SIX_BITS },
};

/** The buffers of a reader. Scales only where there are some: a buffer is bound once. */
export function weightBuffers(packing: PackingName): { numbers: BufferUse; scales: BufferUse } {
  const { numbers, scales } = WEIGHT_READERS[packing];
  return { numbers: ["read", numbers], scales: ["read", scales] };
}

/** All packings. */
export const PACKING_NAMES = Object.keys(WEIGHT_READERS) as PackingName[];
