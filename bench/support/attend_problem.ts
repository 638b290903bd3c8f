/**
 * One attention call over a scope: its inputs, and what it must give.
 *
 * @module
 */

import { createRope, type Rope } from "../../src/reattention/rope.ts";
import { type PoolKeys, poolKeys } from "./keys.ts";
import { normals } from "./numbers.ts";

/** Queries that attend to some keys, in order; those of the newest tokens causally. */
export interface AttendProblem {
  readonly keys: PoolKeys;
  readonly rows: number;
  readonly query: Float32Array<ArrayBuffer>; // f32[rows, numHeads * headDim], unrotated
  readonly rope: Rope;
}

/** A problem of random numbers. */
export function attendProblem(
  shape: PoolKeys["shape"] & { readonly ropeTheta: number },
  tokens: number,
  rows: number,
): AttendProblem {
  const { numHeads, numKvHeads, headDim } = shape;
  return {
    keys: poolKeys({ numHeads, numKvHeads, headDim }, tokens),
    rows,
    query: normals(rows * numHeads * headDim, rows + 2),
    rope: createRope(shape.ropeTheta, headDim),
  };
}

/**
 * Multiply-adds of all scores and all sums, as operations.
 *
 * @param scope Tokens in the scope, of which the last `rows` are the queries' own.
 */
export function attendOperations({ keys, rows }: AttendProblem, scope: number): number {
  const { numHeads, headDim } = keys.shape;
  const visible = rows * scope - rows * (rows - 1) / 2;
  return 4 * visible * numHeads * headDim;
}

/** Turns a vector to a position, in place: pairs half a head apart. */
export function rotate(vector: Float64Array, position: number, rope: Rope): void {
  const half = vector.length >> 1;
  for (let i = 0; i < half; i++) {
    const angle = position * rope.inverseFrequencies[i]!;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const [x, y] = [vector[i]!, vector[i + half]!];
    vector[i] = x * cos - y * sin;
    vector[i + half] = y * cos + x * sin;
  }
}

/** How far outputs may be off, root mean square over that of the right ones. */
const TOLERANCE = 1e-4;

/** One output that is computed again. */
interface Sample {
  readonly row: number;
  readonly head: number;
  readonly expected: Float64Array; // f64[headDim]
}

const computed = new WeakMap<AttendProblem, Map<boolean, readonly Sample[]>>();

/**
 * Compares samples of an output with attention in float64.
 *
 * @param out f32[rows, numHeads * headDim]
 * @param tokens Of the scope, ascending; the same in all calls for a problem.
 * @param causal Whether a query sees only what is not newer than itself.
 * @throws {Error} If an output is not a number, or too many are too far off.
 */
export function checkAttend(
  problem: AttendProblem,
  out: Float32Array,
  tokens: ArrayLike<number>,
  causal: boolean,
): void {
  const { numHeads, headDim } = problem.keys.shape;
  const unset = out.findIndex(Number.isNaN);
  if (unset >= 0) throw new Error(`output ${unset} of ${out.length} was not written`);
  const known = computed.get(problem) ?? new Map<boolean, readonly Sample[]>();
  computed.set(problem, known);
  const samples = known.get(causal) ?? computeSamples(problem, tokens, causal);
  known.set(causal, samples);
  let errors = 0;
  let squares = 0;
  for (const { row, head, expected } of samples) {
    const at = (row * numHeads + head) * headDim;
    for (let d = 0; d < headDim; d++) {
      errors += (out[at + d]! - expected[d]!) ** 2;
      squares += expected[d]! ** 2;
    }
  }
  const off = Math.sqrt(errors / squares);
  if (!(off <= TOLERANCE)) {
    throw new Error(`outputs must be within ${TOLERANCE} of float64 attention, got ${off}`);
  }
}

function computeSamples(
  { keys, rows, query, rope }: AttendProblem,
  tokens: ArrayLike<number>,
  causal: boolean,
): Sample[] {
  const { numHeads, numKvHeads, headDim } = keys.shape;
  const places = [[0, 0], [rows - 1, numHeads - 1], [rows >> 1, numHeads >> 1]] as const;
  return places.map(([row, head]) => {
    const kvHead = Math.floor(head / (numHeads / numKvHeads));
    const at = (row * numHeads + head) * headDim;
    const position = tokens.length - rows + row;
    const asked = Float64Array.from(query.subarray(at, at + headDim));
    rotate(asked, position, rope);
    const key = new Float64Array(headDim);
    const expected = new Float64Array(headDim);
    let sum = 0;
    for (let p = 0; p < (causal ? position + 1 : tokens.length); p++) {
      for (let d = 0; d < headDim; d++) key[d] = keys.key(tokens[p]!, kvHead, d);
      rotate(key, p, rope);
      let score = 0;
      for (let d = 0; d < headDim; d++) score += key[d]! * asked[d]!;
      // Scores of these numbers stay below 30: no need to shift them.
      const weight = Math.exp(score / Math.sqrt(headDim));
      sum += weight;
      for (let d = 0; d < headDim; d++) {
        expected[d] = expected[d]! + weight * keys.value(tokens[p]!, kvHead, d);
      }
    }
    return { row, head, expected: expected.map((x) => x / sum) };
  });
}
