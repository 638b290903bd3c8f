/**
 * Where keys are in a chunk, for one layer and KV head:
 *
 *     u8[chunk / 8][quads][8][4]    high bytes of keys: what a scan reads
 *     f32[chunk]                    scales of keys
 *     u8[chunk / 8][quads][8][4]    low bytes of keys         (i16)
 *     f32[chunk][4 * quads]         keys as they came         (f32)
 *
 * and of all KV heads of the layer [chunk][heads][4 * quads] values, f16 or f32, elsewhere: keys must be at
 * hand, values only those of a scope.
 *
 * A key is stored in 15 bits a number, after its channels were centred and weighed alike:
 *
 *     n = round((key - centre) * weight / scale)      |n| <= 16383, scale of the token
 *     16384 + n = 256 * high + low                    high < 128
 *
 * Seven bits, because then the relaxed dot of signed and 7-bit bytes is exact in every engine.
 *
 * A record says where: u32[6] quads, whether i16, then the offsets of scales, of exact keys and of the next KV
 * head's keys, and the bytes from a token's values to the next token's. Channels are f32[3][4 * quads] per KV head: centre, weight, 1 / weight.
 */

/** What is added to a number before it is cut in two. */
export const KEY_OFFSET: f32 = 16384;

/** The largest number. */
export const KEY_LIMIT: f32 = 16383;

// @ts-ignore: decorator
@inline
export function kvQuads(layout: usize): u32 {
  return load<u32>(layout);
}

// @ts-ignore: decorator
@inline
export function kvHalf(layout: usize): bool {
  return load<u32>(layout, 4) != 0;
}

// @ts-ignore: decorator
@inline
export function kvScales(layout: usize): usize {
  return load<usize>(layout, 8);
}

// @ts-ignore: decorator
@inline
export function kvExact(layout: usize): usize {
  return load<usize>(layout, 12);
}

// @ts-ignore: decorator
@inline
export function kvHeadStride(layout: usize): usize {
  return load<usize>(layout, 16);
}

// @ts-ignore: decorator
@inline
export function kvValueStride(layout: usize): usize {
  return load<usize>(layout, 20);
}

/** Bytes of a value. */
// @ts-ignore: decorator
@inline
export function kvValueBytes(layout: usize): usize {
  return <usize>kvQuads(layout) << (kvHalf(layout) ? 3 : 4);
}

/** Bytes from a KV head's channels to the next's. */
// @ts-ignore: decorator
@inline
export function channelBytes(quads: u32): usize {
  return <usize>quads * 48;
}

/** Where a token's bytes are in a plane of them: four at each quad, 32 bytes apart. */
// @ts-ignore: decorator
@inline
export function planeOffset(row: u32, quads: u32): usize {
  return <usize>(row >> 3) * (<usize>quads << 5) + (<usize>(row & 7) << 2);
}
