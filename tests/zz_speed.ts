import { names, sharedText, tokenizerOf } from "./support/tokenizers.ts";
import { TokenEncoder } from "../src/text/token_encoder.ts";
const text = sharedText("text/war-and-peace.txt");
const only = process.argv[2];
for (const name of names) {
  if (only && name !== only) continue;
  const t = tokenizerOf(name);
  const res = [];
  for (let pass = 0; pass < 3; pass++) {
    const t0 = performance.now();
    const e = new TokenEncoder(t, { special: false });
    let n = 0;
    for (let i = 0; i < text.length; i += 65536) n += e.push(text.slice(i, i + 65536)).tokens.length;
    n += e.flush().tokens.length;
    res.push((3.2e3 / (performance.now() - t0)).toFixed(2));
    if (pass === 2) console.log(name, n, res.join(" "), "MB/s", (process.memoryUsage().rss / 1e6 | 0) + " MB");
  }
}
