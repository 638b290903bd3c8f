/**
 * ONNX Runtime's way to the keys with the largest products: `MatMul`, then `TopK`.
 *
 * @module
 */

import type { Contestant } from "../support/contest.ts";
import { poolOf } from "../support/numbers.ts";
import { bestKeys, sampledQueries, type ScanProblem } from "../support/scan_problem.ts";
import type { Ort } from "./ort.ts";

/** Prepares a problem. */
export async function ortScan(ort: Ort, problem: ScanProblem): Promise<Contestant> {
  const { keys, queries, topK, query } = problem;
  const { tokens, shape: { headDim } } = keys;
  const prepared = await ort.prepare({
    nodes: [
      { op: "MatMul", inputs: ["query", "keys"], outputs: ["scores"] },
      {
        op: "TopK",
        inputs: ["scores", "k"],
        outputs: ["values", "tokens"],
        attributes: { axis: -1, largest: 1, sorted: 1 },
      },
    ],
    inputs: [{ name: "query", element: "f32", shape: [queries, headDim] }],
    outputs: [
      { name: "values", element: "f32", shape: [queries, topK] },
      { name: "tokens", element: "i64", shape: [queries, topK] },
    ],
    constants: [
      { name: "keys", element: "f32", shape: [headDim, tokens], data: transposed(problem) },
      { name: "k", element: "i64", shape: [1], data: BigInt64Array.of(BigInt(topK)) },
    ],
  }, [{ name: "query", element: "f32", shape: [queries, headDim], data: query }]);
  return {
    name: `${ort.name}, f32`,
    run: () => prepared.run(),
    check() {
      const values = prepared.output("values") as Float32Array;
      for (const q of sampledQueries(problem)) {
        for (const [i, { score }] of bestKeys(problem, q).entries()) {
          const found = values[q * topK + i]!;
          if (found !== score) {
            throw new Error(`score ${i} of query ${q} must be ${score}, got ${found}`);
          }
        }
      }
    },
    dispose: () => prepared.release(),
  };
}

/** f32[headDim, tokens] */
function transposed({ keys }: ScanProblem): Float32Array<ArrayBuffer> {
  const { tokens, shape: { headDim } } = keys;
  const { values } = poolOf("f32");
  const out = new Float32Array(headDim * tokens);
  for (let token = 0, from = 0; token < tokens; token++) {
    for (let to = token; to < out.length; to += tokens) {
      out[to] = values[from]!;
      if (++from === values.length) from = 0;
    }
  }
  return out;
}
