/**
 * ONNX Runtime's matrix multiplies.
 *
 * @module
 */

import type { Contestant } from "../support/contest.ts";
import { checkMatmul, type MatmulProblem, TOLERANCES } from "../support/matmul_problem.ts";
import type { PoolWeight } from "../support/numbers.ts";
import { fromHalf } from "../support/half.ts";
import type { Constant, Graph, Node } from "./onnx.ts";
import type { Ort } from "./ort.ts";

/**
 * Which of its operators: `MatMul`; `MatMulInteger` of activations quantized on the way, one scale
 * for the whole weight; or `MatMulNBits`, which has one for each 32 numbers, as Q8_0 and Q4_0.
 */
export type OrtMatmul =
  | "f32"
  | "int8"
  | "blocks of 8 bits"
  | "blocks of 4 bits";

/** Prepares a problem. */
export async function ortMatmul(
  ort: Ort,
  problem: MatmulProblem,
  kind: OrtMatmul,
): Promise<Contestant> {
  const { rows, x, weight } = problem;
  const prepared = await ort.prepare(graphOf(weight, kind), [
    { name: "x", element: "f32", shape: [rows, weight.cols], data: x },
  ]);
  return {
    name: `${ort.name}, ${kind}`,
    run: () => prepared.run(),
    check() {
      const out = prepared.output("out") as Float32Array;
      checkMatmul(problem, out, kind === "f32" ? TOLERANCES.f32 : TOLERANCES.int8);
    },
    dispose: () => prepared.release(),
  };
}

const graphs = new WeakMap<PoolWeight, Map<OrtMatmul, Graph>>();

/** Made once: both runtimes take it, for any number of rows. */
function graphOf(weight: PoolWeight, kind: OrtMatmul): Graph {
  const known = graphs.get(weight) ?? new Map<OrtMatmul, Graph>();
  graphs.set(weight, known);
  const graph = known.get(kind) ?? makeGraph(weight, kind);
  known.set(kind, graph);
  return graph;
}

function makeGraph(weight: PoolWeight, kind: OrtMatmul): Graph {
  const { nodes, constants } = kind === "f32"
    ? plain(weight)
    : kind === "int8"
    ? integers(weight)
    : blocks(weight, kind === "blocks of 8 bits" ? 8 : 4);
  return {
    nodes,
    constants,
    inputs: [{ name: "x", element: "f32", shape: ["rows", weight.cols] }],
    outputs: [{ name: "out", element: "f32", shape: ["rows", weight.rows] }],
  };
}

interface Body {
  readonly nodes: readonly Node[];
  readonly constants: readonly Constant[];
}

function plain(weight: PoolWeight): Body {
  const shape = [weight.cols, weight.rows];
  return {
    nodes: [{ op: "MatMul", inputs: ["x", "w"], outputs: ["out"] }],
    constants: [{ name: "w", element: "f32", shape, data: weight.dense("transposed") }],
  };
}

function integers(weight: PoolWeight): Body {
  const dense = weight.dense("transposed");
  let largest = 0;
  for (const value of dense) largest = Math.max(largest, Math.abs(value));
  const scale = largest / 127;
  const data = new Int8Array(dense.length);
  for (let i = 0; i < data.length; i++) data[i] = Math.round(dense[i]! / scale);
  return {
    nodes: [
      { op: "DynamicQuantizeLinear", inputs: ["x"], outputs: ["q", "q scale", "q zero"] },
      { op: "MatMulInteger", inputs: ["q", "w", "q zero"], outputs: ["sums"] },
      { op: "Cast", inputs: ["sums"], outputs: ["floats"], attributes: { to: 1 } },
      { op: "Mul", inputs: ["q scale", "w scale"], outputs: ["scale"] },
      { op: "Mul", inputs: ["floats", "scale"], outputs: ["out"] },
    ],
    constants: [
      { name: "w", element: "i8", shape: [weight.cols, weight.rows], data },
      { name: "w scale", element: "f32", shape: [1], data: new Float32Array([scale]) },
    ],
  };
}

/** The blocks of Q8_0 or Q4_0, in this operator's order; its numbers are unsigned. */
function blocks(weight: PoolWeight, bits: 4 | 8): Body {
  const { rows, cols } = weight;
  const bytes = weight.bytes();
  const blockBytes = bits === 8 ? 34 : 18;
  const perRow = cols / 32;
  const data = new Uint8Array(rows * cols * bits / 8);
  const scales = new Float32Array(rows * perRow);
  for (let block = 0; block < scales.length; block++) {
    const from = block * blockBytes;
    scales[block] = fromHalf(bytes[from]! | bytes[from + 1]! << 8);
    if (bits === 8) {
      for (let i = 0; i < 32; i++) data[block * 32 + i] = bytes[from + 2 + i]! ^ 0x80;
      continue;
    }
    // Theirs has neighbours in one byte, Q4_0 numbers that are 16 apart.
    for (let i = 0; i < 16; i += 2) {
      const [a, b] = [bytes[from + 2 + i]!, bytes[from + 3 + i]!];
      const to = block * 16 + (i >> 1);
      data[to] = a & 15 | (b & 15) << 4;
      data[to + 8] = a >>> 4 | b & 0xf0;
    }
  }
  const attributes = { K: cols, N: rows, bits, block_size: 32, accuracy_level: 4 };
  return {
    nodes: [{
      op: "MatMulNBits",
      domain: "com.microsoft",
      inputs: ["x", "w", "scales"],
      outputs: ["out"],
      attributes,
    }],
    constants: [
      { name: "w", element: "u8", shape: [rows, perRow, 32 * bits / 8], data },
      { name: "scales", element: "f32", shape: [scales.length], data: scales },
    ],
  };
}
