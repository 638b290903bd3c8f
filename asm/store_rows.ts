import { storeF16x4 } from "./convert";

/**
 * Values of some tokens, of all KV heads, into a chunk.
 *
 * @param outPtr     [rows][heads][4 * quads]; zero beyond headDim
 * @param xPtr       f32[rows, heads * headDim], rows `xStride` bytes apart
 * @param headDim    quads = ceil(headDim / 4)
 * @param half       whether the chunk holds f16
 */
export function storeRows(
  outPtr: usize,
  xPtr: usize,
  xStride: usize,
  heads: u32,
  headDim: u32,
  half: bool,
  rows: u32,
): void {
  const whole = headDim >> 2;
  const tail = headDim & 3;
  let out = outPtr;
  for (let r: u32 = 0; r < rows; r++) {
    for (let h: u32 = 0; h < heads; h++) {
      let x = xPtr + <usize>r * xStride + (<usize>(h * headDim) << 2);
      for (let i: u32 = 0; i < whole; i++) {
        if (half) storeF16x4(out, v128.load(x));
        else v128.store(out, v128.load(x));
        x += 16;
        out += half ? 8 : 16;
      }
      if (tail) {
        let last = f32x4.splat(0);
        last = f32x4.replace_lane(last, 0, load<f32>(x));
        if (tail > 1) last = f32x4.replace_lane(last, 1, load<f32>(x, 4));
        if (tail > 2) last = f32x4.replace_lane(last, 2, load<f32>(x, 8));
        if (half) storeF16x4(out, last);
        else v128.store(out, last);
        out += half ? 8 : 16;
      }
    }
  }
}
