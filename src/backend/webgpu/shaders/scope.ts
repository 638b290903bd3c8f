/**
 * A scope as kernels see it: [0, globalEnd), what was selected, and the local tokens.
 *
 * @module
 */

/** The parameters that say what is in it. */
export const SCOPE_PARAMS = {
  globalEnd: "u32",
  localStart: "u32",
  length: "u32",
  has_selection: "u32",
  listStride: "u32", // words from a KV head's list of tokens to the next's; 0 where there is one for all
  is_sequence: "u32", // whether positions are the true ones
} as const;

/**
 * `scopeLength(head)`, and `tokenAt(head, i)`, the i-th of it. Wants `selected`, u32[lists][count, tokens...].
 */
export const SCOPE = `
fn selectedCount(head: u32) -> u32 {
  if (p.has_selection == 0u) { return 0u; }
  return selected[head * p.listStride];
}
fn scopeLength(head: u32) -> u32 {
  return p.globalEnd + selectedCount(head) + p.length - p.localStart;
}
fn tokenAt(head: u32, i: u32) -> u32 {
  if (i < p.globalEnd) { return i; }
  let count = selectedCount(head);
  if (i < p.globalEnd + count) { return selected[head * p.listStride + 1u + i - p.globalEnd]; }
  return p.localStart + i - p.globalEnd - count;
}`;
