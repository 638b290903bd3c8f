// Answers the benchmark's questions, one after the other: wllama here, as its users have it, and the
// library in a worker, where it belongs in a page.

// Names of this server, which tools that look for files do not know.
const place = "/wllama/index.js";
const { LoggerWithoutDebug, Wllama } = await import(place);

let wllama = null;
let worker = null;

/** A text that differs from all before from its first word on, so that no cache helps. */
let calls = 0;
const text = (words) => Array.from({ length: words }, (_, i) => `${calls}${i % 10}`).join(" ");

async function complete(words, count) {
  calls++;
  const { timings } = await wllama.createCompletion({
    prompt: text(words),
    max_tokens: count,
    temperature: 0,
    cache_prompt: false,
  });
  return timings;
}

const questions = {
  async wllamaLoad({ url, contextSize, threads }) {
    wllama = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, {
      suppressNativeLog: true,
      logger: LoggerWithoutDebug,
    });
    const blob = await (await fetch(url)).blob();
    await wllama.loadModel([blob], {
      n_ctx: contextSize,
      n_batch: 512,
      n_threads: threads,
      n_gpu_layers: 0,
      n_parallel: 1,
      warmup: false,
    });
    return {
      threads: wllama.getNumThreads(),
      version: Wllama.getLibllamaVersion(),
    };
  },
  async wllamaPrefill({ words }) {
    const { prompt_n, prompt_ms } = await complete(words, 1);
    return { tokens: prompt_n, seconds: prompt_ms / 1000 };
  },
  async wllamaDecode({ count }) {
    const { predicted_n, predicted_ms } = await complete(1, count);
    return { tokens: predicted_n, seconds: predicted_ms / 1000 };
  },
  async wllamaClose() {
    await wllama?.exit();
    return {};
  },
  ours(question) {
    worker ??= new Worker("/ours_worker.js", { type: "module" });
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => data.error ? reject(new Error(data.error)) : resolve(data);
      worker.onerror = (event) => reject(new Error(event.message ?? "the worker failed"));
      worker.postMessage(question);
    });
  },
};

let answer = { userAgent: navigator.userAgent, isolated: crossOriginIsolated };
while (true) {
  const response = await fetch("/question", {
    method: "POST",
    body: JSON.stringify(answer),
  });
  const { question, ...rest } = await response.json();
  try {
    answer = await questions[question](rest);
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
}
