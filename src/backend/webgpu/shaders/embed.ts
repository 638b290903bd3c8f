/**
 *     out[r] = table[tokens[r]]
 *
 * @module
 */

import { defineKernel, type Kernel } from "../kernel.ts";
import type { PackingName } from "../packings.ts";
import { PACKING_NAMES, WEIGHT_PARAMS, WEIGHT_READERS, weightBuffers } from "./weights.ts";

type EmbedKernel = Kernel<
  "panel" | "quads" | "rows" | "cols" | "start" | "tableRows" | "outAt" | "tokensAt",
  "out" | "tokens" | "numbers" | "scales"
>;

/** Rows whose tokens are not in the part of the table, [start, start + tableRows), stay as they are. */
function embed(packing: PackingName): EmbedKernel {
  return defineKernel({
    name: `embed ${packing}`,
    params: {
      ...WEIGHT_PARAMS,
      rows: "u32",
      cols: "u32",
      start: "u32",
      tableRows: "u32",
      outAt: "u32",
      tokensAt: "u32",
    },
    buffers: {
      out: ["read_write", "array<f32>"],
      tokens: ["read", "array<u32>"],
      ...weightBuffers(packing),
    },
    code: `${WEIGHT_READERS[packing].code}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let quad = id.x;
  if (quad >= p.quads) { return; }
  let row = tokens[p.tokensAt + id.y] - p.start;
  // Below the start it has wrapped around.
  if (row >= p.tableRows) { return; }
  var four = weightQuad(row / p.panel, row % p.panel, quad);
  let to = p.outAt + id.y * p.cols + quad * 4u;
  for (var i = 0u; i < min(4u, p.cols - quad * 4u); i += 1u) { out[to + i] = four[i]; }
}`,
  });
}

/** By packing. */
export const EMBED = Object.fromEntries(
  PACKING_NAMES.map((name) => [name, embed(name)]),
) as Readonly<Record<PackingName, EmbedKernel>>;
