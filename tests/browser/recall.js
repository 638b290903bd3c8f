// Points at a bar of the recall page, clicks the answer's tokens, and tells the server what it then showed.

const post = async (path, body) =>
  await (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();

const frame = document.getElementById("page");

/** What can be seen. */
function facts() {
  const page = frame.contentDocument;
  const tip = page.getElementById("tip");
  return {
    title: page.querySelector("h1").textContent,
    what: page.getElementById("what").textContent,
    tip: tip.hidden ? null : tip.textContent,
    bars: page.querySelectorAll("#map .bar").length,
    hotBars: page.querySelectorAll("#map .bar.hot").length,
    quotes: [...page.querySelectorAll("#quotes mark")].map((mark) => mark.textContent),
    pressed: [...page.querySelectorAll("[aria-pressed=true]")].map((button) => button.textContent),
  };
}

/** Moves the pointer over the highest bar of a lane. */
function pointAt(lane) {
  const page = frame.contentDocument;
  const area = page.querySelectorAll("#map .catch")[lane];
  const { top, bottom } = area.getBoundingClientRect();
  const bars = [...page.querySelectorAll("#map .bar")].map((bar) => bar.getBoundingClientRect())
    .filter((box) => box.bottom <= bottom + 1 && box.top >= top - 1);
  const { left, width } = bars.reduce((a, b) => b.height > a.height ? b : a);
  area.dispatchEvent(
    new frame.contentWindow.PointerEvent("pointermove", {
      bubbles: true,
      clientX: left + width / 2,
      clientY: (top + bottom) / 2,
    }),
  );
  return area;
}

async function visit() {
  while (!frame.contentDocument?.querySelector("#map .catch")) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const page = frame.contentDocument;
  const first = facts();
  const area = pointAt(0);
  const pointed = facts();
  area.dispatchEvent(new frame.contentWindow.PointerEvent("pointerleave"));
  const left = facts();
  const words = [...page.querySelectorAll("#tokens button.word")];
  const clicked = words.map((button) => {
    button.click();
    return facts();
  });
  const again = pointAt(0);
  const pointedAgain = facts();
  const { left: x, width } = again.getBoundingClientRect();
  const ticks = () => [...page.querySelectorAll("#map text")].map((text) => text.textContent);
  // Where token 310 of 1007 is.
  const clientX = x + 310 / 1007 * width;
  again.dispatchEvent(new frame.contentWindow.MouseEvent("dblclick", { clientX }));
  const closer = { ...facts(), ticks: ticks(), back: !page.getElementById("whole").hidden };
  page.getElementById("whole").click();
  return {
    closer,
    back: { ...facts(), ticks: ticks() },
    first,
    pointed,
    left,
    clicked,
    pointedAgain,
    words: words.map((button) => button.textContent),
    ran: frame.contentWindow.ran ?? null,
    scripts: page.querySelectorAll("script").length,
    images: page.querySelectorAll("img, iframe, a, form").length,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map(({ name }) => name),
    isWide: page.documentElement.scrollWidth > page.documentElement.clientWidth,
  };
}

try {
  await post("/facts", await visit());
} catch (error) {
  await post("/facts", { error: String(error?.stack ?? error) });
}
