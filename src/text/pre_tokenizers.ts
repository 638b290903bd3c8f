/**
 * How byte-level vocabularies split text before merging, under the names that GGUF has for it.
 *
 * The patterns are those of the models' own tokenizer.json; the names are llama.cpp's.
 *
 * @module
 */

/** One way to split. */
export interface PreTokenizer {
  /** Regular expressions; each isolates its matches in what those before it left whole. */
  readonly patterns: readonly string[];
  /** Whether a word that is an entry of the vocabulary is that token, without merging. */
  readonly ignoresMerges?: boolean;
  /** Whether texts begin with the beginning-of-text token where the file does not say. */
  readonly addsBos?: boolean;
  /** Whether text is composed first (Unicode NFC). */
  readonly composes?: boolean;
}

const CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const WORDS = (digits: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`;
/** Radford et al. 2019 (GPT-2). */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
/** Words that end where capitals begin. */
const CASED = (suffix: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${suffix}|` +
  `${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;
/** Letters of DeepSeek LLM's first pattern: Latin, Greek, Cyrillic and other scripts with case. */
const CASED_LETTERS =
  "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ" +
  "ὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆ" +
  "ﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃";
const HAN_AND_HANGUL = "[一-龥ࠀ-一가-\\ud7ff]+";

const llama3: PreTokenizer = {
  patterns: [WORDS("\\p{N}{1,3}")],
  ignoresMerges: true,
  addsBos: true,
};
const likeLlama3: PreTokenizer = { patterns: llama3.patterns };
const qwen2: PreTokenizer = { patterns: [WORDS("\\p{N}")] };
const gpt2: PreTokenizer = { patterns: [GPT2] };
const digitsAlone: PreTokenizer = { patterns: ["\\p{N}", GPT2] };
const deepseek3: PreTokenizer = {
  patterns: [
    "\\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" +
    ` ?[\\p{P}\\p{S}]+[\\r\\n]*|${SPACES}`,
  ],
};

/** By the value of `tokenizer.ggml.pre`. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ["default", {
    patterns: [
      "[\\p{P}\\$\\+<=>\\^~\\|]+",
      GPT2,
      "\\p{N}+",
      "[0-9][0-9][0-9]",
    ],
  }],
  ["llama3", llama3],
  ["llama-v3", llama3],
  ["llama-bpe", llama3],
  ["falcon3", llama3],
  ["pixtral", llama3],
  ["lfm2", llama3],
  ["dbrx", likeLlama3],
  ["smaug-bpe", likeLlama3],
  ["chatglm-bpe", likeLlama3],
  ["glm4", likeLlama3],
  // The one whose tokenizer.json composes text.
  ["qwen2", { ...qwen2, composes: true }],
  ["deepseek-r1-qwen", qwen2],
  ["megrez", qwen2],
  ["stablelm2", qwen2],
  ["deepseek-llm", {
    patterns: [
      "[\\r\\n]",
      `\\s?[${CASED_LETTERS}]+`,
      "\\s?[!-/:-~！-／：-～‘-‟\\u3000-。]+",
      // Without the look back, which changes nothing, a run takes time quadratic in its length.
      "(?<!\\s)\\s+$",
      HAN_AND_HANGUL,
      "\\p{N}+",
    ],
  }],
  ["deepseek-coder", {
    patterns: ["[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_AND_HANGUL, "\\p{N}"],
  }],
  ["deepseek-v3", deepseek3],
  ["hunyuan-dense", deepseek3],
  ["falcon", { patterns: ["[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"] }],
  ["starcoder", digitsAlone],
  ["refact", digitsAlone],
  ["command-r", digitsAlone],
  ["smollm", digitsAlone],
  ["codeshell", digitsAlone],
  ["exaone", digitsAlone],
  ["minerva-7b", digitsAlone],
  ["gpt-2", gpt2],
  ["mpt", gpt2],
  ["olmo", gpt2],
  ["phi-2", gpt2],
  ["gigachat", gpt2],
  ["trillion", gpt2],
  ["tekken", {
    patterns: [CASED("", "\\p{N}")],
    ignoresMerges: true,
    addsBos: true,
  }],
  ["gpt-4o", { patterns: [CASED(`${CONTRACTIONS}?`, "\\p{N}{1,3}")] }],
  ["llama4", { patterns: [CASED(`${CONTRACTIONS}?`, "\\p{N}{1,3}")] }],
]);
