/** Sets bytes: JavaScript's fill is slow on shared memory. */
export function fill(outPtr: usize, byte: u8, bytes: usize): void {
  memory.fill(outPtr, byte, bytes);
}
