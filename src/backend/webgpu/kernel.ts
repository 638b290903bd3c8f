/**
 * A kernel as data: its parameters, its buffers and its code in WGSL; and the whole shader that is made of them.
 *
 * @module
 */

import { HALVES } from "./shaders/halves.ts";

/** How a kernel uses a buffer, and as what: `["read", "array<f32>"]`. */
export type BufferUse = readonly [access: "read" | "read_write", type: string];

/** A kernel. Parameters are read as `p.name`, buffers by their names. */
export interface Kernel<P extends string = string, B extends string = string> {
  readonly name: string;
  readonly params: Readonly<Record<P, "u32" | "f32">>;
  readonly buffers: Readonly<Record<B, BufferUse>>;
  /** Declarations, and `fn main` with its workgroup's size. */
  readonly code: string;
}

/** Keeps the names of parameters and buffers as types. */
export function defineKernel<P extends string, B extends string>(
  kernel: Kernel<P, B>,
): Kernel<P, B> {
  return kernel;
}

/** What differs between devices in the code of kernels. */
export interface Dialect {
  /** Whether `unpack2x16float` is exact for subnormal numbers too. */
  readonly exactHalves: boolean;
}

/**
 * The shader's text. The parameters are binding 0, the buffers follow in order.
 *
 * @param aliases Buffers that are the same as an earlier one: they have no binding of their own, because
 * a buffer that is written must be bound once only. `aliases.x === "out"` says that x is out.
 */
export function shaderOf(
  { params, buffers, code }: Kernel,
  aliases: Readonly<Record<string, string>>,
  dialect: Dialect,
): string {
  const fields = Object.entries(params).map(([name, type]) => `${name}: ${type},`);
  const bindings = Object.entries(buffers)
    .filter(([name]) => !(name in aliases))
    .map(([name, [access, type]], i) =>
      `@group(0) @binding(${i + 1}) var<storage, ${access}> ${name}: ${type};`
    );
  const names = Object.keys(aliases);
  const own = names.length === 0
    ? code
    : code.replace(new RegExp(`(?<![\\w.])(${names.join("|")})(?=\\[)`, "g"), (name) =>
      aliases[name]!);
  return [
    `struct Params { ${fields.join(" ")} }`,
    "@group(0) @binding(0) var<uniform> p: Params;",
    ...bindings,
    HALVES[dialect.exactHalves ? "native" : "integer"],
    own,
  ].join("\n");
}

/** Code with a line for each of so many. */
export function repeat(count: number, line: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => line(i)).join("\n");
}
