/**
 * How kernels find keys and values: asm/kv_layout.ts says where they are in a chunk; a store's table
 * (src/backend/webgpu/kv_table.ts) says where its chunks are.
 *
 * @module
 */

/** The parameters of all kernels that want to find keys or values. Sizes are words. */
const PARAMS = {
  quads: "u32", // vectors of four in a head
  is_half: "u32", // whether the format is i16
  chunkSize: "u32", // tokens
  slab: "u32", // the slab that is bound
  slotWords: "u32", // from a chunk's keys or values in it to the next's
} as const;

/** The parameters of kernels that find keys. */
export const KEY_PARAMS = {
  ...PARAMS,
  headWords: "u32", // from a KV head's keys to the next's
  scalesAt: "u32",
  exactAt: "u32",
} as const;

/** The parameters of kernels that find values. */
export const VALUE_PARAMS = {
  ...PARAMS,
  rowWords: "u32", // from a token's values to the next's
} as const;

/** Names of {@linkcode KEY_PARAMS}. */
export type KeyParam = keyof typeof KEY_PARAMS;

/** Names of {@linkcode VALUE_PARAMS}. */
export type ValueParam = keyof typeof VALUE_PARAMS;

/** What a table has where a chunk was forgotten. */
export const NOWHERE_ENTRY = 0xffffffff;

/** The slab of values that are in the spill file: no slab, but what was fetched from there. */
export const FETCHED_SLAB = 0xffe;

/**
 * A chunk's entry in `table`, u32[chunks][keys, values]: 2^20 times a slab, and a slot in it.
 *
 * @param token WGSL, of the chunk.
 */
export function entryOf(plane: "keys" | "values", token: string): string {
  return `table[2u * ((${token}) / p.chunkSize) + ${plane === "keys" ? 0 : 1}u]`;
}

/**
 * `slotOf(t)`: where a token's chunk has its keys or values in the bound slab; NOWHERE if they are in another one
 * or were forgotten. Wants `table`.
 */
export function slotOf(plane: "keys" | "values"): string {
  return `
const NOWHERE = ${NOWHERE_ENTRY}u;
fn slotOf(t: u32) -> u32 {
  let entry = ${entryOf(plane, "t")};
  if (entry == NOWHERE || (entry >> 20u) != p.slab) { return NOWHERE; }
  return entry & 0xfffffu;
}`;
}

/**
 * `keyQuad(at, row, quad)`: four of a key's numbers as they are stored, `at` being where the chunk's keys of
 * the KV head begin. In i16 they are integers, to be multiplied by `keyScale`. Wants `keys`, u32 words.
 */
export const KEY_QUAD = `
fn keyQuad(at: u32, row: u32, quad: u32) -> vec4<f32> {
  if (p.is_half == 0u) {
    let i = at + p.exactAt + (row * p.quads + quad) * 4u;
    return bitcast<vec4<f32>>(vec4<u32>(keys[i], keys[i + 1u], keys[i + 2u], keys[i + 3u]));
  }
  let i = at + ((row >> 3u) * p.quads + quad) * 8u + (row & 7u);
  let shift = vec4<u32>(0u, 8u, 16u, 24u);
  let high = (vec4<u32>(keys[i]) >> shift) & vec4<u32>(0xffu);
  let low = (vec4<u32>(keys[i + p.exactAt]) >> shift) & vec4<u32>(0xffu);
  return vec4<f32>(high * 256u + low) - vec4<f32>(16384.0);
}
fn keyScale(at: u32, row: u32) -> f32 {
  if (p.is_half == 0u) { return 1.0; }
  return bitcast<f32>(keys[at + p.scalesAt + row]);
}`;

/** `valueQuad(at, quad)`: four of a value's numbers, which begin at word `at` of `values`. */
export const VALUE_QUAD = `
fn valueQuad(at: u32, quad: u32) -> vec4<f32> {
  if (p.is_half == 0u) {
    let i = at + quad * 4u;
    return bitcast<vec4<f32>>(vec4<u32>(values[i], values[i + 1u], values[i + 2u], values[i + 3u]));
  }
  let i = at + quad * 2u;
  return vec4<f32>(fromHalves(values[i]), fromHalves(values[i + 1u]));
}
fn valueHeadWords() -> u32 { return select(4u, 2u, p.is_half != 0u) * p.quads; }`;
