// The library in a worker of a page.
// A name of this server, which tools that look for files do not know.
const place = "/library/mod.js";
const library = import(place);
let model = null;

async function readSession(count) {
  const { FULL_ATTENTION: scope } = await library;
  const session = model.session({ scope, select: "never", stepSize: count });
  const tokens = Array.from({ length: count + 1 }, (_, i) => i * 7919 % 200);
  const start = performance.now();
  // The last token is held back for the next step.
  await session.prefill(tokens);
  return { session, seconds: (performance.now() - start) / 1000 };
}

const questions = {
  async load({ url, threads }) {
    const { loadModel } = await library;
    model = await loadModel(new URL(url, location.href), { threads });
    return { description: model.backend.description };
  },
  async prefill({ tokens }) {
    const { session, seconds } = await readSession(tokens);
    session[Symbol.dispose]();
    return { tokens, seconds };
  },
  async decode({ count }) {
    const { session } = await readSession(1);
    const start = performance.now();
    let tokens = 0;
    for await (
      const _ of session.generate({ maxTokens: count, temperature: 0 })
    ) tokens++;
    const seconds = (performance.now() - start) / 1000;
    session[Symbol.dispose]();
    return { tokens, seconds };
  },
  close() {
    model?.[Symbol.dispose]();
    return {};
  },
};

self.onmessage = async ({ data: { what, ...rest } }) => {
  try {
    self.postMessage(await questions[what](rest));
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
