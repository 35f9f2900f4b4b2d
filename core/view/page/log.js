// The run's log, from a level on and with words in it; it follows the newest line until somebody scrolls up.

import { $, make, recall, remember } from "./dom.js";
import { clock } from "./words.js";

const LEVELS = ["debug", "info", "warning", "error"];
const SHOWN = 1000;
const NEAR = 24; // pixels from the end that count as at the end

export class Log {
  constructor() {
    this.lines = [];
    this.level = recall("level", "info");
    this.shown = 0; // number of the newest line that is on the page
    $("level").append(...LEVELS.map((level) => make("option", { value: level }, level)));
    $("level").value = this.level;
    $("level").addEventListener("change", () => {
      remember("level", this.level = $("level").value);
      this.draw();
    });
    $("find").addEventListener("input", () => this.draw());
    $("newest").addEventListener("click", () => this.follow());
    $("lines").addEventListener("scroll", () => { $("newest").hidden = this.isAtEnd(); });
  }

  show(run) {
    const isOther = run.log.length && run.log.at(-1).number < this.shown;
    this.lines = run.log;
    if (isOther || !this.shown) this.draw();
    else this.append();
  }

  draw() {
    this.shown = 0;
    $("lines").replaceChildren();
    this.append();
    this.follow();
  }

  append() {
    const wasAtEnd = this.isAtEnd(), list = $("lines");
    const fresh = this.lines.filter((line) => line.number > this.shown && this.isWanted(line)).slice(-SHOWN);
    this.shown = this.lines.at(-1)?.number ?? 0;
    list.append(...fresh.map(element));
    while (list.childElementCount > SHOWN) list.firstElementChild.remove();
    if (wasAtEnd) this.follow();
    $("newest").hidden = this.isAtEnd();
  }

  isWanted(line) {
    const level = line.level === "critical" ? "error" : line.level;
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean), text = `${line.text} ${line.logger} ${line.level}`.toLowerCase();
    return LEVELS.indexOf(level) >= LEVELS.indexOf(this.level) && words.every((word) => text.includes(word));
  }

  isAtEnd() {
    const list = $("lines");
    return list.scrollHeight - list.scrollTop - list.clientHeight < NEAR;
  }

  follow() {
    $("lines").scrollTop = $("lines").scrollHeight;
  }
}

function element(line) {
  const text = make("span", { class: line.text.includes("\n") ? "text typed" : "text" }, line.text);
  if (line.detail) text.append(make("details", {}, make("summary", {}, "traceback"), make("pre", {}, line.detail)));
  return make("li", { class: line.level, title: line.logger }, make("time", { datetime: line.time }, clock(line.time)), make("span", { class: "level" }, line.level), text);
}
