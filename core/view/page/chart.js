// One chart: lines over steps, drawn by uPlot, with a legend that tells the values under the pointer, or else the newest.

import { colour, make, say } from "./dom.js";
import { joined, lastBefore, smoothed } from "./series.js";
import { figure, short } from "./words.js";

const HEIGHT = { wide: 300, plain: 170 };
const WHOLE = [1, 2, 5].flatMap((digit) => [...Array(9).keys()].map((power) => digit * 10 ** power)).sort((one, other) => one - other); // steps between two marks
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

export class Chart {
  // `lines` are {name, label, isSmoothed, hasDots}; `view` is what all charts share: curves, smoothing, extent and zoom.
  constructor({ id, title, lines, isWide = false, hasLogarithm = false }, view) {
    Object.assign(this, { id, title, lines, isWide, hasLogarithm, view });
    this.hidden = new Set();
    this.keys = lines.map((line, place) => this.key(line, place));
    this.body = make("div", { class: "canvas", role: "img" });
    this.element = make("figure", { class: isWide ? "chart wide" : "chart", "data-chart": id },
      make("figcaption", {}, make("span", { class: "chart-title" }, title), make("span", { class: "keys" }, ...this.keys)), this.body);
    new ResizeObserver(() => this.fit()).observe(this.body);
  }

  key(line, place) {
    const mark = make("i", { class: `mark c${place % 6}`, "aria-hidden": "true" });
    const key = make("button", { type: "button", class: "key", "aria-pressed": "true", title: "Show or hide" }, mark, `${line.label} `, make("b"));
    key.addEventListener("click", () => {
      this.hidden.has(place) ? this.hidden.delete(place) : this.hidden.add(place);
      key.setAttribute("aria-pressed", String(!this.hidden.has(place)));
      this.draw();
    });
    return key;
  }

  // Draw anew, as with other colours or another scale.
  draw() {
    this.plot?.destroy();
    const width = this.body.clientWidth;
    this.plot = width ? new uPlot(this.options(width), this.data(), this.body) : null;
    this.tell();
  }

  // Show what the curves are now.
  refresh() {
    if (!this.plot) return this.draw();
    this.plot.setData(this.data());
    this.tell();
  }

  fit() {
    const width = this.body.clientWidth;
    if (!this.plot) this.draw();
    else if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.plot.height });
  }

  // Each line's points, and behind a smoothed one those that it was made of.
  rows() {
    return this.lines.flatMap((line, place) => {
      const curve = this.view.curve(line.name);
      const isSmooth = line.isSmoothed && this.view.smoothing > 0;
      const smooth = { steps: curve.steps, values: isSmooth ? smoothed(curve, this.view.smoothing) : curve.values };
      const row = { line, place, curve: smooth, isRaw: false };
      return line.isSmoothed ? [{ line, place, curve: isSmooth ? curve : { steps: [], values: [] }, isRaw: true }, row] : [row];
    });
  }

  get isLogarithmic() {
    return this.hasLogarithm && this.view.isLogarithmic;
  }

  data() {
    const [steps, ...rows] = joined(this.rows().map((row) => row.curve));
    return [steps, ...(this.isLogarithmic ? rows.map((row) => row.map((value) => (value > 0 ? value : null))) : rows)];
  }

  options(width) {
    const quiet = colour("quiet"), grid = { stroke: colour("line"), width: 1 };
    const axis = { stroke: quiet, font: FONT, grid, ticks: { show: false }, values: (_, splits) => splits.map(short) };
    return {
      width, height: this.isWide ? HEIGHT.wide : HEIGHT.plain, padding: [10, 16, 0, 0], legend: { show: false },
      cursor: {
        y: false, points: { size: 7 }, drag: { x: true, y: false, setScale: false, dist: 4 },
        bind: { dblclick: () => () => { this.view.zoom(null); return null; } },
        sync: { key: "run", scales: ["x", null], filters: { pub: (kind) => kind === "mousemove" || kind === "mouseleave" } },
      },
      scales: { x: { time: false, range: () => this.view.extent() }, y: this.isLogarithmic ? { distr: 3, range: around } : {} },
      axes: [
        { ...axis, grid: { show: false }, size: 28, gap: 6, space: 60, incrs: WHOLE },
        { ...axis, ...(this.isLogarithmic ? LOGARITHM : {}), size: (_, values) => 14 + 7 * Math.max(3, ...(values ?? []).map((value) => value.length)), gap: 6, space: 36 },
      ],
      series: [{}, ...this.rows().map((row) => this.stroke(row))],
      hooks: { setCursor: [() => this.tell()], setSelect: [(plot) => this.select(plot)] },
    };
  }

  stroke({ line, place, isRaw }) {
    const stroke = colour(`c${place % 6}`);
    const faint = { stroke, width: 1, alpha: 0.38, points: { show: false } };
    const bold = { stroke, width: 2, points: { show: line.hasDots || isLone, size: 6, fill: stroke, stroke } };
    return { ...(isRaw ? faint : bold), label: line.label, spanGaps: true, show: !this.hidden.has(place) };
  }

  select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    this.view.zoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  }

  // The values in the legend.
  tell() {
    if (!this.plot) return;
    const [steps, ...rows] = this.plot.data, place = this.plot.cursor.idx ?? steps.length - 1;
    const shown = this.rows();
    shown.forEach(({ isRaw, place: number }, index) => {
      if (!isRaw) say(this.keys[number].querySelector("b"), figure(lastBefore(rows[index], place)));
    });
    const told = shown.flatMap(({ line, isRaw }, index) => (isRaw ? [] : [`${line.label} ${figure(lastBefore(rows[index], steps.length - 1))}`]));
    this.body.setAttribute("aria-label", `${this.title} up to step ${steps.at(-1) ?? 0}: ${told.join(", ")}`);
  }
}

// Whether a row has a single value, which no line shows.
function isLone(plot, index) {
  let count = 0;
  for (const value of plot.data[index]) {
    if (value !== null) count += 1;
    if (count > 1) return false;
  }
  return count === 1;
}

// What a logarithmic scale covers: no more than a little around what is shown.
const around = (_, least, most) => (least > 0 ? [least / 1.1, most * 1.1] : [0.1, 1]);

// Its marks: of each power of ten all digits, or where that gives too few, equal parts.
function marks(_, __, least, most) {
  const powers = [...Array(Math.ceil(Math.log10(most)) - Math.floor(Math.log10(least)) + 1).keys()].map((place) => place + Math.floor(Math.log10(least)));
  const all = powers.flatMap((power) => [1, 2, 3, 4, 5, 6, 7, 8, 9].map((digit) => digit * 10 ** power)).filter((mark) => mark >= least && mark <= most);
  return all.length > 2 ? all : [0, 1, 2, 3, 4].map((place) => Number((least + (place * (most - least)) / 4).toPrecision(3)));
}

// Which of them get a number.
function numbers(_, splits) {
  const isWanted = (value) => splits.length < 9 || ["1", "2", "5"].includes(value.toExponential(0)[0]);
  return splits.map((split) => (isWanted(split) ? short(split) : ""));
}

const LOGARITHM = { splits: marks, filter: (_, splits) => splits, values: numbers };
