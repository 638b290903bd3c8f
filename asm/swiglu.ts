import { exp4 } from "./exp";

/**
 * Gated linear unit. Shazeer 2020 (arXiv 2002.05202).
 *
 *     out = gate / (1 + exp(-gate)) * up                for quads [start, end)
 *
 * @param outPtr  f32[4 * end]; may be gate or up
 * @param gatePtr f32[4 * end]
 * @param upPtr   f32[4 * end]
 */
export function swiGlu(outPtr: usize, gatePtr: usize, upPtr: usize, start: u32, end: u32): void {
  const one = f32x4.splat(1);
  const last = <usize>end << 4;
  for (let i = <usize>start << 4; i < last; i += 16) {
    const gate = v128.load(gatePtr + i);
    const silu = f32x4.div(gate, f32x4.add(one, exp4(f32x4.neg(gate))));
    v128.store(outPtr + i, f32x4.mul(silu, v128.load(upPtr + i)));
  }
}
