// What the run trains on.

import { $, make } from "./dom.js";
import { counted } from "./words.js";

export function showData({ data }) {
  if (!data) return $("trained").replaceChildren(make("p", { class: "none" }, "Nothing is recorded yet."));
  const sets = Object.entries(data.validation);
  const rows = [
    ["Pictures", data.items.toLocaleString("en")],
    ["Without a caption", data.without_caption.toLocaleString("en")],
    ["Set aside", data.set_aside.toLocaleString("en")],
    ...sets.map(([name, count]) => [`Validation: ${name.replaceAll("_", " ")}`, count.toLocaleString("en")]),
  ];
  $("trained").replaceChildren(
    make("dl", {}, ...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    make("h3", {}, "Buckets, in pixels"), bars(data.buckets), ...problems(data));
}

function bars(buckets) {
  const rows = Object.entries(buckets).sort(([, one], [, other]) => other - one), most = Math.max(...rows.map(([, count]) => count), 1);
  return make("div", { class: "bars" }, ...rows.map(([size, count]) => {
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.width = `${(100 * count) / most}%`;
    return make("div", {}, make("span", {}, size.replace("x", " × ")), make("span", { class: "bar" }, bar), make("span", { class: "number" }, count.toLocaleString("en")));
  }));
}

function problems(data) {
  if (!data.problems.length) return [];
  const rest = data.set_aside - data.problems.length;
  const lines = data.problems.map((problem) => make("li", {}, problem));
  if (rest > 0) lines.push(make("li", { class: "none" }, `and ${counted(rest, "other")}; the log has them`));
  return [make("details", {}, make("summary", {}, `${counted(data.set_aside, "file")} set aside`), make("ul", { class: "plain" }, ...lines))];
}
