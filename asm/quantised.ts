/**
 * Quantised weights and activations: where the numbers are, and the few operations on them.
 *
 * Weights are panels of eight rows, and of 32 columns a block:
 *
 *     q8_0: u8[8 quads][8 rows][4]   f16[8] scales        272 bytes
 *     q4_0: u8[4][8 rows][4]         f16[8] scales        144 bytes; low halves are quads 0-3, high 4-7
 *     q4_k: eight blocks of u8[4][8 rows][4], u8[8] scales, u8[8] minima
 *     q5_k: eight blocks of u8[10][16], u8[8] scales, u8[8] minima
 *     q6_k: eight blocks of u8[12][16], i8[2][8] scales
 *     q5_1: u8[10][16]               f16[8] scales, f16[8] minima; q4_1 and q5_0 too
 *
 * where a quad is four columns, and a number is stored plus an offset: 8 in q4_0, 32 in q6_k, 0 or 128
 * in q8_0 (which of them the engine's dot needs: {@link probeDots}). The eight blocks of q4_k, q5_k and
 * q6_k follow an f16[8], which their scales are multiplied by, and but for q6_k an f16[8] for their
 * minima; q6_k has a scale for each half of a block. With minima a number stands for scale * number -
 * minimum.
 *
 * A quad of eight rows is two vectors. Of four such of six bits the first three have bytes of their
 * own, whose upper bits are the fourth: its highest two in the first. Of eight of five bits the first
 * five have bytes of their own; the upper three bits of 0, 2 and 4 are the lower of 5, 6 and 7, two
 * more of 1 and 3 the upper of 5 and 6, and the last of 1 and 3 are 7's. Masks and shifts are what
 * takes the time with one row: each vector's upper bits apart took a fifth longer (measured).
 *
 * Blocks lie in the order in which one row is multiplied with them: some blocks of each panel, one
 * panel after the other, then the next blocks of each (rows of activations longer than that would push
 * one another out of the L1 cache; weights not in order would be read at half the speed, both measured).
 *
 * Activations are groups of rows: as many as the largest tile takes, and of the rest pairs and one.
 * A group is blocks of 32 columns:
 *
 *     f32[rows][4] scales, i32[rows][4] corrections, [8 quads][rows] quads
 *
 * where a scale and a correction (-offset * the sum of the block's numbers; an offset of 1 for weights
 * with minima) fill a vector, and a quad is as `Form` says. For q6_k corrections are of the first
 * half, the second, and both again.
 */
import { RELAXED } from "./simd";

/** How weights are stored; the same values as in src/backend/wasm/memory.ts. */
export const enum Quantised {
  Q8 = 3,
  Q4 = 4,
  Q4K = 5,
  Q5K = 6,
  Q6K = 7,
  /** This and all that follow are packed alike. */
  Q41 = 8,
  Q50 = 9,
  Q51 = 10,
}

/** How activations are written for a way of multiplying. */
export const enum Form {
  /** Four i8, for 8-bit weights. */
  Quads = 0,
  /** Four i8, for weights of 4 to 6 bits. */
  Quads4 = 1,
  /** Four i8, high digits, and four i8, low digits: 16 * high + low. */
  Digits = 2,
  /** Four i16. */
  Words = 3,
}

/** Rows of a panel of weights. */
export const PANEL: u32 = 8;

/** Columns of a block. */
export const BLOCK: u32 = 32;

// [0] a nibble of each byte  [1] of each 16 bits  [2] 1  [3] 16, as i16
// [4] sign, exponent and mantissa of an f16 that was sign-extended to 32 bits and shifted left by 13
// [5] 2^112: what is missing in the exponent then
// [6] bits of each byte: the lower six, and three pairs; the lower five, and parts of five
const CONSTANTS: usize = memory.data<u32>([
  0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f,
  0x000f000f, 0x000f000f, 0x000f000f, 0x000f000f,
  0x00010001, 0x00010001, 0x00010001, 0x00010001,
  0x00100010, 0x00100010, 0x00100010, 0x00100010,
  0x8fffe000, 0x8fffe000, 0x8fffe000, 0x8fffe000,
  0x77800000, 0x77800000, 0x77800000, 0x77800000,
  0x3f3f3f3f, 0x3f3f3f3f, 0x3f3f3f3f, 0x3f3f3f3f,
  0x30303030, 0x30303030, 0x30303030, 0x30303030,
  0x0c0c0c0c, 0x0c0c0c0c, 0x0c0c0c0c, 0x0c0c0c0c,
  0x03030303, 0x03030303, 0x03030303, 0x03030303,
  0x1f1f1f1f, 0x1f1f1f1f, 0x1f1f1f1f, 0x1f1f1f1f,
  0x07070707, 0x07070707, 0x07070707, 0x07070707,
  0x18181818, 0x18181818, 0x18181818, 0x18181818,
  0x08080808, 0x08080808, 0x08080808, 0x08080808,
  0x10101010, 0x10101010, 0x10101010, 0x10101010,
], 16);

/** Constants are loaded, because V8 builds those in code again at each use: half as fast (measured). */
export const NIBBLES: usize = CONSTANTS;
export const ONES: usize = CONSTANTS + 32;
export const SIXTEENS: usize = CONSTANTS + 48;
export const MASKS: usize = CONSTANTS + 96;

/** Four f16, sign-extended to lanes, as f32; infinities and NaN come out as 2^16 and more. */
// @ts-ignore: decorator
@inline
export function scales(halves: v128): v128 {
  const bits = v128.and(i32x4.shl(halves, 13), v128.load(CONSTANTS, 64));
  return f32x4.mul(bits, v128.load(CONSTANTS, 80));
}

/** One f16 as f32, exactly. */
// @ts-ignore: decorator
@inline
export function loadScale(ptr: usize): f32 {
  const half = <u32>load<u16>(ptr);
  const size = (half & 0x7fff) << 13;
  const sign = (half & 0x8000) << 16;
  if (size >= 0x0f800000) return reinterpret<f32>(sign | size | 0x7f800000);
  return reinterpret<f32>(reinterpret<u32>(reinterpret<f32>(size) * <f32>5.192296858534828e33) | sign);
}

/** sums + the dots of four bytes each: a is signed; b too, or not, or not beyond 127: the engine decides. */
// @ts-ignore: decorator
@inline
export function dot4(a: v128, b: v128, sums: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, sums);
}

/** Dots of two bytes each, as i16; exact as long as they fit, whatever the engine takes b for. */
// @ts-ignore: decorator
@inline
export function dot2(a: v128, b: v128): v128 {
  return v128.relaxed_dot<i16>(a, b);
}

/**
 * What this engine's dots make of bytes that the standard leaves open.
 *
 * @param a a byte, as signed as the dots take it
 * @param b a byte beyond 127
 * @param pairs whether of two bytes; of four if not
 * @returns the sum; 0 in a build without such dots
 */
export function probeDots(a: i32, b: i32, pairs: bool): i32 {
  if (!RELAXED) return 0;
  const x = i8x16.splat(<i8>a);
  const y = i8x16.splat(<i8>b);
  return pairs
    ? <i32>i16x8.extract_lane_s(dot2(x, y), 0)
    : i32x4.extract_lane(dot4(x, y, i32x4.splat(0)), 0);
}

/** Blocks of a panel that share scales: a superblock. */
// @ts-ignore: decorator
@inline
export function superBlocks(format: i32): u32 {
  return format >= Quantised.Q4K && format <= Quantised.Q6K ? 8 : 1;
}

/** Bytes of a superblock of a panel. */
// @ts-ignore: decorator
@inline
export function superBytes(format: i32): usize {
  if (format == Quantised.Q8) return 272;
  if (format == Quantised.Q4) return 144;
  if (format == Quantised.Q4K) return 32 + 8 * 144;
  if (format == Quantised.Q5K) return 32 + 8 * 176;
  return format == Quantised.Q6K ? 16 + 8 * 208 : 192;
}

/** Blocks of a panel that lie together: with as many of a row of activations they are less than 32 KB. */
export const BLOCKS_TOGETHER: u32 = 64;

/** Where a block of a panel is, the first of a superblock, in bytes. */
// @ts-ignore: decorator
@inline
export function blockOffset(panel: u32, block: u32, panels: u32, blocks: u32, format: i32): usize {
  const first = block - block % BLOCKS_TOGETHER;
  const count = min(BLOCKS_TOGETHER, blocks - first);
  const before = <usize>first * panels + <usize>panel * count + (block - first);
  return before / superBlocks(format) * superBytes(format);
}

/** How activations are to be written. @param exact whether {@link dot4} is exact for all bytes */
// @ts-ignore: decorator
@inline
export function formOf(format: i32, exact: bool): i32 {
  if (!RELAXED) return Form.Words;
  if (format != Quantised.Q8) return Form.Quads4;
  return exact ? Form.Quads : Form.Digits;
}

/** Rows of the largest tile. */
// @ts-ignore: decorator
@inline
export function tileRows(form: i32): u32 {
  return form <= Form.Quads4 ? 6 : 3;
}

/** Groups of some rows. */
// @ts-ignore: decorator
@inline
export function groupsOf(rows: u32, tile: u32): u32 {
  return rows / tile + ((rows % tile + 1) >> 1);
}

/** The first row of a group; of the group after the last, all rows. */
// @ts-ignore: decorator
@inline
export function firstRow(group: u32, rows: u32, tile: u32): u32 {
  const whole = rows / tile;
  return group <= whole ? group * tile : min(rows, whole * tile + ((group - whole) << 1));
}

/** Bytes of a block of a group of some rows. */
// @ts-ignore: decorator
@inline
export function groupBlockBytes(rows: u32, form: i32): usize {
  return <usize>rows * (32 + 8 * quadBytes(rows, form) * (form == Form.Digits ? 2 : 1));
}

/** Bytes of a quad, or of one of its two vectors of digits: four, or repeated over a vector. */
// @ts-ignore: decorator
@inline
export function quadBytes(rows: u32, form: i32): usize {
  if (form == Form.Words) return 8;
  return rows > 2 || (rows == 1 && form == Form.Quads4) ? 16 : 4;
}
