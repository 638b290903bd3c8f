/** The benchmarks' metrics: values that can be derived by hand, then what was published. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { codeSimilarity, fuzzyRatio, similarity } from "../src/eval/metrics/edit_similarity.ts";
import {
  chosenLetters,
  exactMatch,
  plainOutput,
  rightLetters,
  statedNumber,
  statedOutput,
  statedTruth,
} from "../src/eval/metrics/exam.ts";
import { characterF1, chineseWordF1, wordF1 } from "../src/eval/metrics/f1.ts";
import { calculatedShare, INFINITEBENCH_SCORES } from "../src/eval/metrics/infinitebench.ts";
import { createJieba, type JiebaFiles } from "../src/eval/metrics/jieba.ts";
import { classification, numberShare, paragraphNumber } from "../src/eval/metrics/mentions.ts";
import { digitRuns, strip, words } from "../src/eval/metrics/python_text.ts";
import { commonSubsequence, rouge, rougeLsum } from "../src/eval/metrics/rouge.ts";
import { rougeLOfCutSets, rougeLOfSets } from "../src/eval/metrics/rouge_sets.ts";

const near = (actual: number, expected: number) =>
  ok(Math.abs(actual - expected) < 1e-12, `${actual} is not ${expected}`);

test("white space and digits are Python's", () => {
  equal(strip(" \u001c\u3000a b\u0085\u00a0"), "a b");
  equal(strip("\ufeffa"), "\ufeffa"); // JavaScript's trim() would drop it
  deepEqual(words(" a\u001fb\u2028\tc "), ["a", "b", "c"]);
  deepEqual(words("   "), []);
  deepEqual(digitRuns("1 and 023, ４２"), ["1", "023", "４２"]);
});

test("F1 of words is the harmonic mean of precision and recall", () => {
  equal(wordF1("stockings", "stockings"), 1);
  equal(wordF1("", "stockings"), 0);
  equal(wordF1("wool", "stockings"), 0);
  // 2 of 4 words, 2 of 2: 2 * 0.5 * 1 / 1.5
  near(wordF1("red wool stockings today", "Red stockings!"), 2 / 3);
});

test("F1 of words counts a word as often as both have it", () => {
  // "no no no" against "no no": 2 common, precision 2/3, recall 1.
  near(wordF1("no no no", "no no"), 0.8);
});

test("F1 of words leaves out case, punctuation and articles, but not within words", () => {
  equal(wordF1("The U.S.A.", "usa"), 1);
  equal(wordF1("an apple, a day", "apple day"), 1);
  equal(wordF1("theatre", "atre"), 0);
  equal(wordF1("éa", "é"), 0); // no boundary between two letters, whatever their script
  equal(wordF1("well-known", "wellknown"), 1); // punctuation goes without leaving a space
  equal(wordF1("“quoted”", "quoted"), 0); // only ASCII's punctuation goes
});

test("F1 of characters leaves out Chinese punctuation and white space", () => {
  equal(characterF1("胡一刀。", "胡一刀"), 1);
  equal(characterF1("胡 一 刀", "「胡一刀」"), 1);
  // 2 of 4 characters, 2 of 2.
  near(characterF1("他是胡一", "胡一"), 2 / 3);
  equal(characterF1("𠀀", "𠀀𠀁"), 2 / 3); // beyond 16 bits, too, a character is one
});

test("ROUGE-1, 2 and L are F-measures of words, pairs and the longest common subsequence", () => {
  const scores = rouge("The cat sat on the mat", "the cat lay on a mat");
  near(scores.rouge1, 4 / 6); // the, cat, on, mat
  near(scores.rouge2, 1 / 5); // the cat
  near(scores.rougeL, 4 / 6);
  deepEqual(rouge("", "a"), { rouge1: 0, rouge2: 0, rougeL: 0 });
  deepEqual(rouge("Ünïcode", "unicode"), { rouge1: 0, rouge2: 0, rougeL: 0 }); // n, code
  equal(rouge("one, two", "ONE-TWO").rouge2, 1);
});

test("ROUGE-Lsum unites the subsequences that a line has with all lines of the answer", () => {
  // Lin's example: w1 w2 w3 w4 w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5: union w1 w2 w3 w5.
  const recall = 4 / 5;
  const precision = 4 / 10;
  near(
    rougeLsum("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5"),
    2 * recall * precision / (recall + precision),
  );
  equal(rougeLsum("a b\nc d", "a b\nc d"), 1);
  equal(rougeLsum("\n\n", "a"), 0);
});

test("ROUGE-Lsum counts no word more often than either text has it", () => {
  // Two reference lines want "a", the answer has one: 1 of 1 and 1 of 2.
  near(rougeLsum("a", "a\na"), 2 * 1 * 0.5 / 1.5);
});

test("ties between subsequences fall as in the package that is followed", () => {
  deepEqual(commonSubsequence(["x", "y"], ["y", "x"], "a"), [0]);
  deepEqual(commonSubsequence(["x", "y"], ["y", "x"], "b"), [1]);
});

test("texts too long to compare are refused before memory is taken", () => {
  const long = Array.from({ length: 20_000 }, () => "a");
  let message = "";
  try {
    commonSubsequence(long, long, "a");
  } catch (error) {
    message = String(error);
  }
  ok(/RangeError: Cannot compare a text of 20000 words/.test(message), message);
});

test("ROUGE-L of sets counts a word once", () => {
  const f = (precision: number, recall: number) =>
    2 * ((precision * recall) / (precision + recall + 1e-8));
  equal(rougeLOfSets("a a a b", "a b"), f(1, 1));
  equal(rougeLOfSets("a b c d", "a x c"), f(2 / 4, 2 / 3));
  // Sentences end at full stops; the words in common unite over all pairs of them.
  equal(rougeLOfSets("b a. c", "a b. c"), f(2 / 3, 2 / 3));
  equal(rougeLOfSets("...", "a"), 0);
  equal(rougeLOfSets("", "a"), 0);
  // What is left of the last stop is a sentence with an empty word.
  equal(rougeLOfSets("a. ", "a."), f(1 / 2, 1));
});

test("Chinese is scored by words or characters, as it is cut", () => {
  const characters = (text: string) => [...text];
  equal(rougeLOfCutSets("猫在", "猫在家里", characters), rougeLOfSets("a b", "a b c d"));
  const pairs = (text: string) => text.match(/../gu) ?? [];
  equal(rougeLOfCutSets("猫在", "猫在家里", pairs), rougeLOfSets("a", "a b"));
  equal(chineseWordF1("猫在，。", "猫在家里", pairs), 2 / 3); // punctuation is no word
  equal(chineseWordF1("猫家在里", "猫在家里", pairs), 0);
});

/** A dictionary and a model of unknown words that are small enough to follow. */
const jiebaFiles: JiebaFiles = {
  dictionary:
    "北京 40 ns\n北京大学 20 nt\n大学 30 n\n大 5 a\n学生 30 n\n生 5 n\n我 10 r\n在 10 p\n",
  start: "P={'B': -0.3,\n 'E': -3.14e+100, 'M': -3.14e+100, 'S': -1.4}",
  transitions: "from __future__ import unicode_literals\nP={'B': {'E': -0.5, 'M': -0.9}, " +
    "'E': {'B': -0.6, 'S': -0.8}, 'M': {'E': -0.3, 'M': -1.3}, 'S': {'B': -0.7, 'S': -0.7}}",
  emissions: "P={'B': {'\\u7f51': -1.0, '杭': -1.0}, 'E': {'\\u6613': -1.0, '研': -1.0}, " +
    "'M': {'易': -9.0}, 'S': {'了': -1.0, '我': -1.0, '在': -1.0}}",
};

test("Chinese words are the likeliest ones of the dictionary, as jieba cuts them", () => {
  const cut = createJieba(jiebaFiles);
  deepEqual(cut("我在北京大学"), ["我", "在", "北京大学"]); // 20 of 150 beats 40 and 30 of 150
  // 北京/大学生 has 生 left over: 北京 大学 生, or 北京大学 生, or 北京 大 学生.
  deepEqual(cut("北京大学生"), ["北京大学", "生"]);
  deepEqual(cut("大学生"), ["大学", "生"]); // as likely as 大 学生; Python takes the later end
  deepEqual(cut(""), []);
});

test("Chinese words that no dictionary has are the model's", () => {
  const cut = createJieba(jiebaFiles);
  deepEqual(cut("网易杭研了"), ["网易", "杭研", "了"]);
  // What is not Chinese: letters and digits stay together, the rest falls apart.
  deepEqual(cut("3.5%的ACE-05 ok。\r\n"), [
    "3.5%",
    "的",
    "ACE",
    "-",
    "05",
    " ",
    "ok",
    "。",
    "\r\n",
  ]);
});

test("jieba's files are named where they are damaged", () => {
  const fails = (files: Partial<JiebaFiles>, complaint: RegExp) => {
    let message = "";
    try {
      createJieba({ ...jiebaFiles, ...files });
    } catch (error) {
      message = String(error);
    }
    ok(complaint.test(message), message);
  };
  fails(
    { dictionary: "我 10 r\n北京" },
    /line 2 of jieba's dict\.txt: .*word and its count, got "北京"/,
  );
  fails({ start: "" }, /jieba's prob_start\.py: it must have numbers/);
  fails({ transitions: "P={'B': {'E': -1}}" }, /jieba's prob_trans\.py: .* B, M, E, S, it has 1/);
});

test("similarity is that of Python's difflib", () => {
  // The values of SequenceMatcher(None, a, b).ratio() in Python 3.11.
  equal(similarity([..."abcd"], [..."bcde"]), 0.75);
  equal(
    similarity([..."private Thread currentThread;"], [
      ..."private volatile Thread currentThread;",
    ]),
    0.8656716417910447,
  );
  equal(similarity([], []), 1);
  // It takes the longest block first, so it need not find the longest common subsequence.
  equal(similarity([..."tide"], [..."diet"]), 0.25);
  equal(similarity([..."diet"], [..."tide"]), 0.5);
});

test("similarity looks up no character that a long text has too often, as difflib does not", () => {
  const a = (times: number) => Array.from({ length: times }, () => "a");
  equal(similarity([..."xa"], a(199)), 2 / 201);
  equal(similarity([..."xa"], a(200)), 0);
  // Three are not more than a hundredth and one.
  equal(similarity([..."xb"], [..."bbb", ...a(200)]), 2 / 205);
  equal(similarity([..."xb"], [..."bbbb", ...a(200)]), 0);
  // It still lengthens what was found, or the start.
  equal(similarity(["a"], a(200)), 2 / 201);
});

test("the fuzzy ratio is in whole percents, halves to the even one", () => {
  equal(fuzzyRatio("", ""), 100);
  equal(fuzzyRatio("", "a"), 0);
  equal(fuzzyRatio("return x", "return x"), 100);
  equal(fuzzyRatio("abcdefgh", "a1234567"), 12); // 12.5
  equal(fuzzyRatio("abcdefgh", "abc12345"), 38); // 37.5
});

test("code similarity takes the first line without a fence or a comment", () => {
  equal(codeSimilarity("\n```python\n# next\n// next\nreturn x\nreturn y", "return x"), 1);
  equal(codeSimilarity("# only a comment", "return x"), 0);
  equal(codeSimilarity("  return x", "return x"), 0.89); // 16 of 18
});

test("classification divides by the classes that are named", () => {
  const classes = ["Food", "Animal", "Animal species", "City"];
  equal(classification("Type: Food", "Food", classes), 1);
  equal(classification("Food or City", "Food", classes), 0.5);
  equal(classification("City", "Food", classes), 0);
  equal(classification("", "Food", classes), 0);
  // A name within the right one is not held against the answer.
  equal(classification("Animal species", "Animal species", classes), 1);
  equal(classification("Animal species", "Animal", classes), 0.5);
});

test("classification keeps the name behind a removed one, as the official loop does", () => {
  equal(classification("abc", "abc", ["a", "ab", "abc"]), 1 / 2);
});

test("numbers count by their share of all numbers", () => {
  equal(numberShare("Paragraph 12", "12"), 1);
  equal(numberShare("12, or 3", "12"), 0.5);
  equal(numberShare("none", "12"), 0);
  equal(numberShare("112", "12"), 0);
  equal(paragraphNumber("Paragraph 7", "en"), "7");
  equal(paragraphNumber("段落14", "zh"), "14");
  equal(paragraphNumber("the seventh", "en"), null);
});

test("L-Eval's exact match compares letters, numbers or texts", () => {
  equal(exactMatch("B", "B"), 1);
  equal(exactMatch("AC", "ACD"), 0.25);
  equal(exactMatch("AB", "ACD"), 0);
  equal(exactMatch("18.0", "18"), 1);
  equal(exactMatch("17", "18"), 0);
  equal(exactMatch("It was the Winter Garden.\nNo doubt", "winter garden"), 1);
  equal(exactMatch("I\nwinter garden", "winter garden"), 1); // a line of one character is none
  equal(exactMatch("Something else\nwinter garden", "winter garden"), 0);
});

test("L-Eval reads letters, numbers, outputs and truths out of answers", () => {
  equal(chosenLetters("The answer is B, not C.", false), "B");
  equal(chosenLetters("  ", false), "None");
  equal(chosenLetters("CA", true), "AC");
  equal(chosenLetters("Options B. and D) hold", true), "BD");
  equal(chosenLetters("B. yes\nQuestion: A.", true), "B");
  equal(chosenLetters("who knows", true), "A");
  equal(rightLetters("B) Paris"), "B");
  equal(rightLetters("AC"), "AC");
  equal(statedNumber("So 3 + 4.\nThe answer is $1,234.50"), "1234");
  equal(statedNumber("It makes 12 apples a day"), "12");
  equal(statedNumber("It makes 12 apples\n\nor 13"), "12");
  equal(statedNumber("nothing"), "");
  equal(plainOutput("[ [1, 2],\n ['a'] ]"), "[[1 2][a]]");
  equal(
    statedOutput("I run it. the final output will be 1 2 3 and more of it", "1 2"),
    " 1 2 3 and",
  );
  equal(statedOutput("one two three four five six", "1"), "three four five six");
  equal(statedTruth("It is False, not true"), "false");
  equal(statedTruth("perhaps"), "<error>");
});

const score = (task: string, prediction: string, label: Parameters<typeof calculatedShare>[1]) =>
  INFINITEBENCH_SCORES[task]!(prediction, label);

test("InfiniteBench compares the first number of an answer as text", () => {
  equal(score("passkey", "The pass key is 07143.", ["07143"]), 1);
  equal(score("passkey", "7143", "07143"), 0);
  equal(score("number_string", "not 12 but 34", "34"), 0);
  equal(score("math_find", "about 88.5", 88.5), 1);
  equal(score("math_find", "-88", [88]), 1);
  equal(score("math_find", "none", 88), 0);
});

test("InfiniteBench looks a value up among the words of an answer", () => {
  equal(score("kv_retrieval", 'It is "5e6b-7b".', "5e6b-7b"), 1);
  equal(score("kv_retrieval", "5e6b-7b2", "5e6b-7b"), 0);
  equal(score("longdialogue_qa_eng", "ace: I think", ["ACE", "ACE ROTHSTEIN"]), 1);
  equal(score("longdialogue_qa_eng", "Rothstein", ["ACE", "ROTHSTEIN"]), 0); // the first counts
  equal(score("code_run", "It returns -7.", [-7]), 1);
  equal(score("code_run", "-7 or 8", -7), 0);
  equal(score("code_run", "  ", 8), 0);
});

test("InfiniteBench finds the option that an answer chooses", () => {
  const label = ["Snowfield", "C"];
  for (const answer of ["C", "C. Snowfield", "Snowfield", "the answer is C", "It would be C !"]) {
    equal(score("longbook_choice_eng", answer, label), 1, answer);
  }
  for (const answer of ["", "B", "the answer is", "the answer is B, not C", "Dear reader, C"]) {
    equal(score("longbook_choice_eng", answer, label), 0, answer);
  }
  const fault = ["cmd_gen", "C"];
  for (const answer of ["C. x", "C: x", "The answer is: C", "I say the answer is: cmd_gen()"]) {
    equal(score("code_debug", answer, fault), 1, answer);
  }
  for (const answer of ["C", "cmd_gen", "The answer is: B. C", "is:"]) {
    equal(score("code_debug", answer, fault), 0, answer);
  }
});

test("InfiniteBench counts calculated values up to the first wrong one", () => {
  equal(score("math_calc", "[4, 8, 7, 3]", [4, 8, 9, 3]), 0.5);
  equal(score("math_calc", "[4, 8]", [[4, 8, 9, 3]]), 0.5);
  equal(score("math_calc", "", [4]), 0);
  equal(calculatedShare("1 4 8 9 3", [4, 8, 9, 3], 1), 1);
});

test("InfiniteBench takes the best of several references", () => {
  equal(score("longbook_qa_eng", "stockings", ["gloves", "the stockings"]), 1);
  equal(score("longbook_qa_chn", "胡一刀", ["商老太", "胡一刀"]), 1);
  equal(score("longbook_sum_eng", "a b", ["c", "a b"]), 1);
});
