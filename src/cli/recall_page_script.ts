/**
 * What the recall page does: draws what was read, for all of the answer or one token of it, and shows
 * the text under the pointer.
 *
 * It is a string, because it runs in whatever browser opens the page, not here. Texts of the trace
 * reach the page as `textContent` only, so that none of them can be markup.
 *
 * @module
 */

/** JavaScript; see `PageData` in recall_page.ts for what it reads. */
export const SCRIPT = String.raw`"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const SHOWN = 30; // quotes at once
const AROUND = 14; // tokens quoted before and after, where they are known
const LEFT = 16 + 6.6 * Math.max(...data.lanes.map((name) => name.length)); // for the lanes' names
const RIGHT = 14, LEAST = 3; // pixels: the right margin, a bar's least width
const byId = (id) => document.getElementById(id);
const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");

const pieces = new Map();
for (const [start, texts] of data.texts) texts.forEach((text, i) => pieces.set(start + i, text));

/** The text of [start, end), as far as it is known from one end on. */
function textFrom(start, end, step) {
  let text = "";
  for (let t = step > 0 ? start : end - 1; t >= start && t < end; t += step) {
    if (!pieces.has(t)) break;
    text = step > 0 ? text + pieces.get(t) : pieces.get(t) + text;
  }
  return text;
}

function placeOf({ start, end }) {
  const [first, last] = [data.starts[start], data.ends[end]];
  if (!first || !last) return "";
  const name = (input) => data.inputs[input] ?? "input " + input;
  return first[0] === last[0]
    ? name(first[0]) + ", bytes " + count(first[1]) + " to " + count(last[1])
    : name(first[0]) + ", byte " + count(first[1]) + ", to " + name(last[0]) + ", byte " + count(last[1]);
}

function add(parent, tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  map.append(element);
  return element;
}

// What is shown: for each lane its stretches, { start, end, steps, share, lane }.

function flat(lane, numbers, size, of) {
  const found = [];
  for (let i = 0; i < numbers.length; i += size) {
    const steps = size === 3 ? numbers[i + 2] : 1;
    found.push({ lane, start: numbers[i], end: numbers[i + 1], steps, of, share: steps / of });
  }
  return found;
}
const everything = () => data.all.map((numbers, lane) => flat(lane, numbers, 3, data.steps.length));
const ofStep = (step) => data.steps[step].spans.map((numbers, lane) => flat(lane, numbers, 2, 1));

// The map.

const map = byId("map");
const tip = byId("tip");
const laneHeight = Math.max(14, Math.min(64, Math.floor(520 / data.lanes.length)));
const bottom = data.lanes.length * laneHeight + 6;
let width = 0; // of the map, as it is on the screen: its letters keep their size
let view = [0, data.length]; // the tokens that are drawn
const CLOSER = 8; // times, at each double click
const xOf = (token) => LEFT + (token - view[0]) / (view[1] - view[0]) * (width - LEFT - RIGHT);
const tokenAt = (x) => view[0] + (x - LEFT) / (width - LEFT - RIGHT) * (view[1] - view[0]);

/** Draws so many tokens around one, or as many as there are. */
function look(middle, size) {
  const shown = Math.max(Math.min(64, data.length), Math.min(size, data.length));
  const from = Math.max(0, Math.min(data.length - shown, Math.round(middle - shown / 2)));
  view = [from, from + shown];
  byId("whole").hidden = shown === data.length;
  light([]);
  drawMap(current);
}

function tickStep() {
  for (let unit = 1;; unit *= 10) {
    for (const step of [unit, 2 * unit, 5 * unit]) {
      if (xOf(step) - xOf(0) >= 24 + 8 * count(data.length).length) return step;
    }
  }
}

let current = [];
function drawMap(lanes) {
  current = lanes;
  width = Math.max(320, map.parentElement.clientWidth);
  map.setAttribute("viewBox", "0 0 " + width + " " + (bottom + 40));
  map.replaceChildren();
  const inView = ({ start, end }) => start < view[1] && end > view[0];
  for (const [start, end] of data.always) {
    if (!inView({ start, end })) continue;
    const [from, to] = [xOf(Math.max(start, view[0])), xOf(Math.min(end, view[1]))];
    draw("rect", { class: "always", x: from, y: 0, width: Math.max(1, to - from), height: bottom });
  }
  const step = tickStep();
  for (let t = Math.ceil(view[0] / step) * step; t <= view[1]; t += step) {
    draw("line", { class: "tick", x1: xOf(t), x2: xOf(t), y1: bottom, y2: bottom + 5 });
    const isLast = xOf(t) + 4 * count(t).length > width;
    const x = isLast ? width : xOf(t);
    draw("text", { x, y: bottom + 18, "text-anchor": isLast ? "end" : "middle" }, count(t));
  }
  draw("text", { x: (LEFT + width - RIGHT) / 2, y: bottom + 35, "text-anchor": "middle" },
    "position in the text, tokens");
  lanes.forEach((stretches, lane) => {
    const y = (lane + 1) * laneHeight;
    draw("line", { class: "base", x1: LEFT, x2: width - RIGHT, y1: y, y2: y });
    draw("text", { class: "lane", x: LEFT - 8, y: y - 4, "text-anchor": "end" }, data.lanes[lane]);
    // Bars that would cover one another are one, as high as the highest.
    const bars = new Map();
    const seen = stretches.filter(inView);
    for (const stretch of stretches) stretch.bar = null;
    for (const stretch of seen) {
      const from = xOf(Math.max(stretch.start, view[0]));
      const size = Math.max(LEAST, xOf(Math.min(stretch.end, view[1])) - from);
      const x = Math.min(from, width - RIGHT - size);
      stretch.x = [x, x + size];
      stretch.key = size > LEAST ? x + " " + size : Math.round(x / LEAST);
      const bar = bars.get(stretch.key);
      if (!bar || bar.share < stretch.share) bars.set(stretch.key, { x, size, share: stretch.share });
    }
    for (const [key, { x, size, share }] of bars) {
      const height = Math.max(2, share * (laneHeight - 8));
      const opacity = 0.35 + 0.65 * share; // what is read seldom recedes
      bars.set(key, draw("rect", { class: "bar", x, width: size, y: y - height, height, opacity }));
    }
    for (const stretch of seen) stretch.bar = bars.get(stretch.key);
    const area = draw("rect", {
      class: "catch", x: LEFT, width: width - LEFT - RIGHT, y: y - laneHeight, height: laneHeight,
    });
    area.addEventListener("pointermove", (event) => point(seen, event));
    area.addEventListener("pointerdown", (event) => point(seen, event));
    area.addEventListener("dblclick", ({ clientX }) => {
      look(tokenAt(clientX - map.getBoundingClientRect().left), Math.round((view[1] - view[0]) / CLOSER));
    });
    area.addEventListener("pointerleave", () => light([]));
  });
}

/** The stretches at the pointer, the most frequent first. */
function point(stretches, event) {
  const box = map.getBoundingClientRect();
  const x = event.clientX - box.left;
  const distance = ({ x: [start, end] }) => Math.max(0, start - x, x - end);
  const nearest = Math.min(...stretches.map(distance));
  const here = nearest > 8 ? [] : stretches.filter((stretch) => distance(stretch) <= nearest + 1);
  here.sort((a, b) => b.steps - a.steps || a.start - b.start);
  light(here, event);
}

// Quotes.

/** The names of some lanes, or how many they are. */
function lanesOf(parts) {
  const lanes = [...new Set(parts.map(({ lane }) => lane))].sort((a, b) => a - b);
  if (lanes.length <= 4) return lanes.map((lane) => data.lanes[lane]).join("; ");
  const what = data.lanes[0].includes("head") ? " heads" : " layers";
  return lanes.length + " of " + data.lanes.length + what;
}

/** A stretch, or one of several layers. */
function quote(parent, stretch, parts = [stretch]) {
  const { start, end, of } = stretch;
  const where = add(parent, "p", undefined, "quiet");
  const steps = Math.max(...parts.map(({ steps }) => steps));
  const often = of === 1 ? "" : ", in " + (parts.length > 1 ? "up to " : "") + steps + " of " + of + " steps";
  add(where, "span", lanesOf(parts) + often + ", tokens " + count(start) + " to " + count(end));
  const place = placeOf(stretch);
  if (place !== "") add(where, "span", " (" + place + ")", "place");
  const text = textFrom(start, end, 1);
  if (text === "") return add(parent, "p", "its text is not in the trace", "quiet");
  const body = add(parent, "p");
  const bdi = add(body, "bdi");
  const before = (start > AROUND ? "…" : "") + textFrom(Math.max(0, start - AROUND), start, -1);
  add(bdi, "span", before, "around");
  add(bdi, "mark", text);
  add(bdi, "span", textFrom(end, end + AROUND, 1) + "…", "around");
}

let lit = [];
function light(stretches, event) {
  for (const { bar, item } of lit) {
    bar?.classList.remove("hot");
    item?.classList.remove("hot");
  }
  lit = stretches;
  for (const { bar, item } of lit) {
    bar?.classList.add("hot");
    item?.classList.add("hot");
  }
  tip.hidden = stretches.length === 0 || !event;
  if (tip.hidden) return;
  tip.replaceChildren();
  for (const stretch of stretches.slice(0, 2)) quote(tip, stretch);
  if (stretches.length > 2) add(tip, "p", (stretches.length - 2) + " more here", "quiet");
  const page = document.documentElement;
  const left = Math.min(event.clientX + 14, page.clientWidth - tip.offsetWidth - 12);
  const below = event.clientY + 18;
  const isLow = below + tip.offsetHeight > page.clientHeight && event.clientY > tip.offsetHeight + 10;
  tip.style.left = Math.max(8, left) + scrollX + "px";
  tip.style.top = (isLow ? event.clientY - tip.offsetHeight - 10 : below) + scrollY + "px";
}

/** What several layers read, once: stretches that share half of the shorter of them. */
function grouped(stretches) {
  const groups = [];
  for (const stretch of [...stretches].sort((a, b) => a.start - b.start || b.end - a.end)) {
    const last = groups.at(-1);
    const shared = last ? Math.min(last.end, stretch.end) - stretch.start : 0;
    if (shared * 2 >= Math.min(stretch.end - stretch.start, last?.end - last?.start)) {
      last.end = Math.max(last.end, stretch.end);
      last.parts.push(stretch);
    } else groups.push({ start: stretch.start, end: stretch.end, of: stretch.of, parts: [stretch] });
  }
  return groups;
}

function listQuotes(lanes) {
  const list = byId("quotes");
  list.replaceChildren();
  const groups = grouped(lanes.flat());
  const weight = ({ parts }) => parts.reduce((sum, { steps }) => sum + steps, 0);
  groups.sort((a, b) => weight(b) - weight(a) || a.start - b.start);
  for (const group of groups.slice(0, SHOWN)) {
    const item = add(list, "li");
    quote(item, group, group.parts);
    for (const stretch of group.parts) stretch.item = item;
    item.addEventListener("pointerenter", () => light(group.parts));
    item.addEventListener("pointerleave", () => light([]));
  }
  byId("rest").textContent = groups.length > SHOWN
    ? "and " + count(groups.length - SHOWN) + " more: point at the map"
    : groups.length === 0 ? "nothing between the first and the last tokens" : "";
}

// What is chosen.

const buttons = byId("tokens");
function show(button, lanes, title, isAll) {
  light([]);
  for (const other of buttons.querySelectorAll("button")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  byId("what").textContent = title;
  byId("scale").textContent = isAll
    ? "A bar's height is the share of the " + count(data.steps.length) +
      " steps (the question, then each token of the answer) that read there, up to all of them."
    : "Each bar is a stretch that was read in this step.";
  drawMap(lanes);
  listQuotes(lanes);
}

function choice(parent, text, className, title, lanes, isAll = false) {
  const button = add(parent, "button", text, className);
  button.type = "button";
  if (lanes === null) {
    button.disabled = true;
    button.title = title;
  } else button.addEventListener("click", () => show(button, lanes(), title, isAll));
  return button;
}

/** A token without the space before it, which the gap between the buttons is. */
const visible = (text) => {
  const signs = text.replaceAll("\n", "⏎").replaceAll("\t", "⇥");
  return signs.trim() === "" ? signs.replaceAll(" ", "␣") || "·" : signs.trim();
};
const part = (label) => {
  const span = add(buttons, "span", undefined, "part");
  if (label) add(span, "span", label + " ", "quiet");
  return span;
};
const all = choice(part(), "all steps", "", "What all steps read", everything, true);
data.steps.forEach(({ token }, step) => {
  if (token !== null) return;
  choice(part(), "the question", "", "What the question read", () => ofStep(step));
});
const answer = part("each token of the answer:");
answer.style.display = "inline";
data.written.forEach(([token, text, step]) => {
  choice(answer, visible(text), "word",
    step === null ? "the trace has no step for it" : "What the token “" + visible(text) + "” read",
    step === null ? null : () => ofStep(step)).classList.toggle("first", /^\s/.test(text));
});
show(all, everything(), "What all steps read", true);
addEventListener("resize", () => drawMap(current));
byId("whole").addEventListener("click", () => look(0, data.length));
`;
