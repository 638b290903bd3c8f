import { madd, sumLanes } from "./simd";

/**
 * Root mean square normalisation. Zhang and Sennrich 2019 (arXiv 1910.07467).
 *
 *     out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * gain          for r in [start, end)
 *
 * @param outPtr  f32[end, 4 * quads]; may be x
 * @param xPtr    f32[end, 4 * quads], zero beyond `cols`
 * @param gainPtr f32[4 * quads], zero beyond `cols`
 */
export function rmsNorm(
  outPtr: usize,
  xPtr: usize,
  gainPtr: usize,
  epsilon: f32,
  cols: u32,
  quads: u32,
  start: u32,
  end: u32,
): void {
  const rowBytes = <usize>quads << 4;
  for (let r = start; r < end; r++) {
    const x = xPtr + <usize>r * rowBytes;
    const out = outPtr + <usize>r * rowBytes;
    let sum = f32x4.splat(0);
    for (let i: usize = 0; i < rowBytes; i += 16) {
      const v = v128.load(x + i);
      sum = madd(v, v, sum);
    }
    const mean = <f64>sumLanes(sum) / <f64>cols;
    const scale = f32x4.splat(<f32>(1 / sqrt<f64>(mean + <f64>epsilon)));
    for (let i: usize = 0; i < rowBytes; i += 16) {
      v128.store(
        out + i,
        f32x4.mul(f32x4.mul(v128.load(x + i), scale), v128.load(gainPtr + i)),
      );
    }
  }
}
