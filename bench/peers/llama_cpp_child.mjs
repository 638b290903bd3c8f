// Runs llama.cpp when told to: the other side of llama_cpp.ts. In Node, which its bindings are for.
import { createInterface } from "node:readline";

const { getLlama } = await import(process.argv[2]);

const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  logLevel: "error",
  maxThreads: Number(process.env.BENCH_THREADS),
});
let model = null;
let sequence = null;
const questions = {
  async load({ path, contextSize, threads, exact }) {
    await model?.dispose();
    model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
    const context = await model.createContext({
      contextSize,
      batchSize: 512,
      // Logits are compared: what is rounded besides would only blur.
      ...exact && {
        experimentalKvCacheKeyType: "F32",
        experimentalKvCacheValueType: "F32",
        flashAttention: false,
      },
      threads: { ideal: threads, min: threads },
    });
    sequence = context.getSequence();
    return { threads: context.currentThreads };
  },
  async prefill({ tokens }) {
    await sequence.clearHistory();
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens);
    return { seconds: (performance.now() - start) / 1000 };
  },
  async logits({ tokens, last }) {
    await sequence.clearHistory();
    const wanted = { generateNext: { logits: true } };
    const first = tokens.length - last;
    const results = await sequence.controlledEvaluate(
      tokens.map((token, i) => i < first ? token : [token, wanted]),
    );
    // By the likeliest first; told by token.
    const rows = results.slice(first).map(({ next: { logits } }) => {
      const row = new Array(logits.size);
      for (const [token, logit] of logits) row[token] = logit;
      return row;
    });
    return { rows };
  },
  async decode({ tokens, count }) {
    await sequence.clearHistory();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, -1));
    const start = performance.now();
    let generated = 0;
    const options = { temperature: 0, yieldEogToken: true };
    for await (const _ of sequence.evaluate(tokens.slice(-1), options)) {
      if (++generated === count) break;
    }
    return { seconds: (performance.now() - start) / 1000, generated };
  },
};

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  const { question, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = await questions[question](rest);
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
