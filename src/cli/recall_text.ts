/**
 * A recall map as text: a line of blocks for each layer over the text's length, and what it quotes.
 *
 * @module
 */

import { clip, formatCount, plural, printable } from "./format.ts";
import { mix, type Paint, plain } from "./paint.ts";
import { laneName, placeOf, type RecallLane, type RecallMap, textOf } from "./recall_trace.ts";

/** Eighths of a character's height. */
const BLOCKS = "▁▂▃▄▅▆▇█";

/** From seldom to always. */
const FREQUENCY_COLORS = ["#56b4e9", "#e69f00", "#d55e00"];

/** Stretches that are quoted of each layer. */
const QUOTED = 5;

/**
 * Draws a map.
 *
 * @param columns Characters of a line.
 */
export function drawRecall(map: RecallMap, columns: number, paint: Paint): string {
  const title = map.question === null ? "the text's continuation" : `"${printable(map.question)}"`;
  const names = map.lanes.map(laneName);
  const margin = Math.max(...names.map(({ length }) => length)) + 1;
  const width = Math.max(10, Math.min(100, columns - margin));
  const isColored = paint !== plain;
  return [
    `What was read for ${title}: ${plural(map.steps.length, "step")}, ` +
    `${plural(map.length, "token")} in all`,
    ...(map.error === null ? [] : [`The run failed: ${printable(map.error)}`]),
    "",
    ...(isColored
      ? [
        ...map.lanes.map((lane, i) => names[i]!.padEnd(margin) + strip(lane, map, width, paint)),
        " ".repeat(margin) + `0${`${formatCount(map.length)} tokens`.padStart(width - 1)}`,
        " ".repeat(margin) + "height: share of the steps that read there",
        "",
      ]
      : []),
    ...map.lanes.flatMap((lane) => [
      `${laneName(lane)} read most:`,
      ...lane.stretches.slice(0, QUOTED).map((stretch) => {
        const share = `${stretch.steps} of ${map.steps.length}`.padStart(12);
        const range = `${formatCount(stretch.start)} to ${formatCount(stretch.end)}`;
        const text = textOf(map, stretch) ?? "";
        const place = placeOf(map, stretch);
        const head = `${share}  tokens ${range}${place === null ? "" : ` (${printable(place)})`}`;
        const room = Math.max(24, columns - 14);
        return text === ""
          ? head
          : `${head}\n${" ".repeat(14)}${clip(printable(text).trim(), room)}`;
      }),
    ]),
  ].join("\n") + "\n";
}

/** A character for every part of the text: how many of the steps read there. */
function strip(
  lane: RecallLane,
  { length, steps }: RecallMap,
  width: number,
  paint: Paint,
): string {
  const most = new Array<number>(width).fill(0);
  for (const { start, end, steps } of lane.stretches) {
    const first = Math.floor(start / length * width);
    for (let i = first; i <= Math.min(width - 1, Math.floor((end - 1) / length * width)); i++) {
      most[i] = Math.max(most[i]!, steps);
    }
  }
  return most.map((count) => {
    if (count === 0) return paint("·", { ink: "#8c959f" });
    const share = count / steps.length;
    const block = BLOCKS[Math.min(BLOCKS.length - 1, Math.floor(share * BLOCKS.length))]!;
    return paint(block, { ink: mix(FREQUENCY_COLORS, share) });
  }).join("");
}
