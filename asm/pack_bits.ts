/**
 * Weights of q4_k, q5_k, q6_k, q4_1, q5_0 and q5_1, from a GGUF file's rows to panels (quantised.ts)
 * and back. Where their numbers are in a file: ggml's block_q4_K and the others.
 */
import { blockOffset, loadScale, PANEL, Quantised, superBlocks, superBytes } from "./quantised";

/** Bytes of a block (of a superblock) in a file. */
// @ts-ignore: decorator
@inline
function fileBytes(format: i32): usize {
  if (format == Quantised.Q4K) return 144;
  if (format == Quantised.Q5K) return 176;
  if (format == Quantised.Q6K) return 210;
  return format == Quantised.Q41 ? 20 : format == Quantised.Q50 ? 22 : 24;
}

/** Four neighbours of block `b` of a superblock in a file, each in a byte; `i` is their quad. */
// @ts-ignore: decorator
@inline
function fileQuad(from: usize, format: i32, b: u32, i: usize): u32 {
  if (format == Quantised.Q4K || format == Quantised.Q5K) {
    // Neighbouring blocks are the lower and the upper halves of the same bytes.
    const five = format == Quantised.Q5K;
    const low = load<u32>(from + (five ? 48 : 16) + (<usize>(b >> 1) << 5) + (i << 2));
    const quad = (low >> ((b & 1) << 2)) & 0x0f0f0f0f;
    return five ? quad | ((load<u32>(from + 16 + (i << 2)) >> b) & 0x01010101) << 4 : quad;
  }
  if (format == Quantised.Q6K) {
    // Four blocks share 64 bytes of lower and 32 of upper bits.
    const part = <usize>(b >> 2);
    const low = load<u32>(from + (part << 6) + (<usize>(b & 1) << 5) + (i << 2));
    const high = load<u32>(from + 128 + (part << 5) + (i << 2));
    return (low >> ((b & 2) << 1)) & 0x0f0f0f0f | ((high >> ((b & 3) << 1)) & 0x03030303) << 4;
  }
  const lowAt: usize = format == Quantised.Q41 ? 4 : format == Quantised.Q50 ? 6 : 8;
  const low = (load<u32>(from + lowAt + ((i & 3) << 2)) >> (i < 4 ? 0 : 4)) & 0x0f0f0f0f;
  if (format == Quantised.Q41) return low;
  const bits = (load<u32>(from + lowAt - 4) >> <u32>(i << 2)) & 15;
  // Bit k to byte k: the products are bits 8k and others, none of them twice.
  return low | ((bits * 0x00204081) & 0x01010101) << 4;
}

/** The 6-bit scale (or minimum) of block `b`: ggml's get_scale_min_k4. */
// @ts-ignore: decorator
@inline
function sixBits(scales: usize, b: u32, minimum: bool): u32 {
  const at = scales + b + (minimum ? 4 : 0);
  if (b < 4) return <u32>load<u8>(at) & 63;
  const both = <u32>load<u8>(scales + b + 4);
  return (minimum ? both >> 4 : both & 15) | (<u32>load<u8>(at - 4) >> 6) << 4;
}

/** Minus an f16's bits. */
// @ts-ignore: decorator
@inline
function negative(half: u32): u16 {
  return <u16>(half ^ 0x8000);
}

/** Sixteen times an f16, as one: exact below 4096. */
// @ts-ignore: decorator
@inline
function sixteenTimes(ptr: usize): u16 {
  const sign = <u32>load<u16>(ptr) & 0x8000;
  const size = reinterpret<u32>(abs(loadScale(ptr)) * <f32>16 * <f32>1.925929944387236e-34) >> 13;
  return <u16>(sign | min<u32>(size, 0x7c00));
}

/** A quad's bits, moved up by some, instead of those beyond `mask`. */
// @ts-ignore: decorator
@inline
function put(ptr: usize, mask: u32, bits: u32): void {
  store<u32>(ptr, load<u32>(ptr) & mask | bits);
}

/** Quad i of row j into a block of six bits. */
function putSix(block: usize, j: usize, i: usize, quad: u32): void {
  const at = block + (i >> 1) * 48 + ((j & 3) << 2);
  const n = ((i & 1) << 1) | (j >> 2);
  if (n < 3) return put(at + (n << 4), 0xc0c0c0c0, quad);
  put(at, 0x3f3f3f3f, (quad & 0x30303030) << 2);
  put(at + 16, 0x3f3f3f3f, (quad & 0x0c0c0c0c) << 4);
  put(at + 32, 0x3f3f3f3f, (quad & 0x03030303) << 6);
}

/** Quad i of row j into a block of five bits. */
function putFive(block: usize, j: usize, i: usize, quad: u32): void {
  const at = block + (i >> 2) * 80 + ((j & 3) << 2);
  const n = ((i & 3) << 1) | (j >> 2);
  if (n < 5) return put(at + (n << 4), 0xe0e0e0e0, quad);
  put(at + ((n - 5) << 5), 0x1f1f1f1f, (quad & 0x07070707) << 5);
  if (n < 7) return put(at + ((n - 5) << 5) + 16, 0x9f9f9f9f, (quad & 0x18181818) << 2);
  put(at + 16, 0x7f7f7f7f, (quad & 0x08080808) << 4);
  put(at + 48, 0x7f7f7f7f, (quad & 0x10101010) << 3);
}

/** Numbers of a block from file order into a panel's row. */
function packNumbers(block: usize, j: usize, from: usize, format: i32, b: u32): void {
  if (format == Quantised.Q4K) {
    for (let i: usize = 0; i < 4; i++) {
      const high = fileQuad(from, format, b, i + 4) << 4;
      store<u32>(block + i * (4 * PANEL) + (j << 2), fileQuad(from, format, b, i) | high);
    }
  } else if (format == Quantised.Q6K) {
    for (let i: usize = 0; i < 8; i++) putSix(block, j, i, fileQuad(from, format, b, i));
  } else {
    for (let i: usize = 0; i < 8; i++) putFive(block, j, i, fileQuad(from, format, b, i));
  }
}

/** One row's superblock. @param out of the panel, @param j which of its rows */
function packRow(out: usize, from: usize, format: i32, j: usize): void {
  if (format == Quantised.Q6K) {
    store<u16>(out + (j << 1), load<u16>(from, 208));
    for (let b: u32 = 0; b < 8; b++) {
      const block = out + 16 + <usize>b * 208;
      packNumbers(block, j, from, format, b);
      store<u8>(block + j, load<u8>(from + 2 * b, 192), 192);
      store<u8>(block + j, load<u8>(from + 2 * b, 193), 200);
    }
  } else if (format == Quantised.Q4K || format == Quantised.Q5K) {
    const scalesAt: usize = format == Quantised.Q4K ? 128 : 160;
    store<u16>(out + (j << 1), load<u16>(from));
    store<u16>(out + (j << 1), load<u16>(from, 2), 16);
    for (let b: u32 = 0; b < 8; b++) {
      const block = out + 32 + <usize>b * (scalesAt + 16);
      packNumbers(block, j, from, format, b);
      store<u8>(block + scalesAt + j, <u8>sixBits(from + 4, b, false));
      store<u8>(block + scalesAt + j, <u8>sixBits(from + 4, b, true), 8);
    }
  } else {
    packNumbers(out, j, from, format, 0);
    const scales = out + (j << 1);
    store<u16>(scales, load<u16>(from), 160);
    // What is subtracted: the files of q4_1 and q5_1 have what is added, q5_0's numbers are 16 too large.
    const minimum = format == Quantised.Q50 ? sixteenTimes(from) : negative(load<u16>(from, 2));
    store<u16>(scales, minimum, 176);
  }
}

/** What packBlocks (pack_quantised.ts) does, for these formats. */
export function packBits(
  outPtr: usize,
  rowsPtr: usize,
  rows: u32,
  outputs: u32,
  blocks: u32,
  format: i32,
  start: u32,
): void {
  const step = superBlocks(format);
  const outBytes = superBytes(format);
  const rowBytes = <usize>(blocks / step) * fileBytes(format);
  const panels = (outputs + PANEL - 1) / PANEL;
  for (let first: u32 = 0; first < rows; first += PANEL) {
    const count = min(PANEL, rows - first);
    const panel = (start + first) / PANEL;
    for (let b: u32 = 0; b < blocks; b += step) {
      const out = outPtr + blockOffset(panel, b, panels, blocks, format);
      if (count < PANEL) memory.fill(out, 0, outBytes);
      let from = rowsPtr + <usize>first * rowBytes + <usize>(b / step) * fileBytes(format);
      for (let j: usize = 0; j < count; j++) {
        packRow(out, from, format, j);
        from += rowBytes;
      }
    }
  }
}

/** Quad i of a block's row j: each number in a byte. */
function panelQuad(block: usize, j: usize, format: i32, i: usize): u32 {
  if (format == Quantised.Q4K) {
    const both = load<u32>(block + (i & 3) * (4 * PANEL) + (j << 2));
    return (both >> (i < 4 ? 0 : 4)) & 0x0f0f0f0f;
  }
  if (format == Quantised.Q6K) {
    const at = block + (i >> 1) * 48 + ((j & 3) << 2);
    const n = ((i & 1) << 1) | (j >> 2);
    if (n < 3) return load<u32>(at + (n << 4)) & 0x3f3f3f3f;
    return (load<u32>(at) >> 2) & 0x30303030 | (load<u32>(at, 16) >> 4) & 0x0c0c0c0c |
      (load<u32>(at, 32) >> 6) & 0x03030303;
  }
  const at = block + (i >> 2) * 80 + ((j & 3) << 2);
  const n = ((i & 3) << 1) | (j >> 2);
  if (n < 5) return load<u32>(at + (n << 4)) & 0x1f1f1f1f;
  const least = (load<u32>(at + ((n - 5) << 5)) >> 5) & 0x07070707;
  if (n < 7) return least | (load<u32>(at + ((n - 5) << 5) + 16) >> 2) & 0x18181818;
  return least | (load<u32>(at, 16) >> 4) & 0x08080808 | (load<u32>(at, 48) >> 3) & 0x10101010;
}

/**
 * Quads [start, end) of a panel's row: scale * (number - offset) - minimum, rounded once at most,
 * because the product has 24 bits at most.
 */
function unpackQuads(
  out: usize,
  block: usize,
  j: usize,
  format: i32,
  start: usize,
  end: usize,
  scale: f32,
  minimum: f32,
  offset: i32,
): void {
  for (let i = start; i < end; i++) {
    const bytes = i32x4.splat(panelQuad(block, j, format, i));
    const words = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
    const numbers = f32x4.convert_i32x4_s(i32x4.sub(words, i32x4.splat(offset)));
    let values = f32x4.mul(numbers, f32x4.splat(scale));
    // Subtracting nothing would make -0 of q5_0 and q6_k +0 in some cases.
    if (offset == 0) values = f32x4.sub(values, f32x4.splat(minimum));
    v128.store(out + (i << 4), values);
  }
}

/** What unpackBlocks (pack_quantised.ts) does, for these formats. */
export function unpackBits(
  outPtr: usize,
  weightPtr: usize,
  row: u32,
  outputs: u32,
  blocks: u32,
  format: i32,
): void {
  const panels = (outputs + PANEL - 1) / PANEL;
  const j = <usize>(row % PANEL);
  const step = superBlocks(format);
  for (let b: u32 = 0; b < blocks; b++) {
    const part = weightPtr + blockOffset(row / PANEL, b - b % step, panels, blocks, format);
    const at = <usize>(b % step);
    if (format == Quantised.Q6K) {
      const block = part + 16 + at * 208;
      const d = loadScale(part + (j << 1));
      const scale = d * <f32>load<i8>(block + j, 192);
      unpackQuads(outPtr, block, j, format, 0, 4, scale, 0, 32);
      unpackQuads(outPtr, block, j, format, 4, 8, d * <f32>load<i8>(block + j, 200), 0, 32);
    } else if (step == 8) {
      const scalesAt: usize = format == Quantised.Q4K ? 128 : 160;
      const block = part + 32 + at * (scalesAt + 16);
      const scale = loadScale(part + (j << 1)) * <f32>load<u8>(block + scalesAt + j);
      const minimum = loadScale(part + 16 + (j << 1)) * <f32>load<u8>(block + scalesAt + j, 8);
      unpackQuads(outPtr, block, j, format, 0, 8, scale, minimum, 0);
    } else {
      const scale = loadScale(part + 160 + (j << 1));
      const minimum = loadScale(part + 176 + (j << 1));
      const offset = format == Quantised.Q50 ? 16 : 0;
      unpackQuads(outPtr, part, j, format, 0, 8, scale, minimum, offset);
    }
    outPtr += 128;
  }
}
