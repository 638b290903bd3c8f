/**
 * Numbers for people.
 *
 * @module
 */

/** `1,234,567`; the same in every locale. */
export function formatCount(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Three digits and a decimal unit: `512 bytes`, `5.25 MB`, `1.08 GB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  let value = bytes;
  let unit = "bytes";
  for (unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (value < 999.5) break;
  }
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${unit}`;
}

/** `0.21 s`, `41.2 s`, `3 min 05 s`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${formatCount(Math.floor(whole / 60))} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** `12,345 tokens/s`, with a decimal below 10. */
export function formatRate(tokens: number, seconds: number): string {
  const rate = seconds > 0 ? tokens / seconds : 0;
  return `${rate < 10 ? rate.toFixed(1) : formatCount(rate)} tokens/s`;
}

/** `one`, `two tokens`: a count with its noun. */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** At most `width` characters; a cut is marked by an ellipsis. */
export function clip(text: string, width: number): string {
  const characters = [...text];
  if (characters.length <= width) return text;
  return width < 1 ? "" : characters.slice(0, width - 1).join("") + "…";
}

/** On one line, with nothing that moves a terminal's cursor or changes its colours. */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/\s+/g, " ").replace(/[\u0000-\u001f\u007f-\u009f]/g, "·");
}

/** Words in lines of at most `width` characters, each line after `indent`. */
export function wrap(text: string, width: number, indent = ""): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      lines.push(indent + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(indent + line);
  return lines.join("\n");
}
