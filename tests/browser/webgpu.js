// Writes on with the embedded model, on the processor and on WebGPU, and tells the server what came of it.

const post = async (path, body) =>
  await (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();

const { library, source, text, maxTokens } = await post("/plan");

async function write(lib, options) {
  const model = await lib.loadModel(new URL(source, location.href), options);
  const session = model.session();
  const writer = session.writable().getWriter();
  await writer.write(text);
  await writer.close();
  let written = "";
  for await (const piece of session.continue({ maxTokens })) written += piece;
  session[Symbol.dispose]();
  model[Symbol.dispose]();
  return { description: model.backend.description, written };
}

try {
  const lib = await import(library);
  await post("/facts", {
    isolated: crossOriginIsolated,
    // Software is not chosen by itself.
    auto: (await lib.openBackend("auto")).name,
    processor: await write(lib, { backend: "wasm", threads: 1 }),
    gpu: await write(lib, { backend: "webgpu", allowSoftware: true }),
  });
} catch (error) {
  await post("/facts", { error: String(error?.stack ?? error) });
}
