// Loads a model by its name on the hub, and tells the server what it writes.

const post = async (path, body) =>
  await (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();

const { library, source, hub, text, maxTokens } = await post("/plan");

try {
  const { loadModel } = await import(library);
  const notices = [];
  const model = await loadModel(source, {
    hub,
    threads: 1,
    onNotice: (notice) => notices.push(notice),
  });
  const session = model.session();
  await session.prefill(model.tokenizer.encode(text));
  let written = "";
  for await (const piece of session.continue({ maxTokens })) written += piece;
  await post("/facts", { name: model.name, notices, written });
} catch (error) {
  await post("/facts", { error: String(error?.stack ?? error) });
}
