/**
 * How the recall page looks, in light and in dark.
 *
 * @module
 */

/** CSS. */
export const STYLE = String.raw`
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f6f8fa; --ink: #1f2328; --quiet: #59636e; --line: #d1d9e0;
  --bar: #0072b2; --hot: #c04c00; --mark: #fff1b8; --always: #e4e7eb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0d1117; --raised: #161b22; --ink: #e6edf3; --quiet: #9198a1; --line: #3d444d;
    --bar: #56b4e9; --hot: #ffa657; --mark: #5c4813; --always: #262c36;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 20px 16px 48px; max-width: 1000px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 22px; line-height: 1.3; margin: 0 0 4px; unicode-bidi: isolate; }
h2 { font-size: 16px; margin: 26px 0 6px; }
p { margin: 0 0 6px; }
.quiet { color: var(--quiet); font-size: 13px; }
.failed { color: var(--hot); font-weight: 600; }
bdi, q, blockquote, .place { unicode-bidi: isolate; overflow-wrap: anywhere; }

#tokens { line-height: 2.1; }
#tokens button {
  font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line);
  border-radius: 5px; padding: 1px 4px; margin: 0 1px 0 0; cursor: pointer; white-space: pre-wrap;
  overflow-wrap: anywhere; max-width: 100%;
}
#tokens button.word { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: 14px; }
#tokens button.first { margin-left: 7px; }
#tokens button:hover:enabled, #tokens button:focus-visible { border-color: var(--hot); }
#tokens button[aria-pressed="true"] { background: var(--hot); border-color: var(--hot); color: var(--ground); }
#tokens button:disabled { opacity: 0.55; cursor: default; }
#tokens .part { display: inline-block; margin-right: 10px; }

#whole {
  font: inherit; color: var(--ink); background: var(--raised); border: 1px solid var(--line);
  border-radius: 5px; padding: 0 6px; cursor: pointer;
}

#map { width: 100%; min-width: 320px; display: block; touch-action: pan-y; }
#map text { fill: var(--quiet); font-size: 12px; font-family: inherit; }
#map .lane { fill: var(--ink); }
#map .base, #map .tick { stroke: var(--line); stroke-width: 1; }
#map .always { fill: var(--always); }
#map .bar { fill: var(--bar); }
#map .bar.hot { fill: var(--hot); }
#map .catch { fill: transparent; cursor: crosshair; }
#map { user-select: none; -webkit-user-select: none; }

#tip {
  position: absolute; z-index: 2; max-width: min(460px, calc(100vw - 24px)); padding: 8px 10px;
  background: var(--ground); border: 1px solid var(--line); border-radius: 6px;
  box-shadow: 0 4px 16px rgb(0 0 0 / 0.25); font-size: 14px; pointer-events: none;
}
#tip[hidden] { display: none; }
#tip p + p { margin-top: 8px; }

#quotes { list-style: none; margin: 0; padding: 0; }
#quotes li { border-top: 1px solid var(--line); padding: 8px 6px; }
#quotes li.hot { background: var(--raised); box-shadow: inset 3px 0 0 var(--hot); }
.around { color: var(--quiet); }
mark { background: var(--mark); color: inherit; border-radius: 2px; }
`;
