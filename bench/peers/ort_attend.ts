/**
 * ONNX Runtime's attention: `MatMul`, `Softmax`, `MatMul` over keys and values that were gathered and
 * rotated before the clock started, without a causal mask. Less work than ours, then; it is what its
 * users write.
 *
 * @module
 */

import { type AttendProblem, checkAttend, rotate } from "../support/attend_problem.ts";
import type { Contestant } from "../support/contest.ts";
import type { Ort } from "./ort.ts";

/** Prepares a problem. `tokens` are those of the scope. */
export async function ortAttend(
  ort: Ort,
  problem: AttendProblem,
  tokens: ArrayLike<number>,
): Promise<Contestant> {
  const { keys, rows } = problem;
  const { numHeads, numKvHeads, headDim } = keys.shape;
  const group = numHeads / numKvHeads;
  const shape = [numKvHeads, group * rows, headDim];
  const scope = tokens.length;
  const { keyData, valueData } = gather(problem, tokens);
  const prepared = await ort.prepare({
    nodes: [
      { op: "MatMul", inputs: ["query", "keys"], outputs: ["scores"] },
      { op: "Softmax", inputs: ["scores"], outputs: ["weights"], attributes: { axis: -1 } },
      { op: "MatMul", inputs: ["weights", "values"], outputs: ["out"] },
    ],
    inputs: [{ name: "query", element: "f32", shape }],
    outputs: [{ name: "out", element: "f32", shape }],
    constants: [
      { name: "keys", element: "f32", shape: [numKvHeads, headDim, scope], data: keyData },
      { name: "values", element: "f32", shape: [numKvHeads, scope, headDim], data: valueData },
    ],
  }, [{ name: "query", element: "f32", shape, data: rotatedQueries(problem, scope) }]);
  return {
    name: `${ort.name}, f32`,
    run: () => prepared.run(),
    check() {
      // [kvHead][group][row] -> [row][head]
      const found = prepared.output("out") as Float32Array;
      const out = new Float32Array(found.length);
      for (let head = 0; head < numHeads; head++) {
        for (let row = 0; row < rows; row++) {
          const from = (head * rows + row) * headDim;
          out.set(found.subarray(from, from + headDim), (row * numHeads + head) * headDim);
        }
      }
      checkAttend(problem, out, tokens, false);
    },
    dispose: () => prepared.release(),
  };
}

/** f32[numHeads, rows, headDim], rotated and scaled. */
function rotatedQueries({ keys, rows, query, rope }: AttendProblem, scope: number) {
  const { numHeads, headDim } = keys.shape;
  const out = new Float32Array(query.length);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < numHeads; head++) {
      const from = (row * numHeads + head) * headDim;
      const vector = Float64Array.from(query.subarray(from, from + headDim));
      rotate(vector, scope - rows + row, rope);
      out.set(vector.map((x) => x / Math.sqrt(headDim)), (head * rows + row) * headDim);
    }
  }
  return out;
}

/** The last problem's, since both of ONNX Runtime's builds want the same. */
let last: { readonly problem: AttendProblem; readonly gathered: Gathered } | null = null;

interface Gathered {
  readonly keyData: Float32Array<ArrayBuffer>; // f32[numKvHeads, headDim, scope], rotated
  readonly valueData: Float32Array<ArrayBuffer>; // f32[numKvHeads, scope, headDim]
}

function gather(problem: AttendProblem, tokens: ArrayLike<number>): Gathered {
  if (last?.problem !== problem) last = { problem, gathered: gatherAll(problem, tokens) };
  return last.gathered;
}

function gatherAll({ keys, rope }: AttendProblem, tokens: ArrayLike<number>): Gathered {
  const { numKvHeads, headDim } = keys.shape;
  const scope = tokens.length;
  const keyData = new Float32Array(numKvHeads * headDim * scope);
  const valueData = new Float32Array(keyData.length);
  const vector = new Float64Array(headDim);
  for (let head = 0; head < numKvHeads; head++) {
    for (let p = 0; p < scope; p++) {
      for (let d = 0; d < headDim; d++) vector[d] = keys.key(tokens[p]!, head, d);
      rotate(vector, p, rope);
      for (let d = 0; d < headDim; d++) {
        keyData[(head * headDim + d) * scope + p] = vector[d]!;
        valueData[(head * scope + p) * headDim + d] = keys.value(tokens[p]!, head, d);
      }
    }
  }
  return { keyData, valueData };
}
