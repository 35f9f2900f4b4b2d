"""How the pages look."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #22211f; --quiet: #74706a; --line: #e7e3dc;
  --accent: #2f6f6a; --wash: #e4efed; --gone: #a5483c; --gone-wash: #f8e7e3; --moved-wash: #f6edcf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #161615; --card: #1e1e1c; --ink: #e8e5df; --quiet: #9c978e; --line: #33322e;
    --accent: #7fc3bb; --wash: #21393a; --gone: #e39a8d; --gone-wash: #43251f; --moved-wash: #403714;
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
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.none { color: var(--quiet); }
.bars { display: grid; gap: 0.3rem; max-width: 34rem; }
.bars > div { display: grid; grid-template-columns: 4.5rem 1fr 4rem; gap: 1rem; align-items: center; }
.bars span:first-child { text-align: right; color: var(--quiet); font-variant-numeric: tabular-nums; }
.bar i { display: block; height: 0.7rem; background: var(--accent); border-radius: 2px; }
.lines { margin: 0.5rem 0; padding: 0; list-style: none; font-size: 0.92rem; }
.lines li { padding: 0.2rem 0; overflow-wrap: anywhere; unicode-bidi: isolate; }
details { margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
.gallery { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: flex-start; }
img { display: block; border-radius: 4px; }
.gallery img { max-width: 100%; height: auto; outline: 1px solid var(--line); }
.sharp { image-rendering: pixelated; }

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
  .figures { gap: 1rem; }
  figure { zoom: 0.8; }
}
"""
