import fc from "fast-check";
import { Tokenizer as Pkg } from "@huggingface/tokenizers";
import { TokenEncoder } from "../src/text/token_encoder.ts";
import { filesOf, fragments, names, tokenizerOf } from "./support/tokenizers.ts";
const runs = Number(process.env.RUNS ?? 2000), seed = Number(process.env.SEED ?? 1);
const fragment = fc.constantFrom(...fragments);
const anyText = fc.array(
  fc.oneof({ weight: 8, arbitrary: fragment }, fc.string({ unit: "binary", maxLength: 4 }), {
    weight: 1,
    arbitrary: fc.tuple(fragment, fc.integer({ min: 2, max: 40 })).map(([t, n]) => t.repeat(n)),
  }),
  { maxLength: 60, size: "max" },
).map((p) => p.join(""));
for (const name of names) {
  const t = tokenizerOf(name);
  const { json, config } = filesOf(name) as any;
  const pkg = new Pkg(json, config);
  const plain = new Pkg(
    { ...json, added_tokens: json.added_tokens.filter((x: any) => !x.special) },
    config,
  );
  let bad = { plain: 0, special: 0, stream: 0, dec: 0 };
  const ex: any = {};
  let n = 0, chars = 0;
  const enc = new TextEncoder();
  try {
    fc.assert(
      fc.property(
        anyText,
        fc.constantFrom(1, 2, 5, 17, 64),
        fc.array(fc.nat(300), { maxLength: 20, size: "max" }),
        (text, batchLength, cuts) => {
          n++;
          chars += text.length;
          for (const special of [true, false]) {
            const a = (special ? pkg : plain).encode(text, { add_special_tokens: false }).ids
              .join();
            const ours = t.encode(text, { special });
            const b = [...ours].join();
            if (a !== b) {
              bad[special ? "special" : "plain"]++;
              const k = special ? "special" : "plain";
              if (!ex[k] || ex[k][0].length > text.length) ex[k] = [text, a, b];
            }
            const e = new TokenEncoder(t, { special, batchLength });
            const out: number[] = [];
            let bytes = 0;
            const ps = [
              ...new Set([
                0,
                ...cuts.filter((c) => c < text.length),
                text.length,
              ]),
            ].sort((x, y) => x - y);
            for (let i = 1; i < ps.length; i++) {
              const r = e.push(text.slice(ps[i - 1], ps[i]));
              out.push(...r.tokens);
              bytes += r.byteLength;
            }
            const r = e.flush();
            out.push(...r.tokens);
            bytes += r.byteLength;
            if (out.join() !== b || bytes !== enc.encode(text).length) {
              bad.stream++;
              if (!ex.stream || ex.stream[0].length > text.length) {
                ex.stream = [text, b, out.join(), bytes, special, batchLength, ps];
              }
            }
          }
          const d = t.decode(t.encode(text), { special: true });
          const want = (t as any).rules.normalization.forms.includes("NFC")
            ? null
            : text.toWellFormed();
          if (want !== null && d !== want) {
            bad.dec++;
            if (!ex.dec || ex.dec[0].length > text.length) {
              ex.dec = [text, d];
            }
          }
        },
      ),
      { numRuns: runs, seed },
    );
  } catch (e) {
    console.log(name, "THREW", e);
  }
  console.log(name, n, chars, bad, JSON.stringify(ex));
}
