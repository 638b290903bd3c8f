// What a program may do with WebGPU. tests/webgpu_process_test.ts starts it with the library's address and the name
// of a scenario; plain JavaScript, because Node runs it, too.

import process from "node:process";

const [, , library, name] = process.argv;
const { BackendUnavailableError, loadModel, openBackend } = await import(library);

const say = (fact) => console.log(JSON.stringify(fact));

async function write(session) {
  let text = "";
  for await (const piece of session.continue({ maxTokens: 4 })) text += piece;
  return text;
}

/** Has the embedded model read a few words; what was opened stays open. */
async function open(options, sessionOptions) {
  const model = await loadModel(undefined, options);
  const session = model.session(sessionOptions);
  await session.prefill(model.tokenizer.encode("It was a dark and stormy night, and the old man"));
  return { model, session };
}

const gpu = { backend: "webgpu", allowSoftware: true };

const scenarios = {
  async "ends without disposing"() {
    const expected = await open({ threads: 1 });
    const processor = await write(expected.session);
    try {
      const { model, session } = await open(gpu);
      say({ description: model.backend.description, processor, gpu: await write(session) });
    } catch (error) {
      if (!(error instanceof BackendUnavailableError)) throw error;
      say({ missing: error.message });
    }
  },

  async "disposes and ends"() {
    const texts = [];
    for (let i = 0; i < 2; i++) {
      const { model, session } = await open(gpu);
      texts.push(await write(session));
      session[Symbol.dispose]();
      model[Symbol.dispose]();
    }
    say({ text: texts[0], again: texts[1] });
  },

  async "loses its device"() {
    const { session: other } = await open({ threads: 1 });
    let told = "";
    const { model, session } = await open(gpu, { onDeviceLost: (message) => told = message });
    model.backend.device.destroy();
    const text = await write(session);
    say({ told, text, expected: await write(other) });
  },

  /** Collected or not: whoever holds a part of WebGPU must hold what it needs. */
  async "forgets devices"() {
    let opened = 0;
    for (; opened < 3; opened++) {
      const backend = await openBackend("webgpu", { allowSoftware: true });
      const x = backend.tensor(1, 4);
      backend.write(x, new Float32Array(4).fill(opened));
      const [value] = await backend.read(x);
      if (value !== opened) throw new Error(`${value} was read for ${opened}`);
      // Enough for a collection or two.
      let bytes = 0;
      for (let i = 0; i < 300; i++) bytes += new Uint8Array(1 << 20).fill(i).length;
      await new Promise((resolve) => setTimeout(resolve, bytes > 0 ? 10 : 0));
    }
    say({ opened });
  },

  async "throws while it works"() {
    const { session } = await open(gpu);
    write(session).catch(() => {});
    throw new Error("thrown on purpose");
  },

  async "exits while it works"() {
    const { session } = await open(gpu);
    write(session).catch(() => {});
    process.exit(7);
  },
};

await scenarios[name]();
