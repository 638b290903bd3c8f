// What session_process_test.ts runs in processes of their own: <library> <scenario> <arguments>

import process from "node:process";

const [library, scenario, ...paths] = process.argv.slice(2);
const { loadModel } = await import(library);
const say = (fact) => process.stdout.write(`${JSON.stringify(fact)}\n`);

const scenarios = {
  /** Puts one session in another's place, again and again. */
  async saveForever(target, ...sources) {
    using model = await loadModel(undefined, { threads: 1 });
    const sessions = [];
    for (const source of sources) sessions.push(await model.restore(source));
    for (let i = 0;; i++) {
      await sessions[i % sessions.length].save(target);
      say("saved");
    }
  },

  /** Once. */
  async save(target, source) {
    using model = await loadModel(undefined, { threads: 1 });
    using session = await model.restore(source);
    try {
      await session.save(target);
      say("saved");
    } catch (error) {
      say(error.message);
    }
  },

  /** Begins to put a file in another's place, and never ends. */
  async replaceForever(target) {
    const { replaceFileWith } = await import(new URL("src/system/replace_file.ts", library).href);
    await replaceFileWith(target, async (write) => {
      await write(new Uint8Array(1000));
      say("writing");
      await new Promise((resolve) => setTimeout(resolve, 600_000));
    });
  },

  /** Keeps a session again, writes on with some threads, and keeps that. */
  async goOn(source, target, threads, kernels) {
    const { compileKernels } = await import(new URL("wasm/loader.ts", library).href);
    const shared = Number(threads) > 1;
    const plain = { module: await compileKernels({ relaxed: false, shared }) };
    using model = await loadModel(undefined, {
      threads: Number(threads),
      ...(kernels === "plain" ? plain : {}),
    });
    using session = await model.restore(source);
    await session.save(`${target}.again`);
    const tokens = [];
    for await (const token of session.generate({ maxTokens: 24 })) tokens.push(token);
    await session.save(target);
    say({ tokens });
  },
};

await scenarios[scenario](...paths);
