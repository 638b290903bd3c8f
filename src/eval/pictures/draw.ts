/**
 * Pictures of specifications: SVG by Vega-Lite and Vega, which need no document for it; PNG by resvg.
 *
 * These are big, so they are loaded here only, when something is to be drawn, and are no
 * dependencies of the library: who draws installs them.
 *
 * @module
 */

import { FONT } from "./theme.ts";

/** What a raster picture is made with. */
export interface PngParts {
  /** resvg's WebAssembly. */
  readonly wasm: Uint8Array<ArrayBuffer>;
  /** Files of the type that texts are set in, of all weights: TTF, OTF or WOFF2. */
  readonly fonts: readonly Uint8Array[];
}

/** Pixels of a PNG for each of the picture's own: sharp on today's screens and in print. */
const PIXELS = 2;

/**
 * Draws a Vega-Lite specification.
 *
 * @returns The text of an SVG file.
 * @throws {Error} If Vega or Vega-Lite is not installed.
 */
export async function drawSvg(specification: object): Promise<string> {
  const [{ compile }, vega] = await Promise.all([
    import("vega-lite").catch(absent("vega-lite")),
    import("vega").catch(absent("vega")),
  ]);
  const { Error: errorsOnly, logger, parse, View } = vega;
  // Without a document Vega takes all letters to be as wide as the widest.
  const { textMetrics } = vega as unknown as { readonly textMetrics: TextMetrics };
  textMetrics.width = (item, text) => textWidth(String(text ?? item.text), item.fontSize ?? 11);
  const { spec } = compile(specification as Parameters<typeof compile>[0], {
    logger: logger(errorsOnly),
  });
  const view = new View(parse(spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/** How Vega measures texts; its types do not tell of it. */
interface TextMetrics {
  width: (
    item: { readonly text?: unknown; readonly fontSize?: number },
    text?: unknown,
  ) => number;
}

/** Width of a text in pixels, nearly: in the type's ordinary weight, by kinds of letters. */
function textWidth(text: string, fontSize: number): number {
  let ems = 0;
  for (const letter of text) {
    if (/[ .,:;'|!ijlftrI()[\]]/.test(letter)) ems += 0.28;
    else if (/[mwMW%@]/.test(letter)) ems += 0.82;
    else if (/[a-z0-9]/.test(letter)) ems += 0.5;
    else if (/[\u1100-\uffff]/.test(letter)) ems += 1;
    else ems += 0.6;
  }
  return ems * fontSize;
}

let isReady: Promise<void> | null = null;

/**
 * Draws an SVG's pixels.
 *
 * @returns The bytes of a PNG file.
 * @throws {Error} If resvg is not installed.
 */
export async function drawPng(svg: string, { wasm, fonts }: PngParts): Promise<Uint8Array> {
  const { initWasm, Resvg } = await import("@resvg/resvg-wasm").catch(absent("@resvg/resvg-wasm"));
  // It may be told of its WebAssembly only once.
  await (isReady ??= initWasm(wasm));
  const image = new Resvg(svg, {
    fitTo: { mode: "zoom", value: PIXELS },
    background: "white",
    font: { fontBuffers: [...fonts], defaultFontFamily: FONT, sansSerifFamily: FONT },
  });
  const pixels = image.render();
  try {
    return pixels.asPng();
  } finally {
    pixels.free();
    image.free();
  }
}

/** Says what to install. */
export function absent(name: string): (cause: unknown) => never {
  return (cause) => {
    throw new Error(
      `Cannot draw: the package ${name} must be installed beside this one, and it is not; ` +
        `"npm install ${PACKAGES.join(" ")}" does it`,
      { cause },
    );
  };
}

/** What drawing needs. */
const PACKAGES = ["vega", "vega-lite", "@resvg/resvg-wasm", "@fontsource/source-sans-3"];
