"""How the pages look."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #22211f; --quiet: #74706a; --line: #e7e3dc;
  --accent: #2f6f6a; --wash: #e4efed; --gone: #a5483c; --gone-wash: #f8e7e3; --moved-wash: #f6edcf;
  --tone0: #2f6f6a; --tone1: #c2702c; --tone2: #4a6fb0; --tone3: #8b5a9c; --tone4: #a08a1f; --tone5: #7d7a74;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #161615; --card: #1e1e1c; --ink: #e8e5df; --quiet: #9c978e; --line: #33322e;
    --accent: #7fc3bb; --wash: #21393a; --gone: #e39a8d; --gone-wash: #43251f; --moved-wash: #403714;
    --tone0: #7fc3bb; --tone1: #e8a263; --tone2: #8fb0e8; --tone3: #c79bd8; --tone4: #d5c15c; --tone5: #a8a49c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 66rem; padding: 3rem 1.5rem 6rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: break-word;
}
header { margin-bottom: 3rem; }
h1 { font-size: 1.9rem; font-weight: 600; letter-spacing: -0.01em; line-height: 1.2; margin: 0 0 0.4rem; }
header p { color: var(--quiet); margin: 0; }
h2, dt, th, .label {
  font-weight: 600; font-size: 0.95rem; font-variant-caps: all-small-caps; letter-spacing: 0.07em; color: var(--quiet);
}
h2 { font-size: 1.15rem; margin: 3.5rem 0 1rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
section:first-child h2 { border-top: 0; padding-top: 0; margin-top: 0; }
h3 { font-size: 0.95rem; font-weight: 600; margin: 1.75rem 0 0.6rem; }
p { margin: 0.75rem 0; max-width: 44rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 1.5rem 2rem; margin: 0; }
dl + p { margin-top: 1.5rem; }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; min-width: 50%; font-variant-numeric: tabular-nums; }
th { text-align: left; padding: 0 1.5rem 0.35rem 0; white-space: nowrap; vertical-align: bottom; }
td { padding: 0.4rem 1.5rem 0.4rem 0; border-top: 1px solid var(--line); vertical-align: top; unicode-bidi: isolate; }
td:not(.number) { min-width: 6rem; max-width: 26rem; overflow-wrap: anywhere; }
.whole th, .whole td { padding-right: 1rem; }
.whole td { min-width: 0; max-width: none; white-space: nowrap; font-size: 0.9rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.none { color: var(--quiet); }
.bars { display: grid; gap: 0.3rem; max-width: 34rem; }
.bars > div { display: grid; grid-template-columns: 4.5rem 1fr 4rem; gap: 1rem; align-items: center; }
.bars span:first-child { text-align: right; color: var(--quiet); font-variant-numeric: tabular-nums; }
.bar i { display: block; height: 0.7rem; background: var(--accent); border-radius: 2px; }
.bars.shares { max-width: 44rem; }
.bars.shares > div { grid-template-columns: minmax(0, 9rem) 1fr 9.5rem; }
.bars.shares span:first-child { overflow: hidden; text-overflow: ellipsis; }
.lines { margin: 0.5rem 0; padding: 0; list-style: none; font-size: 0.92rem; }
.lines li { padding: 0.2rem 0; overflow-wrap: anywhere; unicode-bidi: isolate; }
details { margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
.gallery { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: flex-start; }
img { display: block; border-radius: 4px; }
.gallery img { max-width: 100%; height: auto; outline: 1px solid var(--line); }
.sharp { image-rendering: pixelated; }
pre {
  margin: 0.75rem 0; padding: 0.9rem 1.1rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 0.86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; unicode-bidi: isolate;
}
.tone0 { --tone: var(--tone0); } .tone1 { --tone: var(--tone1); } .tone2 { --tone: var(--tone2); }
.tone3 { --tone: var(--tone3); } .tone4 { --tone: var(--tone4); } .tone5 { --tone: var(--tone5); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 2.25rem 2.5rem; }
.chart { min-width: 0; }
.chart figcaption {
  display: flex; flex-wrap: wrap; gap: 0 1rem; margin-bottom: 0.6rem; font-size: 0.88rem; white-space: normal;
}
.chart .key i {
  display: inline-block; width: 0.75rem; height: 0.2rem; margin-right: 0.4rem; vertical-align: middle;
  background: var(--tone); border-radius: 1px;
}
.chart .note { color: var(--quiet); font-variant-numeric: tabular-nums; }
.plot { position: relative; height: 10rem; margin: 0 0.75rem 1.6rem 3.4rem; }
.wide { grid-column: 1 / -1; }
.wide .plot { height: 17rem; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot path { fill: none; vector-effect: non-scaling-stroke; stroke-linecap: round; stroke-linejoin: round; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .line { stroke: var(--tone); stroke-width: 1.75; }
.plot .thin { stroke-width: 1; opacity: 0.55; }
.plot .faint { stroke-width: 1; opacity: 0.3; }
.plot .dot { stroke: var(--tone); stroke-width: 6.5; }
.plot .area { fill: var(--tone); stroke: none; opacity: 0.75; }
.plot span {
  position: absolute; color: var(--quiet); font-size: 0.75rem; line-height: 1; white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.plot .y { right: calc(100% + 0.55rem); transform: translateY(-50%); }
.plot .x { top: calc(100% + 0.5rem); transform: translateX(-50%); }
.strip {
  display: grid; grid-template-columns: minmax(6rem, 11rem) repeat(var(--columns), minmax(0, 7.5rem)); gap: 0.6rem;
  align-items: start;
}
.strip .head:first-of-type { grid-column-start: 2; }
.strip .head {
  position: sticky; top: 0; padding: 0.35rem 0; background: var(--page); color: var(--quiet); font-size: 0.85rem;
  font-variant-numeric: tabular-nums;
}
.strip .row { grid-column-start: 1; padding-right: 0.75rem; font-size: 0.92rem; overflow-wrap: anywhere; unicode-bidi: isolate; }
.strip img { width: 100%; height: auto; outline: 1px solid var(--line); }

article {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.75rem; margin: 0 0 2rem;
}
article h2 {
  all: unset; display: block; font-size: 1.05rem; font-weight: 600; overflow-wrap: anywhere; unicode-bidi: isolate;
}
article .place { color: var(--quiet); font-size: 0.92rem; margin: 0.15rem 0 1.5rem; max-width: none; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; margin-bottom: 1.75rem; }
figure { margin: 0; }
.name { font-size: 0.88rem; color: var(--quiet); overflow-wrap: anywhere; }
figcaption { line-height: 1.5rem; margin-bottom: 0.35rem; white-space: nowrap; }
figure small { display: block; width: 0; min-width: 100%; margin-top: 0.45rem; color: var(--quiet); font-size: 0.82rem; line-height: 1.35; }
.frame { position: relative; overflow: hidden; border-radius: 4px; line-height: 0; outline: 1px solid var(--line); }
.frame img { border-radius: 0; }
.crop { position: absolute; box-shadow: 0 0 0 100rem rgb(0 0 0 / 0.5), inset 0 0 0 2px #fff; }
.same {
  display: grid; place-items: center; border: 1px dashed var(--line); border-radius: 4px; color: var(--quiet);
  font-size: 0.88rem;
}
.words { display: grid; grid-template-columns: 8rem 1fr; gap: 0.55rem 1.5rem; }
.words > .name { padding-top: 0.08rem; }
.caption { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.quiet { color: var(--quiet); }
ins { text-decoration: none; background: var(--wash); border-radius: 3px; padding: 0 0.1em; }
mark { color: inherit; background: var(--moved-wash); border-radius: 3px; padding: 0 0.1em; }
del { color: var(--gone); background: var(--gone-wash); border-radius: 3px; padding: 0 0.1em; }
.error { color: var(--gone); }
@media (max-width: 40rem) {
  body { padding: 2rem 1rem 4rem; }
  article { padding: 1.15rem; }
  td:not(.number) { min-width: 8rem; }
  .words { grid-template-columns: 1fr; gap: 0.15rem; }
  .words > .caption { margin-bottom: 0.7rem; }
  .bars.shares { gap: 0.6rem; }
  .bars.shares > div { grid-template-columns: 1fr auto; gap: 0.15rem 0.6rem; }
  .bars.shares span:first-child { text-align: left; }
  .bars.shares .bar { grid-row: 2; grid-column: 1 / -1; }
  .strip { grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 0.3rem; }
  .strip .head:first-of-type { grid-column-start: 1; }
  .strip .row { grid-column: 1 / -1; margin-top: 0.5rem; }
  .figures { gap: 1rem; }
  figure { zoom: 0.8; }
}
"""
