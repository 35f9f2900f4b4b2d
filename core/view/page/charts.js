// All charts of a run, and what they share: smoothing, scale, and the stretch of steps that is looked at.

import { Chart } from "./chart.js";
import { $, make, recall, remember, say } from "./dom.js";

const RANGES = [["All", 1], ["Last half", 0.5], ["Last tenth", 0.1]];
const TIME = "time/", RATE = "time/images_per_second", VALIDATION = "validation/";
const KNOWN = new Set(["loss", "grad_norm", "images", "skipped"]);
const NOTHING = { steps: [], values: [], whole: true };

export class Charts {
  constructor(live) {
    this.live = live;
    this.charts = [];
    this.smoothing = recall("smoothing", 0.6);
    this.isLogarithmic = recall("logarithmic", false);
    this.share = recall("range", 1); // of the steps, the newest; or
    this.zoomed = null; // [first, last]
    this.close = new Map(); // curves of the zoomed stretch with all their points
    this.control();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Show the curves of a run; new metrics get charts.
  show(run) {
    this.run = run;
    const wanted = charts(run.curves);
    const told = JSON.stringify(wanted);
    if (told === this.told) return this.refresh();
    this.told = told;
    this.charts = wanted.map((one) => new Chart(one, this));
    const nothing = make("p", { class: "none" }, "No numbers yet. They come with the first report, if the run has the plugin MetricsFile.");
    const small = wanted.length - 1;
    $("charts").className = small < 5 && small % 3 ? "by-two" : "";
    $("charts").replaceChildren(...(wanted.length ? this.charts.map((chart) => chart.element) : [nothing]));
  }

  draw() {
    this.charts.forEach((chart) => chart.draw());
  }

  refresh() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.charts.forEach((chart) => chart.refresh()));
  }

  curve(name) {
    return this.close.get(name) ?? this.run.curves[name] ?? NOTHING;
  }

  // [first, last] of the steps that are shown, the same in every chart.
  extent() {
    if (this.zoomed) return this.zoomed;
    const curves = Object.values(this.run?.curves ?? {});
    const last = Math.max(1, ...curves.map((curve) => curve.steps.at(-1) ?? 0));
    const first = Math.min(last - 1, ...curves.map((curve) => curve.steps[0] ?? 0));
    return [last - (last - first) * this.share, last];
  }

  // Look at a stretch in all charts, or with null at all steps.
  async zoom(stretch) {
    this.zoomed = stretch;
    this.close = new Map();
    if (!stretch) this.share = 1;
    this.mark();
    this.refresh();
    if (!stretch) return;
    const thin = Object.entries(this.run.curves).filter(([, curve]) => !curve.whole).map(([name]) => name);
    const found = await Promise.all(thin.map(async (name) => [name, await this.live.closely(name, ...stretch)]));
    if (this.zoomed !== stretch) return;
    this.close = new Map(found.filter(([, curve]) => curve));
    this.refresh();
  }

  control() {
    const smoothing = $("smoothing"), logarithmic = $("logarithmic");
    smoothing.value = this.smoothing;
    logarithmic.checked = this.isLogarithmic;
    const tell = () => say(smoothing.parentElement.querySelector("output"), this.smoothing.toFixed(2));
    tell();
    smoothing.addEventListener("input", () => {
      remember("smoothing", this.smoothing = Number(smoothing.value));
      tell();
      this.refresh();
    });
    logarithmic.addEventListener("change", () => {
      remember("logarithmic", this.isLogarithmic = logarithmic.checked);
      this.draw();
    });
    const choices = RANGES.map(([title, share]) => make("button", { type: "button", "data-share": share, onclick: () => this.look(share) }, title));
    $("range").append(...choices);
    this.mark();
  }

  look(share) {
    this.zoomed = null;
    this.close = new Map();
    remember("range", this.share = share);
    this.mark();
    this.refresh();
  }

  mark() {
    for (const choice of $("range").children) {
      choice.setAttribute("aria-pressed", String(!this.zoomed && Number(choice.dataset.share) === this.share));
    }
  }
}

// What is drawn where. Metrics of plugins with a common first part share a chart.
function charts(curves) {
  const names = Object.keys(curves).sort();
  const under = (prefix, rest = {}) => names.filter((name) => name.startsWith(prefix)).map((name) => ({ name, label: name.slice(prefix.length), ...rest }));
  const found = [];
  const add = (id, title, lines, rest = {}) => { if (lines.length) found.push({ id, title, lines, ...rest }); };
  const one = (name, label) => (names.includes(name) ? [{ name, label, isSmoothed: true }] : []);
  const losses = under(VALIDATION, { hasDots: true }).map((line) => ({ ...line, label: line.label.replaceAll("_", " ") }));
  add("loss", "Loss", [...one("loss", "training"), ...losses], { isWide: true, hasLogarithm: true });
  add("rates", "Learning rate", under("lr/"));
  add("throughput", "Images a second", one(RATE, "while training"));
  add("norm", "Gradient norm", one("grad_norm", "before clipping"), { hasLogarithm: true });
  if (curves.skipped?.values.some((value) => value > 0)) add("skipped", "Skipped steps", [{ name: "skipped", label: "in a report" }]);
  const others = names.filter((name) => !KNOWN.has(name) && !["lr/", VALIDATION, TIME].some((prefix) => name.startsWith(prefix)));
  for (const [group, members] of grouped(others)) {
    add(`plugin-${group}`, group, members.map((name) => ({ name, label: name.slice(group.length + 1) || name, isSmoothed: true })));
  }
  return found;
}

const first = (name) => name.split("/", 1)[0];

function grouped(names) {
  const groups = new Map();
  for (const name of names) groups.set(first(name), [...(groups.get(first(name)) ?? []), name]);
  return groups;
}
