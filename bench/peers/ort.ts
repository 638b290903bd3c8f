/**
 * ONNX Runtime: in WebAssembly (onnxruntime-web), on the engine that runs the benchmark; and native
 * (onnxruntime-node), for scale.
 *
 * @module
 */

import { notice, reasonOf } from "../support/notice.ts";
import { type Element, encodeOnnx, type Graph } from "./onnx.ts";
import { peerFile, peerVersion, requirePeer, startPeer } from "./installed.ts";

/** What of the package's types is used. */
interface OrtPackage {
  readonly env: {
    logLevel: string;
    readonly wasm: { numThreads: number; proxy: boolean; wasmPaths: string };
  };
  readonly InferenceSession: {
    create(model: Uint8Array, options: Readonly<Record<string, unknown>>): Promise<OrtRunner>;
  };
  readonly Tensor: new (type: string, data: ArrayBufferView, shape: readonly number[]) => OrtTensor;
}

interface OrtTensor {
  readonly data: ArrayBufferView;
}

interface OrtRunner {
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Readonly<Record<string, OrtTensor>>>;
  release(): Promise<void>;
}

/** ONNX Runtime, ready for graphs. */
export interface Ort {
  /** For reports, with its version. */
  readonly name: string;
  readonly threads: number;
  /**
   * Prepares a graph for inputs that stay the same.
   *
   * @throws {Error} If the runtime refuses the graph.
   */
  prepare(graph: Graph, inputs: readonly Input[]): Promise<Prepared>;
}

/** One input of a graph. */
export interface Input {
  readonly name: string;
  readonly element: Element;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;
}

/** A graph with its inputs. */
export interface Prepared {
  run(): Promise<void>;
  /** An output of the last run. */
  output(name: string): ArrayBufferView;
  release(): Promise<void>;
}

const TENSOR_TYPES: Readonly<Record<Element, string>> = {
  f32: "float32",
  u8: "uint8",
  i8: "int8",
  i32: "int32",
  i64: "int64",
};

/** A graph that does nothing. */
const IDENTITY: Graph = {
  nodes: [{ op: "Identity", inputs: ["in"], outputs: ["out"] }],
  inputs: [{ name: "in", element: "f32", shape: [1] }],
  outputs: [{ name: "out", element: "f32", shape: [1] }],
  constants: [],
};

let web: Promise<Ort | null> | null = null;

/**
 * onnxruntime-web, on one thread: its own start of threads fails in Deno and in Bun (1.30.0: both
 * take the way of Node, whose workers cannot be loaded from `blob:` there).
 */
export function openOrtWeb(): Promise<Ort | null> {
  return web ??= (async () => {
    const file = peerFile("onnxruntime-web", "dist/ort.wasm.min.mjs");
    if (file === null) return null;
    try {
      return await startPeer(async () => {
        const ort: OrtPackage = await import(file.href);
        ort.env.wasm.numThreads = 1;
        ort.env.wasm.proxy = false;
        ort.env.wasm.wasmPaths = new URL("./", file).href;
        const opened = openedOrt("onnxruntime-web", ort, "wasm", 1);
        // The first graph is what starts it.
        await (await opened.prepare(IDENTITY, [])).release();
        return opened;
      });
    } catch (error) {
      notice(`onnxruntime-web does not start here, so it is left out: ${reasonOf(error)}`);
      return null;
    }
  })();
}

/** onnxruntime-node. */
export function openOrtNode(threads: number): Ort | null {
  if (peerFile("onnxruntime-node", "") === null) return null;
  try {
    return openedOrt(
      "onnxruntime-node",
      requirePeer("onnxruntime-node") as OrtPackage,
      "cpu",
      threads,
    );
  } catch (error) {
    notice(`onnxruntime-node does not start here, so it is left out: ${reasonOf(error)}`);
    return null;
  }
}

function openedOrt(name: string, ort: OrtPackage, provider: string, threads: number): Ort {
  ort.env.logLevel = "error";
  const options = {
    executionProviders: [provider],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: "all",
  };
  return {
    name: `${name} ${peerVersion(name)}`,
    threads,
    async prepare(graph, inputs) {
      const session = await ort.InferenceSession.create(encodeOnnx(graph), options);
      const feeds = Object.fromEntries(
        inputs.map((input) => [
          input.name,
          new ort.Tensor(TENSOR_TYPES[input.element], input.data, input.shape),
        ]),
      );
      let outputs: Readonly<Record<string, OrtTensor>> = {};
      return {
        async run() {
          outputs = await session.run(feeds);
        },
        output: (output) => outputs[output]!.data,
        release: () => session.release(),
      };
    },
  };
}
