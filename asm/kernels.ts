/**
 * The kernels: pure functions over pointers. Outputs come first, sizes after pointers, and the range
 * of work, (start, end), last, so that threads can share it. Nothing allocates, nothing is global.
 */
export { add } from "./add";
export { attend, attendScratchBytes } from "./attend";
export {
  attendFew,
  attendFewScratchBytes,
  attendFewStateBytes,
  attendMerge,
} from "./attend_few";
export { fill } from "./fill";
export { matmul, matmulScratchBytes } from "./matmul";
export { matmulQuantised, matmulQuantisedScratchBytes } from "./matmul_quantised";
export { packPanels, unpackRow, widen } from "./pack";
export { packBlocks, unpackBlocks } from "./pack_quantised";
export { packPairs } from "./pairs";
export { probeDots } from "./quantised";
export { quantisedBytes, quantisedGroups, quantizeRows } from "./quantize";
export { rmsNorm } from "./rms_norm";
export { ropeAngles } from "./rope";
export { listBytes, scanScratchBytes, selectKeys } from "./scan_keys";
export { packedQueryBytes, packQueries } from "./scan_queries";
export { storeKeys } from "./store_keys";
export { storeRows } from "./store_rows";
export { swiGlu } from "./swiglu";
export { mergeTopK } from "./top_k";

/** Which build this is: bit 0 relaxed SIMD, bit 1 shared memory. */
export function features(): i32 {
  return i32(ASC_FEATURE_RELAXED_SIMD) | (i32(ASC_FEATURE_THREADS) << 1);
}

/** Where memory that is not the kernels' own tables begins. */
export function heapBase(): usize {
  return __heap_base;
}
