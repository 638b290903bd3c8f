/**
 * `demo`: facts hidden in a long text, read once, asked for in four ways.
 *
 * @module
 */

import { loadModel, type Model } from "../llama/load.ts";
import type { SelectionRecord } from "../llama/selection_record.ts";
import type { Session } from "../llama/session.ts";
import { FULL_ATTENTION, type ScopeConfig } from "../reattention/scope.ts";
import { openFile } from "../system/file_source.ts";
import {
  createTextFile,
  peakMemoryBytes,
  readFile,
  runtimeName,
  standardError,
  standardOutput,
  temporaryPath,
} from "../system/system.ts";
import { type Answer, answerOf, judge } from "./answers.ts";
import type { DemoSettings } from "./args.ts";
import {
  clip,
  formatBytes,
  formatCount,
  formatRate,
  formatSeconds,
  plural,
  printable,
  wrap,
} from "./format.ts";
import { createNeedles, type Needle, type NeedleKind, writeHaystack } from "../eval/haystack.ts";
import { describeScope } from "./inspect.ts";
import { loadOptions } from "./memory.ts";
import { bytesPerToken as measureBytesPerToken, generatedSample } from "./probe_texts.ts";
import { createProgress } from "./progress.ts";
import { feed } from "./feed.ts";
import { mostSelected, stepsThatSelected } from "./selections.ts";

/** What is hidden: look-alikes, which must be told apart by their key, and others. */
const KINDS: readonly NeedleKind[] = ["magic", "magic", "magic", "passkey", "date"];
/** Tokens of the text around a fact that full attention gets to read from the first to the last. */
const CUT_TOKENS = 4096;
/** The same within the trained length: what the model can do at home. */
const SHORT_CUT_TOKENS = 384;
/** Selected stretches to show for a question, the most frequent. */
const STRETCHES = 3;
const WIDTH = 98;

/** A needle and where it stands in the file. */
interface Hidden {
  readonly needle: Needle;
  readonly startByte: number;
  readonly endByte: number;
}

/** Runs `demo`. */
export async function demo(settings: DemoSettings): Promise<void> {
  const began = performance.now();
  using model = await loadModel(undefined, loadOptions(settings));
  const { trainedLength } = model.config;
  const say = (text: string) => standardOutput.write(`${text}\n`);
  const progress = createProgress(standardError);

  const bytesPerToken = measureBytesPerToken(model, generatedSample(settings.seed));
  const path = await temporaryPath("haystack.txt");
  const hidden = await writeText(path, settings, bytesPerToken);
  await say(
    `model   ${plural(trainedLength, "token")} of trained length, ` +
      `${
        formatBytes(model.weightBytes)
      } of weights; ${model.backend.description}; ${runtimeName()}`,
  );
  await say(`text    ${path} (seed ${settings.seed}, ${hidden.length} facts hidden in it)`);

  using session = model.session({ select: "ask" });
  const { readSeconds, byteLength } = await readText(session, path, progress);
  const { cacheBytes, bytesPerToken: cacheBytesPerToken } = session.stats;
  await say(
    `read    ${plural(session.length, "token")} (${formatBytes(byteLength)}) once, in ` +
      `${formatSeconds(readSeconds)}: ${formatRate(session.length, readSeconds)}`,
  );
  await say(
    `cache   ${formatBytes(cacheBytes)}, ${formatCount(cacheBytesPerToken)} bytes a token`,
  );
  await say("");

  const ways = waysToAsk(model, session, path, bytesPerToken);
  await say(tableRow("question", "answer", ways.map(({ name }) => name)));
  const asked: { readonly hidden: Hidden; readonly records: readonly SelectionRecord[] }[] = [];
  const right = ways.map(() => 0);
  const seconds = ways.map(() => 0);
  for (const [i, fact] of hidden.entries()) {
    const records: SelectionRecord[] = [];
    const cells: string[] = [];
    for (const [j, way] of ways.entries()) {
      await progress.show(() => `question ${i + 1} of ${hidden.length}: ${way.name}`);
      const asking = performance.now();
      const answer = judge(await way.ask(fact, (record) => records.push(record)), fact.needle);
      seconds[j]! += (performance.now() - asking) / 1000;
      right[j]! += Number(answer.right);
      cells.push(showAnswer(answer));
    }
    await progress.clear();
    asked.push({ hidden: fact, records });
    await say(tableRow(nameOf(fact.needle), fact.needle.answer, cells));
  }
  await say(tableRow("right", "", right.map((count) => `${count} of ${hidden.length}`)));
  await say(tableRow("time", "", seconds.map((sum) => formatSeconds(sum))));
  await say("");
  for (const { name, rule } of ways) await say(wrap(`${name}: ${rule}`, WIDTH));
  await say("");

  for (const { hidden, records } of asked) await say(describeSelection(session, hidden, records));
  await say(
    `took ${formatSeconds((performance.now() - began) / 1000)}, ` +
      `${formatBytes(peakMemoryBytes())} of memory at the peak`,
  );
  await say(`ask on: deno task ask "${hidden[0]!.needle.question}" --file ${path}`);
  const wrong = hidden.length - right[0]!;
  if (wrong > 0) {
    throw new Error(
      `ReAttention gave ${plural(wrong, "wrong answer")} to ${hidden.length} questions`,
    );
  }
}

async function writeText(
  path: string,
  settings: DemoSettings,
  bytesPerToken: number,
): Promise<Hidden[]> {
  const needles = createNeedles(KINDS, settings.seed);
  // The sample is within a percent or so of the whole.
  const length = Math.ceil(settings.tokens * bytesPerToken * 1.02);
  const found = new Map<Needle, Hidden>();
  await using file = await createTextFile(path);
  let written = 0;
  let waiting = "";
  for (const { text, needle } of writeHaystack({ seed: settings.seed, length, needles })) {
    const startByte = written; // ASCII: as many bytes as characters
    written += text.length;
    if (needle) found.set(needle, { needle, startByte, endByte: written });
    waiting += text;
    if (waiting.length > 1 << 16) {
      await file.write(waiting);
      waiting = "";
    }
  }
  await file.write(waiting);
  return needles.map((needle) => found.get(needle)!);
}

async function readText(
  session: Session,
  path: string,
  progress: ReturnType<typeof createProgress>,
): Promise<{ readSeconds: number; byteLength: number }> {
  let byteLength = 0;
  const decoder = new TextDecoder();
  async function* text(): AsyncGenerator<string> {
    for await (const bytes of readFile(path)) {
      byteLength += bytes.length;
      yield decoder.decode(bytes, { stream: true });
    }
  }
  const readSeconds = await feed(
    session,
    text(),
    (seconds) =>
      progress.show(() =>
        `reading  ${plural(session.length, "token")}  ${formatRate(session.length, seconds)}  ` +
        `cache ${formatBytes(session.stats.cacheBytes)}`
      ),
  );
  await progress.clear();
  return { readSeconds, byteLength };
}

/** A way to ask, the subject of the demo first. */
interface Way {
  readonly name: string;
  /** What it may read, for people. */
  readonly rule: string;
  ask(hidden: Hidden, onSelect: (record: SelectionRecord) => void): Promise<string>;
}

function waysToAsk(model: Model, session: Session, path: string, bytesPerToken: number): Way[] {
  const { trainedLength } = model.config;
  const { scope, length } = session;
  const window: ScopeConfig = {
    ...scope,
    topK: 0,
    localSize: trainedLength - scope.globalSize,
  };
  const askFull = async (hidden: Hidden, tokens: number) => {
    using full = model.session({ scope: FULL_ATTENTION, beyondTrainedLength: true });
    const text = await readCut(path, hidden, tokens * bytesPerToken);
    await feed(full, [text]);
    return await answerOf(model, full, hidden.needle);
  };
  return [
    {
      name: "ReAttention",
      rule: `${describeScope(scope)} of the ${formatCount(length)} that were read.`,
      async ask({ needle }, onSelect) {
        using fork = session.fork({ onSelect });
        return await answerOf(model, fork, needle);
      },
    },
    {
      name: "window",
      rule: `${describeScope(window)}: the first and the last, over the same reading.`,
      async ask({ needle }) {
        using fork = session.fork({ scope: window });
        return await answerOf(model, fork, needle);
      },
    },
    {
      name: "full",
      rule: `all ${formatCount(length)} tokens at their own positions, over the same reading; ` +
        `the model never saw a position beyond ${formatCount(trainedLength)}.`,
      async ask({ needle }) {
        using fork = session.fork({ scope: FULL_ATTENTION, beyondTrainedLength: true });
        return await answerOf(model, fork, needle);
      },
    },
    {
      name: "full, cut",
      rule:
        `full attention while reading as well, of about ${
          formatCount(Math.min(CUT_TOKENS, length))
        } tokens ` +
        "with the fact in their middle.",
      ask: (hidden) => askFull(hidden, CUT_TOKENS),
    },
    {
      name: "full, short",
      rule: `the same with about ${SHORT_CUT_TOKENS} tokens, within the trained length: what the ` +
        "model can do when it may look at everything.",
      ask: (hidden) => askFull(hidden, SHORT_CUT_TOKENS),
    },
  ];
}

/** Text around a fact; cut anywhere. */
async function readCut(path: string, hidden: Hidden, byteLength: number): Promise<string> {
  const file = await openFile(path);
  try {
    const length = Math.min(Math.round(byteLength), file.byteLength);
    const centered = Math.round((hidden.startByte + hidden.endByte - length) / 2);
    const start = Math.max(0, Math.min(centered, file.byteLength - length));
    const bytes = new Uint8Array(length);
    await file.read(bytes, start);
    return new TextDecoder().decode(bytes);
  } finally {
    await file.close?.();
  }
}

function showAnswer({ text, right }: Answer): string {
  const shown = printable(text.trim().replace(/\.$/, ""));
  return `${right ? "✓" : "✗"} ${clip(shown || "(nothing)", ANSWER_WIDTH - 3)}`;
}

const LABEL_WIDTH = 19;
const EXPECTED_WIDTH = 19;
const ANSWER_WIDTH = 12;

function tableRow(label: string, expected: string, cells: readonly string[]): string {
  const columns = [
    label.padEnd(LABEL_WIDTH),
    clip(expected, EXPECTED_WIDTH - 1).padEnd(EXPECTED_WIDTH),
    ...cells.map((cell) => cell.padEnd(ANSWER_WIDTH)),
  ];
  return columns.join("").trimEnd();
}

function nameOf({ kind, key }: Needle): string {
  return kind === "passkey" ? "the pass key" : key;
}

/** Which stretches the layer that found the fact selected while it answered. */
function describeSelection(
  session: Session,
  { needle, startByte, endByte }: Hidden,
  records: readonly SelectionRecord[],
): string {
  const steps = records.filter(({ phase }) => phase === "generate");
  const layers = [...new Set(steps.map(({ layer }) => layer))].sort((a, b) => a - b);
  const hits = layers.map((layer) => stepsThatSelected(steps, layer, { startByte, endByte }));
  const best = layers[hits.indexOf(Math.max(...hits))];
  const lines = [
    `${needle.question} ${needle.answer}`,
    `  hidden in bytes ${formatCount(startByte)} to ${formatCount(endByte)}; layers ` +
    `${layers.join(", ")} selected it in ${hits.join(", ")} of ` +
    plural(new Set(steps.map(({ step }) => step)).size, "step"),
  ];
  if (best !== undefined) {
    const stretches = mostSelected(steps, best).map((stretch) => {
      const [from, to] = [session.byteOffset(stretch.start), session.byteOffset(stretch.end)];
      return { ...stretch, from, to, isFact: from < endByte && to > startByte };
    });
    const shown = stretches.slice(0, STRETCHES);
    if (!shown.some(({ isFact }) => isFact)) {
      shown.push(...stretches.filter((s) => s.isFact).slice(0, 1));
    }
    for (const { start, end, from, to, isFact, steps } of shown) {
      const text = printable(session.textOf(start, end)).trim();
      lines.push(
        `  ${isFact ? "▸" : " "} layer ${best}, ${plural(steps, "step")}, bytes ` +
          `${formatCount(from)} to ${formatCount(to)}${isFact ? ": the fact" : ""}`,
        wrap(`"${clip(text, 240)}"`, WIDTH, "      "),
      );
    }
  }
  return lines.join("\n") + "\n";
}
