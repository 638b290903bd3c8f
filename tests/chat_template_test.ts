import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { readdirSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import {
  type ChatMessage,
  MAX_CHAT_TEMPLATE_LENGTH,
  renderChat,
  splitChat,
} from "../src/text/chat_template.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";
import { sharedText } from "./support/tokenizers.ts";

const FOLDER = "chat_templates/";
const CASES = `${FOLDER}llamacpp_chat_cases.json`;
const skip = missing(CASES);

interface Case {
  readonly name: string;
  readonly template_str: string;
  readonly expected_output: string;
  readonly expected_output_jinja?: string;
  readonly bos_token?: string;
  readonly eos_token?: string;
  readonly jinja2_check: string;
}

const file = skip ? null : readJson(CASES) as {
  readonly conversation: readonly ChatMessage[];
  readonly cases: readonly Case[];
};
const confirmed = file?.cases.filter((one) => one.jinja2_check !== "DIFF") ?? [];

function optionsOf(one: Case) {
  return { name: one.name, bosToken: one.bos_token ?? "", eosToken: one.eos_token ?? "" };
}

test("there are 19 confirmed chat cases", { skip }, () => equal(confirmed.length, 19));

for (const one of confirmed) {
  test(`the chat template of ${one.name} writes the conversation as Jinja2 does`, () => {
    const expected = one.expected_output_jinja || one.expected_output;
    equal(renderChat(one.template_str, file!.conversation, optionsOf(one)), expected);
  });

  test(`the parts of ${one.name}'s turns are those of a conversation with their texts in it`, () => {
    const options = optionsOf(one);
    const { opening, closing, next } = splitChat(one.template_str, options);
    const turn = (role: ChatMessage["role"], content: string) => ({ role, content });
    const asked = [turn("user", "What is it?")];
    equal(`${opening}What is it?${closing}`, renderChat(one.template_str, asked, options));
    const again = [...asked, turn("assistant", "A sea."), turn("user", "Where?")];
    const written = renderChat(one.template_str, again, options);
    ok(next !== null);
    ok(written.startsWith(`${opening}What is it?`));
    ok(written.includes(`A sea.${next}Where?`));
  });
}

const templates = skip
  ? []
  : readdirSync(sharedUrl(FOLDER)).filter((name) => name.endsWith(".jinja"));
for (const name of templates) {
  test(`${name} surrounds a text`, () => {
    const template = sharedText(`${FOLDER}${name}`);
    const { opening, closing, next } = splitChat(template, {
      name,
      bosToken: "<s>",
      eosToken: "</s>",
    });
    match(opening, /user|INST/);
    match(closing, /assistant|model|\[\/INST\]/);
    ok(next !== null && next.length > 0);
  });
}

test("a template may know the day", () => {
  const template = "{{ strftime_now('%Y') }}{{ messages[0].content }}";
  equal(renderChat(template, [{ role: "user", content: "!" }], { name: "t" }).length, 5);
});

const message = "{{ messages[0].content }}";
const wrong: readonly (readonly [string, string, RegExp])[] = [
  ["never shows the text", "Hello", /must come out of it once, unchanged, found 0 times/],
  ["shows it twice", message + message, /found 2 times/],
  ["changes it", "{{ messages[0].content | upper }}", /found 0 times/],
  ["refuses", "{{ raise_exception('no such role') }}", /it says "no such role"/],
  ["is no Jinja", "{% if %}", /Cannot use the chat template of bad\.jinja: /],
  ["never ends an if", "{% if true %}", /bad\.jinja/],
  ["names what is not there", "{{ nothing.at.all }}", /bad\.jinja/],
  ["is too long", " ".repeat(MAX_CHAT_TEMPLATE_LENGTH + 1), /at most 131072 characters/],
  [
    "counts too far",
    "{% for i in range(65000) %}{% endfor %}",
    /a range must have at most/,
  ],
  [
    "loops in loops",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    /at most 500000 steps/,
  ],
  [
    "doubles a text",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}" +
    "{% endfor %}",
    /must have at most 16384 characters/,
  ],
  [
    "doubles a list",
    "{% set ns = namespace(x=['a']) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}" +
    "{% endfor %}{{ ns.x }}",
    /must have at most 16384 characters and items/,
  ],
  [
    "has a list in itself",
    "{% set ns = namespace() %}{% set ns.x = [ns, ns] %}{{ ns }}",
    /must have at most|call stack|recursion/,
  ],
  ["multiplies texts", `{{ ('a' * 60000) }}`, /bad\.jinja/],
  ["replaces without end", "{{ 'aaaa'.replace('', 'x' * 9000) }}", /bad\.jinja/],
  [
    "indents a billion",
    "{{ 'a\\nb' | indent(1000000000) }}",
    /a number in it must be at most 65536/,
  ],
  ["calls itself", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", /bad\.jinja/],
  ["is a thousand brackets deep", `{{ ${"(".repeat(60_000)}1 }}`, /bad\.jinja/],
  ["looks for a prototype", "{{ ''.constructor.constructor('return 1')() }}", /bad\.jinja/],
  ["looks for another", "{{ messages.__proto__.x }}", /bad\.jinja/],
  ["looks for the host", "{{ globalThis.process.exit() }}", /bad\.jinja/],
  ["looks behind a function", "{{ range.constructor('return 1')() }}", /bad\.jinja/],
];

for (const [what, template, expected] of wrong) {
  test(`a template that ${what} is refused by name, and soon`, () => {
    // The processor's time, not the clock's: a busy machine makes a template no worse.
    const began = process.cpuUsage();
    throws(() => splitChat(template, { name: "bad.jinja" }), {
      name: "TypeError",
      message: expected,
    });
    throws(
      () => splitChat(template, { name: "bad.jinja" }),
      /Cannot use the chat template of bad.jinja/,
    );
    const { user, system } = process.cpuUsage(began);
    ok(user + system < 5_000_000);
  });
}

test("prototypes of what a template sees are not there", () => {
  const names = ["constructor", "__proto__", "prototype", "toString", "hasOwnProperty", "valueOf"];
  for (const name of names) {
    for (const value of ["''", "messages", "messages[0]", "range", "1", "true", "namespace()"]) {
      const template = `{% if ${value}.${name} is defined %}seen{% endif %}` +
        `{% if ${value}['${name}'] is defined %}seen{% endif %}`;
      let text: string;
      try {
        text = renderChat(template, [{ role: "user", content: "" }], { name: "t" });
      } catch (error) {
        text = "";
        match((error as Error).message, /Cannot use the chat template of t/);
      }
      equal(text, "", `${value}.${name}`);
    }
  }
});

test("a template of one turn says so", () => {
  const template = "{% if messages | length > 1 %}{{ raise_exception('once') }}{% endif %}" +
    `<u>${message}<a>`;
  deepEqual(splitChat(template, { name: "t" }), { opening: "<u>", closing: "<a>", next: null });
});
