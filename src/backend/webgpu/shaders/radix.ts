/**
 * The k-th largest of many integers, found from its highest byte down: each pass counts how often each byte
 * comes after the bytes that are known, and takes the one with which k is reached.
 *
 * @module
 */

/**
 * For workgroups of 256 lanes. A pass:
 *
 *     clearCounts(lane);          // barrier inside
 *     atomicAdd(&counts[byte], 1u) for every candidate
 *     takeByte(lane);             // barriers inside
 *
 * after which `chosen` is the byte, and `wanted` how many of those that have it are still to be taken.
 * `sumUp(lane, x)` gives the sum of the earlier lanes' x, and `summed` that of all.
 */
export const RADIX = `
var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> totals: array<u32, 256>;
var<workgroup> chosen: u32;
var<workgroup> wanted: u32;
var<workgroup> summed: u32;

fn clearCounts(lane: u32) {
  workgroupBarrier();
  atomicStore(&counts[lane], 0u);
  workgroupBarrier();
}

fn sumUp(lane: u32, x: u32) -> u32 {
  workgroupBarrier();
  totals[lane] = x;
  workgroupBarrier();
  for (var step = 1u; step < 256u; step <<= 1u) {
    var earlier = 0u;
    if (lane >= step) { earlier = totals[lane - step]; }
    workgroupBarrier();
    totals[lane] += earlier;
    workgroupBarrier();
  }
  if (lane == 255u) { summed = totals[255]; }
  workgroupBarrier();
  return totals[lane] - x;
}

fn takeByte(lane: u32) {
  workgroupBarrier();
  // Lanes count down: lane 0 has the largest byte.
  let byte = 255u - lane;
  let count = atomicLoad(&counts[byte]);
  let above = sumUp(lane, count);
  let left = wanted;
  workgroupBarrier();
  if (above < left && left <= above + count) {
    chosen = byte;
    wanted = left - above;
  }
  workgroupBarrier();
}`;
