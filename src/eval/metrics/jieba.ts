/**
 * Chinese words as the Python package jieba cuts them, which LongBench's Chinese scores are by. The
 * dictionary and the model of unknown words are the package's own files.
 *
 * @module
 */

/** Cuts a text into words, punctuation and white space, which concatenate to it. */
export type WordCutter = (text: string) => string[];

/** The package's files: `dict.txt`, and those of its `finalseg` folder. */
export interface JiebaFiles {
  /** A word, its count and its kind on each line. */
  readonly dictionary: string;
  /** `prob_start.py`, `prob_trans.py`, `prob_emit.py`: logarithms of probabilities, as Python. */
  readonly start: string;
  readonly transitions: string;
  readonly emissions: string;
}

/** Where a character stands: at a word's beginning, in its middle, at its end, or alone. */
type Place = "B" | "M" | "E" | "S";

const PLACES = ["B", "M", "E", "S"] as const;
/** Which places a character's neighbour before it may have; of equals the first, as in Python. */
const BEFORE: Readonly<Record<Place, readonly [Place, Place]>> = {
  B: ["S", "E"],
  M: ["M", "B"],
  E: ["M", "B"],
  S: ["S", "E"],
};
const IMPOSSIBLE = -3.14e100;

const KNOWN = /([\u4E00-\u9FD5a-zA-Z0-9+#&._%-]+)/;
const CHINESE = /([\u4E00-\u9FD5]+)/;
const LATIN = /([a-zA-Z0-9]+(?:\.[0-9]+)?%?)/;

/**
 * Reads the package's files.
 *
 * @throws {SyntaxError} If one is not what it must be; says which line or name.
 */
export function createJieba(files: JiebaFiles): WordCutter {
  const { counts, total } = readDictionary(files.dictionary);
  const start = readNumbers(files.start, "prob_start.py");
  const transitions = readTables(files.transitions, "prob_trans.py");
  const emissions = readTables(files.emissions, "prob_emit.py");

  /** The likeliest places of characters that no word of the dictionary holds (Viterbi). */
  function placesOf(characters: readonly string[]): Place[] {
    const came: Record<Place, Place>[] = []; // where the best way to each place came from
    let best: Record<Place, number> | null = null;
    for (const character of characters) {
      const before = best;
      const from: Record<Place, Place> = { B: "B", M: "M", E: "E", S: "S" };
      best = { B: 0, M: 0, E: 0, S: 0 };
      for (const place of PLACES) {
        const emitted = emissions.get(place)?.get(character) ?? IMPOSSIBLE;
        if (before === null) {
          best[place] = (start.get(place) ?? IMPOSSIBLE) + emitted;
          continue;
        }
        const [first, second] = BEFORE[place];
        const by = (last: Place) =>
          before[last] + (transitions.get(last)?.get(place) ?? IMPOSSIBLE) + emitted;
        from[place] = by(first) >= by(second) ? first : second;
        best[place] = by(from[place]);
      }
      came.push(from);
    }
    let place: Place = best !== null && best.E > best.S ? "E" : "S";
    const places: Place[] = [];
    for (const from of came.reverse()) {
      places.push(place);
      place = from[place];
    }
    return places.reverse();
  }

  /** Words of a stretch of Chinese characters that are in no word of the dictionary. */
  function unknownWords(text: string): string[] {
    const characters = [...text];
    const places = placesOf(characters);
    const words: string[] = [];
    let begin = 0;
    let next = 0;
    for (const [i, place] of places.entries()) {
      if (place === "B") begin = i;
      else if (place === "E" || place === "S") {
        words.push(characters.slice(place === "E" ? begin : i, i + 1).join(""));
        next = i + 1;
      }
    }
    if (next < characters.length) words.push(characters.slice(next).join(""));
    return words;
  }

  /** The ends of the words, by the likeliest cut into words of the dictionary. */
  function endsOf(characters: readonly string[]): number[] {
    const score = new Float64Array(characters.length + 1);
    const ends = new Array<number>(characters.length);
    for (let i = characters.length - 1; i >= 0; i--) {
      let bestScore = -Infinity;
      let known = false;
      const consider = (end: number, count: number) => {
        const candidate = Math.log(count || 1) - Math.log(total) + score[end]!;
        // Of equals the longer: Python compares the ends next.
        if (candidate >= bestScore) {
          bestScore = candidate;
          ends[i] = end;
        }
      };
      let word = "";
      for (let end = i + 1; end <= characters.length; end++) {
        word += characters[end - 1];
        const count = counts.get(word);
        if (count === undefined) break;
        if (count > 0) {
          consider(end, count);
          known = true;
        }
      }
      if (!known) consider(i + 1, 0);
      score[i] = bestScore;
    }
    return ends;
  }

  function cutBlock(block: string): string[] {
    const characters = [...block];
    const ends = endsOf(characters);
    const words: string[] = [];
    let singles = "";
    const flush = () => {
      if ([...singles].length === 1 || counts.get(singles)) words.push(...singles);
      else {
        for (const part of singles.split(CHINESE)) {
          if (CHINESE.test(part)) words.push(...unknownWords(part));
          else words.push(...part.split(LATIN).filter((other) => other !== ""));
        }
      }
      singles = "";
    };
    for (let i = 0; i < characters.length; i = ends[i]!) {
      if (ends[i] === i + 1) singles += characters[i];
      else {
        flush();
        words.push(characters.slice(i, ends[i]).join(""));
      }
    }
    flush();
    return words;
  }

  return (text) =>
    text.split(KNOWN).filter((block) => block !== "").flatMap((block) =>
      KNOWN.test(block)
        ? cutBlock(block)
        : block.split(/(\r\n|\s)/u).flatMap((part) => part === "\r\n" ? [part] : [...part])
    );
}

/** Counts of words, 0 for what only begins one; and their sum. */
function readDictionary(text: string): { counts: Map<string, number>; total: number } {
  const counts = new Map<string, number>();
  let total = 0;
  for (const [i, line] of text.split("\n").entries()) {
    const [word = "", number = ""] = line.trim().split(" ");
    if (word === "") continue;
    const count = /^\d{1,12}$/.test(number) ? Number(number) : NaN;
    if (Number.isNaN(count)) {
      throw new SyntaxError(
        `Cannot read line ${i + 1} of jieba's dict.txt: it must be a word and its count, got ` +
          `"${line.slice(0, 60)}"`,
      );
    }
    counts.set(word, count);
    total += count;
    const characters = [...word];
    for (let length = 1; length < characters.length; length++) {
      const beginning = characters.slice(0, length).join("");
      if (!counts.has(beginning)) counts.set(beginning, 0);
    }
  }
  return { counts, total };
}

/** The numbers of a Python dictionary: `{'B': -0.26, ...}`. */
function readNumbers(python: string, name: string): Map<string, number> {
  const numbers = new Map<string, number>();
  const pairs = python.matchAll(
    /u?['"](\\u[0-9a-fA-F]{4}|[^'"])['"]\s*:\s*(-?[0-9.]+(?:[eE][+-]?\d+)?)/g,
  );
  for (const [, key, value] of pairs) {
    const character = key!.startsWith("\\u")
      ? String.fromCharCode(parseInt(key!.slice(2), 16))
      : key!;
    numbers.set(character, Number(value));
  }
  if (numbers.size === 0) {
    throw new SyntaxError(`Cannot read jieba's ${name}: it must have numbers, such as 'B': -0.26`);
  }
  return numbers;
}

/** Such dictionaries within one, by place: `{'B': {...}, ...}`. */
function readTables(python: string, name: string): Map<string, Map<string, number>> {
  const tables = [...python.matchAll(/u?['"]([BMES])['"]\s*:\s*\{([^{}]*)\}/g)]
    .map(([, place, numbers]) => [place!, readNumbers(numbers!, name)] as const);
  if (tables.length !== 4) {
    throw new SyntaxError(
      `Cannot read jieba's ${name}: it must have a dictionary for each of B, M, E, S, it has ` +
        `${tables.length}`,
    );
  }
  return new Map(tables);
}
