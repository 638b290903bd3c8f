/**
 * out = a + b                                         for quads [start, end)
 *
 * @param outPtr f32[4 * end]; may be a or b
 */
export function add(outPtr: usize, aPtr: usize, bPtr: usize, start: u32, end: u32): void {
  const last = <usize>end << 4;
  for (let i = <usize>start << 4; i < last; i += 16) {
    v128.store(outPtr + i, f32x4.add(v128.load(aPtr + i), v128.load(bPtr + i)));
  }
}
