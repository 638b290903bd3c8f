/**
 *     out[r, o] = sum_i x[r, i] * weight[o, i]
 *
 * Two kernels, for few rows and for many, that give the same bits: products are added one after another
 * within a segment of inputs, then the segments' sums one after another. For few rows lanes share the
 * segments of a row; for many each lane has a tile of 4 x 4 results, and all of them stage what they read.
 *
 * @module
 */

import { defineKernel, type Kernel, repeat } from "../kernel.ts";
import type { PackingName } from "../packings.ts";
import { PACKING_NAMES, WEIGHT_PARAMS, WEIGHT_READERS, weightBuffers } from "./weights.ts";

type MatmulKernel = Kernel<
  | "panel"
  | "quads"
  | "rows"
  | "inputs"
  | "outputs"
  | "segment"
  | "start"
  | "cols"
  | "outAt"
  | "xAt",
  "out" | "x" | "numbers" | "scales"
>;

/** Rows from which the tiled kernel is faster. */
export const MANY_ROWS = 5;

/** Rows of a tile; its outputs are a panel's. */
export const TILE_ROWS = 32;

/** Quads that are staged at a time. */
const STAGED = 4;

/** The most segments there may be: their sums are in workgroup memory. */
const MAX_SEGMENTS = 64;

/** Quads of a segment; whole stages. */
export function segmentQuads(quads: number): number {
  return 64 * Math.ceil(quads / (64 * MAX_SEGMENTS));
}

const PARAMS = {
  ...WEIGHT_PARAMS,
  rows: "u32",
  inputs: "u32",
  outputs: "u32", // of this part of the weight
  segment: "u32", // quads
  start: "u32", // the part's first output
  cols: "u32", // all outputs
  outAt: "u32",
  xAt: "u32",
} as const;

/** Zero beyond the end of a row: what follows is another row's, or nobody's. */
const X_QUAD = `
fn xQuad(row: u32, quad: u32) -> vec4<f32> {
  let i = quad * 4u;
  let at = p.xAt + row * p.inputs + i;
  if (i + 3u < p.inputs) { return vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]); }
  var four = vec4<f32>(0.0);
  for (var j = 0u; i + j < p.inputs; j += 1u) { four[j] = x[at + j]; }
  return four;
}`;

/** Adds four products to `sum`, in order. */
const ADD_PRODUCTS = (sum: string, w: string, v: string) =>
  `${sum} = fma(${w}.x, ${v}.x, ${sum}); ${sum} = fma(${w}.y, ${v}.y, ${sum}); ` +
  `${sum} = fma(${w}.z, ${v}.z, ${sum}); ${sum} = fma(${w}.w, ${v}.w, ${sum});`;

/** A workgroup has a panel of outputs and one row; 4 lanes share an output. */
function few(packing: PackingName): MatmulKernel {
  return defineKernel({
    name: `matmul few ${packing}`,
    params: PARAMS,
    buffers: {
      out: ["read_write", "array<f32>"],
      x: ["read", "array<f32>"],
      ...weightBuffers(packing),
    },
    code: `${WEIGHT_READERS[packing].code}
${X_QUAD}
var<workgroup> sums: array<f32, ${MAX_SEGMENTS * 64}>;

@compute @workgroup_size(64, 4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let panel = group.x;
  let row = group.y;
  let output = panel * p.panel + local.x;
  let is_one = local.x < p.panel && output < p.outputs;
  let segments = (p.quads + p.segment - 1u) / p.segment;
  for (var s = local.y; s < segments; s += 4u) {
    var sum = 0.0;
    if (is_one) {
      let end = min(p.quads, (s + 1u) * p.segment);
      for (var quad = s * p.segment; quad < end; quad += 1u) {
        let w = weightQuad(panel, local.x, quad);
        let v = xQuad(row, quad);
        ${ADD_PRODUCTS("sum", "w", "v")}
      }
    }
    sums[s * 64u + local.x] = sum;
  }
  workgroupBarrier();
  if (local.y != 0u || !is_one) { return; }
  var total = 0.0;
  for (var s = 0u; s < segments; s += 1u) { total += sums[s * 64u + local.x]; }
  out[p.outAt + row * p.cols + p.start + output] = total;
}`,
  });
}

/** A workgroup has a panel of outputs and 32 rows. */
function many(packing: PackingName): MatmulKernel {
  const tile = (line: (r: number, o: number) => string) => repeat(16, (i) => line(i >> 2, i & 3));
  return defineKernel({
    name: `matmul many ${packing}`,
    params: PARAMS,
    buffers: {
      out: ["read_write", "array<f32>"],
      x: ["read", "array<f32>"],
      ...weightBuffers(packing),
    },
    code: `${WEIGHT_READERS[packing].code}
${X_QUAD}
var<workgroup> ws: array<vec4<f32>, ${STAGED * 64}>;
var<workgroup> xs: array<vec4<f32>, ${STAGED * TILE_ROWS}>;

@compute @workgroup_size(16, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let panel = group.x;
  let first = group.y * ${TILE_ROWS}u;
  let lane = local.y * 16u + local.x;
  ${tile((r, o) => `var sum${r}${o} = 0.0; var total${r}${o} = 0.0;`)}
  for (var start = 0u; start < p.quads; start += ${STAGED}u) {
    for (var i = lane; i < ${STAGED * 64}u; i += 128u) {
      let quad = start + i / 64u;
      let row = i % 64u;
      var four = vec4<f32>(0.0);
      if (quad < p.quads && row < p.panel) { four = weightQuad(panel, row, quad); }
      ws[i] = four;
    }
    for (var i = lane; i < ${STAGED * TILE_ROWS}u; i += 128u) {
      let quad = start + i / ${TILE_ROWS}u;
      let row = first + i % ${TILE_ROWS}u;
      var four = vec4<f32>(0.0);
      if (quad < p.quads && row < p.rows) { four = xQuad(row, quad); }
      xs[i] = four;
    }
    workgroupBarrier();
    for (var i = 0u; i < ${STAGED}u; i += 1u) {
      ${repeat(4, (o) => `let w${o} = ws[i * 64u + local.x + ${16 * o}u];`)}
      ${repeat(4, (r) => `let v${r} = xs[i * ${TILE_ROWS}u + local.y + ${8 * r}u];`)}
      ${tile((r, o) => ADD_PRODUCTS(`sum${r}${o}`, `w${o}`, `v${r}`))}
    }
    workgroupBarrier();
    let next = start + ${STAGED}u;
    if (next % p.segment == 0u || next >= p.quads) {
      ${tile((r, o) => `total${r}${o} += sum${r}${o}; sum${r}${o} = 0.0;`)}
    }
  }
  ${
      tile((r, o) =>
        `{
    let row = first + local.y + ${8 * r}u;
    let inside = local.x + ${16 * o}u;
    let output = panel * p.panel + inside;
    if (row < p.rows && inside < p.panel && output < p.outputs) {
      out[p.outAt + row * p.cols + p.start + output] = total${r}${o};
    }
  }`
      )
    }
}`,
  });
}

const byPacking = (kernel: (packing: PackingName) => MatmulKernel) =>
  Object.fromEntries(PACKING_NAMES.map((name) => [name, kernel(name)])) as Readonly<
    Record<PackingName, MatmulKernel>
  >;

/** For fewer rows than {@linkcode MANY_ROWS}, by packing. */
export const MATMUL_FEW = byPacking(few);

/** For more, by packing. */
export const MATMUL_MANY = byPacking(many);
