// Asks a session in a worker, and one in the page itself, and tells the server what they answered. What
// is asked comes from the server, too.

import { answers } from "./session.js";

const post = async (path, body) =>
  await (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();

function openWorker() {
  const worker = new Worker("worker.js", { type: "module" });
  return {
    ask: (question) =>
      new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => data.error ? reject(new Error(data.error)) : resolve(data);
        worker.onerror = (event) => reject(new Error(event.message ?? "the worker failed"));
        worker.postMessage(question);
      }),
    terminate: () => worker.terminate(),
  };
}

/** Threads of workers in this browser, as the system counts them, once there are no more than `most`. */
const countWorkers = (most) => post("/workers", { most });

const { library, source, text, question, options } = await post("/plan");

async function inWorker() {
  const facts = {};
  const first = openWorker();
  facts.load = await first.ask({ what: "load", library, source, threads: 2 });
  facts.read = await first.ask({ what: "read", text });
  facts.ask = await first.ask({ what: "ask", question, options });
  facts.abortedRead = await first.ask({ what: "read", text: text.repeat(20), abortAfter: 100 });
  facts.abortedAsk = await first.ask({ what: "ask", question, options, pieces: 2 });
  facts.again = await first.ask({ what: "ask", question, options: { ...options, maxTokens: 4 } });
  facts.atWork = await countWorkers(Infinity);
  await first.ask({ what: "dispose" });
  facts.disposed = await countWorkers(1);
  await first.ask({ what: "openAndDispose", times: 30, threads: 2 });
  facts.opened = await countWorkers(1);
  first.terminate();

  const second = openWorker();
  await second.ask({ what: "load", library, source, threads: 2 });
  void second.ask({ what: "read", text: text.repeat(20) });
  await new Promise((resolve) => setTimeout(resolve, 200));
  second.terminate();
  facts.terminated = await countWorkers(0);
  return facts;
}

async function inPage() {
  const load = await answers.load({ library, source, threads: 2 });
  await answers.read({ text });
  const ask = await answers.ask({ question, options });
  answers.dispose();
  return { load, ask };
}

try {
  await post("/facts", {
    userAgent: navigator.userAgent,
    isolated: crossOriginIsolated,
    worker: await inWorker(),
    page: await inPage(),
  });
} catch (error) {
  await post("/facts", { error: String(error?.stack ?? error) });
}
