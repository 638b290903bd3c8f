// What the tests ask of a session, wherever it lives: in a worker of a page, in the page itself, in a
// worker of Deno, Bun or Node. One model and one session at a time.

let lib = null;
let model = null;
let session = null;

export const answers = {
  async load({ library, source, threads }) {
    lib = await import(library);
    model = await lib.loadModel(source && new URL(source, location.href), { threads });
    session = model.session();
    return { description: model.backend.description };
  },

  /** Reads a text; with `abortAfter`, gives up after so many milliseconds. */
  async read({ text, abortAfter }) {
    const signal = abortAfter === undefined ? undefined : AbortSignal.timeout(abortAfter);
    const writer = session.writable({ signal }).getWriter();
    // A writer says of a failure twice.
    writer.closed.catch(() => {});
    try {
      await writer.write(text);
      await writer.close();
      return { read: session.length };
    } catch (error) {
      return { read: session.length, reason: error.name };
    }
  },

  /** Asks a question; with `pieces`, gives up after so many pieces of the answer. */
  async ask({ question, options, pieces }) {
    const controller = new AbortController();
    const signal = controller.signal;
    let text = "";
    let count = 0;
    try {
      for await (const piece of session.ask(question, { ...options, signal })) {
        text += piece;
        if (++count === pieces) controller.abort();
      }
      return { text };
    } catch (error) {
      return { text, reason: error.name };
    }
  },

  dispose() {
    session[Symbol.dispose]();
    model[Symbol.dispose]();
    return {};
  },

  async openAndDispose({ times, threads }) {
    for (let i = 0; i < times; i++) {
      (await lib.openBackend("wasm", { threads }))[Symbol.dispose]();
    }
    return {};
  },
};
