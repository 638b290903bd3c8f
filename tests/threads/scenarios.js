// What a program may do while its threads are at work. tests/threads_process_test.ts starts it with the
// library's address and the name of a scenario; plain JavaScript, because Node runs it, too.

import { existsSync, readdirSync } from "node:fs";
import process from "node:process";

const [, , library, name] = process.argv;
const { loadModel, openBackend } = await import(library);

/** Some 2000 tokens. */
const TEXT = "The old man went slowly down to the harbour, and the rain fell upon the roofs. "
  .repeat(80);

/** What takes much longer to read than a scenario lasts. */
const READ_ON = TEXT.repeat(8);

const say = (fact) => console.log(JSON.stringify(fact));
const load = () => loadModel(undefined, { threads: 3 });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function read(session, text = TEXT, signal = undefined) {
  const writer = session.writable({ signal }).getWriter();
  // A write that fails says so twice; once is enough.
  writer.closed.catch(() => {});
  await writer.write(text);
  await writer.close();
}

async function write(session, options) {
  let text = "";
  for await (const piece of session.continue({ temperature: 0, ...options })) text += piece;
  return text;
}

/** The threads of this process, the runtime's own included; null where the system does not tell. */
const threadIds = () => existsSync("/proc/self/task") ? readdirSync("/proc/self/task") : null;

/** Calls until it answers with true or three seconds have passed. */
async function until(isSo) {
  for (let waited = 0; waited < 3000 && !isSo(); waited += 20) await pause(20);
}

const scenarios = {
  async "ends without disposing"() {
    const model = await load();
    const session = model.session();
    await read(session);
    say({ description: model.backend.description, text: await write(session, { maxTokens: 8 }) });
  },

  async "disposes and ends"() {
    const model = await load();
    const session = model.session();
    await read(session);
    const text = await write(session, { maxTokens: 8 });
    const atWork = threadIds();
    session[Symbol.dispose]();
    model[Symbol.dispose]();
    // The runtime may start threads of its own meanwhile.
    const ended = () => atWork && atWork.filter((id) => !threadIds().includes(id)).length;
    await until(() => ended() !== 0 && ended() !== 1);
    say({ text, ended: ended(), description: model.backend.description });
  },

  async "aborts while it reads"() {
    const model = await load();
    const session = model.session();
    const reason = await read(session, READ_ON, AbortSignal.timeout(100)).then(
      () => "it had read everything",
      (error) => error.name,
    );
    // What was read stays, and the session stays usable.
    const { length } = session;
    say({ reason, length, text: await write(session, { maxTokens: 8 }) });
  },

  async "aborts while it writes"() {
    const model = await load();
    const session = model.session();
    await read(session);
    const controller = new AbortController();
    let pieces = 0;
    let reason = "it had written everything";
    try {
      for await (const _ of session.continue({ maxTokens: 1e6, signal: controller.signal })) {
        if (++pieces === 5) controller.abort();
      }
    } catch (error) {
      reason = error.name;
    }
    say({ reason, pieces, text: await write(session, { maxTokens: 8 }) });
  },

  async "throws while it reads"() {
    const model = await load();
    const session = model.session();
    setTimeout(() => {
      throw new Error("thrown on purpose");
    }, 100);
    await read(session, READ_ON);
    say({ reason: "it had read everything" });
  },

  async "throws while it writes"() {
    const model = await load();
    const session = model.session();
    await read(session);
    for await (const _ of session.continue({ maxTokens: 5 })) {
      throw new Error("thrown on purpose");
    }
  },

  async "exits while it reads"() {
    const model = await load();
    const session = model.session();
    setTimeout(() => process.exit(7), 100);
    await read(session, READ_ON);
    say({ reason: "it had read everything" });
  },

  async "exits while its threads sleep"() {
    const model = await load();
    await read(model.session());
    await pause(300);
    process.exit(7);
  },

  async "throws while its threads sleep"() {
    const model = await load();
    await read(model.session());
    await pause(300);
    throw new Error("thrown on purpose");
  },

  async "terminates a worker whose session reads"() {
    const { Worker } = globalThis.Worker ? globalThis : await import("node:worker_threads");
    const worker = new Worker(new URL("../browser/worker.js", import.meta.url), { type: "module" });
    const answer = new Promise((resolve) => {
      if (worker.once) worker.once("message", resolve);
      else worker.onmessage = ({ data }) => resolve(data);
    });
    worker.postMessage({ what: "load", library, threads: 3 });
    const { description } = await answer;
    worker.postMessage({ what: "read", text: READ_ON });
    await pause(200);
    await worker.terminate();
    await pause(100);
    say({ description });
  },

  async "opens and disposes fifty backends"() {
    const open = async (times) => {
      for (let i = 0; i < times; i++) {
        const backend = await openBackend("wasm", { threads: 2 });
        const x = backend.tensor(64, 512);
        backend.write(x, new Float32Array(64 * 512).fill(1));
        backend[Symbol.dispose]();
      }
    };
    // What the runtime itself keeps is there after a few.
    await open(5);
    await pause(200);
    const threads = threadIds()?.length;
    const bytes = process.memoryUsage.rss();
    await open(50);
    const moreThreads = () => threads && threadIds().length - threads;
    await until(() => !(moreThreads() > 10));
    say({
      moreThreads: moreThreads() ?? null,
      moreMebibytes: (process.memoryUsage.rss() - bytes) / 2 ** 20,
    });
  },

  async "uses two models at once"() {
    const texts = await Promise.all([1, 2].map(async () => {
      const model = await load();
      const session = model.session();
      await read(session);
      const text = await write(session, { maxTokens: 8 });
      model[Symbol.dispose]();
      return text;
    }));
    say({ texts });
  },
};

await scenarios[name]();
