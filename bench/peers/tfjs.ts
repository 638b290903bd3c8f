/**
 * TensorFlow.js on its WebAssembly backend.
 *
 * @module
 */

import type { Contestant } from "../support/contest.ts";
import { checkMatmul, type MatmulProblem, TOLERANCES } from "../support/matmul_problem.ts";
import { notice, reasonOf } from "../support/notice.ts";
import { peerFile, peerVersion, requirePeer, startPeer } from "./installed.ts";

/** What of the packages' types is used. */
interface Tf {
  setBackend(name: string): Promise<boolean>;
  tensor2d(values: Float32Array, shape: readonly [number, number]): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
}

interface TfTensor {
  dataSync(): Float32Array;
  dispose(): void;
}

let opened: Promise<Tf | null> | null = null;

/** TensorFlow.js, on one thread: its threads need a page. */
export function openTfjs(): Promise<Tf | null> {
  return opened ??= (async () => {
    const folder = peerFile("@tensorflow/tfjs-backend-wasm", "dist/");
    if (folder === null) return null;
    try {
      const tf = requirePeer("@tensorflow/tfjs-core") as Tf;
      requirePeer("@tensorflow/tfjs-backend-cpu");
      const wasm = requirePeer("@tensorflow/tfjs-backend-wasm") as {
        setWasmPaths(path: string): void;
        setThreadsCount(count: number): void;
      };
      wasm.setWasmPaths(decodeURIComponent(folder.pathname));
      wasm.setThreadsCount(1);
      if (!(await startPeer(() => tf.setBackend("wasm")))) {
        throw new Error("it has no wasm backend here");
      }
      return tf;
    } catch (error) {
      notice(`tfjs-backend-wasm does not start here, so it is left out: ${reasonOf(error)}`);
      return null;
    }
  })();
}

/** Prepares a problem, the weight as it likes it best: [inputs, outputs]. */
export function tfjsMatmul(tf: Tf, problem: MatmulProblem): Contestant {
  const { rows, x, weight } = problem;
  const a = tf.tensor2d(x, [rows, weight.cols]);
  const b = tf.tensor2d(weight.dense("transposed"), [weight.cols, weight.rows]);
  let out: TfTensor | null = null;
  return {
    name: `tfjs-backend-wasm ${peerVersion("@tensorflow/tfjs-backend-wasm")}`,
    run() {
      out?.dispose();
      out = tf.matMul(a, b);
    },
    check() {
      checkMatmul(problem, out!.dataSync(), TOLERANCES.f32);
    },
    dispose() {
      for (const tensor of [a, b, out]) tensor?.dispose();
    },
  };
}
