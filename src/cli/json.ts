/**
 * Reports for programs.
 *
 * @module
 */

/** Indented JSON; what JSON has no number for (`Infinity` of full attention) becomes its name. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, nameInfinities, 2);
}

/** The same on one line. */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value, nameInfinities)}\n`;
}

/**
 * JSON for people to read and edit: what fits into a line stays on one, the rest is indented.
 *
 * @param width Characters of a line.
 */
export function toReadableJson(value: unknown, width = 98): string {
  const write = (value: unknown, indent: string, before: number): string => {
    const line = toSpacedLine(value);
    if (indent.length + before + line.length <= width) return line;
    const inner = `${indent}  `;
    if (Array.isArray(value)) {
      const items = value.map((item) => inner + write(item, inner, 0));
      return `[\n${items.join(",\n")}\n${indent}]`;
    }
    if (typeof value !== "object" || value === null) return line;
    const fields = Object.entries(value).filter(([, field]) => field !== undefined)
      .map(([key, field]) => {
        const name = `${JSON.stringify(key)}: `;
        return inner + name + write(field, inner, name.length);
      });
    return `{\n${fields.join(",\n")}\n${indent}}`;
  };
  return write(value, "", 0);
}

function toSpacedLine(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toSpacedLine).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const fields = Object.entries(value).filter(([, field]) => field !== undefined)
    .map(([key, field]) => `${JSON.stringify(key)}: ${toSpacedLine(field)}`);
  return fields.length === 0 ? "{}" : `{ ${fields.join(", ")} }`;
}

function nameInfinities(_: string, value: unknown): unknown {
  return value === Infinity ? "Infinity" : value;
}
