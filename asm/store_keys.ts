import {
  channelBytes,
  KEY_LIMIT,
  KEY_OFFSET,
  kvExact,
  kvHalf,
  kvHeadStride,
  kvQuads,
  kvScales,
  planeOffset,
} from "./kv_layout";

/**
 * Keys of some tokens, of all KV heads, into a chunk: as high bytes and scales, and exactly.
 *
 * @param chunkPtr    the chunk's tokens of the layer and KV head 0
 * @param layoutPtr   kv_layout.ts
 * @param channelsPtr of KV head 0
 * @param scratchPtr  f32[4 * quads]
 * @param xPtr        f32[rows, heads * headDim], rows `xStride` bytes apart
 * @param row         the first to write
 */
export function storeKeys(
  chunkPtr: usize,
  layoutPtr: usize,
  channelsPtr: usize,
  scratchPtr: usize,
  xPtr: usize,
  xStride: usize,
  heads: u32,
  headDim: u32,
  row: u32,
  rows: u32,
): void {
  const quads = kvQuads(layoutPtr);
  const half = kvHalf(layoutPtr);
  const rowBytes = <usize>quads << 4;
  v128.store(scratchPtr + rowBytes - 16, f32x4.splat(0));
  for (let h: u32 = 0; h < heads; h++) {
    const chunk = chunkPtr + <usize>h * kvHeadStride(layoutPtr);
    const centres = channelsPtr + <usize>h * channelBytes(quads);
    for (let r: u32 = 0; r < rows; r++) {
      const x = xPtr + <usize>r * xStride + (<usize>(h * headDim) << 2);
      const at = row + r;
      const plane = planeOffset(at, quads);
      const exact = chunk + kvExact(layoutPtr) + (half ? plane : <usize>at * rowBytes);
      memory.copy(scratchPtr, x, <usize>headDim << 2);
      if (!half) memory.copy(exact, scratchPtr, rowBytes);
      const largest = centre(scratchPtr, centres, rowBytes);
      store<f32>(chunk + kvScales(layoutPtr) + (<usize>at << 2), largest / KEY_LIMIT);
      const factor: f32 = largest > 0 ? KEY_LIMIT / largest : 0;
      split(chunk + plane, half ? exact : 0, scratchPtr, rowBytes, factor);
    }
  }
}

/** Centres and weighs a key in place. Returns its largest magnitude; NaN if there is one, so that it shows. */
function centre(keyPtr: usize, centresPtr: usize, rowBytes: usize): f32 {
  let largest = f32x4.splat(0);
  for (let i: usize = 0; i < rowBytes; i += 16) {
    const x = f32x4.mul(
      f32x4.sub(v128.load(keyPtr + i), v128.load(centresPtr + i)),
      v128.load(centresPtr + rowBytes + i),
    );
    v128.store(keyPtr + i, x);
    largest = f32x4.max(largest, f32x4.abs(x));
  }
  return max(
    max(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  );
}

/** Numbers to bytes, four at a time and 32 bytes apart; the low ones only where there is a place for them. */
function split(highPtr: usize, lowPtr: usize, keyPtr: usize, rowBytes: usize, factor: f32): void {
  const factors = f32x4.splat(factor);
  const offset = f32x4.splat(KEY_OFFSET);
  const least = f32x4.splat(KEY_OFFSET - KEY_LIMIT), most = f32x4.splat(KEY_OFFSET + KEY_LIMIT);
  for (let i: usize = 0; i < rowBytes; i += 16) {
    const n = f32x4.add(f32x4.nearest(f32x4.mul(v128.load(keyPtr + i), factors)), offset);
    // Rounding may have passed the limit by one.
    const bits = i32x4.trunc_sat_f32x4_u(f32x4.pmax(least, f32x4.pmin(most, n)));
    const bytes = v128.shuffle<i8>(bits, bits, 1, 5, 9, 13, 0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0);
    v128.store32_lane(highPtr, bytes, 0);
    highPtr += 32;
    if (lowPtr) {
      v128.store32_lane(lowPtr, bytes, 1);
      lowPtr += 32;
    }
  }
}
