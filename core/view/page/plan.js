// The plan: which plugin handles what, in order, and what that has cost; and where the session's time went.

import { $, make, table } from "./dom.js";
import { counted, percent, taken } from "./words.js";

const WORKING = [["steps", "steps"], ["data", "data"], ["device", "device"], ["plugins", "plugins"], ["lanes_blocked", "lanes blocked"]];
const REPORTS = 12; // whose mean is the present
const ORDER = ["steps", "previews", "validation", "checkpoints", "plugins", "data", "device", "lanes blocked", "caching", "start-up", "exports", "profile", "other"];

// A stacked bar with its legend: of the whole session when it is over, else of the newest reports.
export function showShares(run) {
  const [said, shares] = sharesOf(run);
  const shown = shares.filter(([, share]) => share >= 0.001);
  const place = (name) => Math.max(ORDER.indexOf(name), 0);
  shown.sort(([one], [other]) => place(one) - place(other));
  const words = shown.map(([name, share]) => `${name} ${percent(share)}`).join(", ");
  const bar = make("div", { class: "stack", role: "img", "aria-label": words }, ...shown.map(([name, share]) => {
    const part = make("i", { class: `t${place(name)}`, title: `${name} ${percent(share)}` });
    part.style.flexGrow = share;
    return part;
  }));
  const keys = shown.map(([name, share]) => make("li", {}, make("i", { class: `mark t${place(name)}`, "aria-hidden": "true" }), `${name} `, make("b", {}, percent(share))));
  $("shares").replaceChildren(...(shown.length ? [bar, make("ul", { class: "keys" }, ...keys), make("p", { class: "none" }, said)] : [make("p", { class: "none" }, "Nothing is known yet.")]));
}

function sharesOf({ session, curves, status }) {
  const seconds = Object.entries(session?.seconds ?? {}), whole = seconds.reduce((sum, [, spent]) => sum + spent, 0);
  if (whole && status.state !== "running") return ["Of the wall time of the last session.", seconds.map(([name, spent]) => [name, spent / whole])];
  const shares = WORKING.map(([name, word]) => {
    const newest = (curves[`time/${name}`]?.values ?? []).slice(-REPORTS);
    return [word, newest.length ? newest.reduce((sum, share) => sum + share, 0) / newest.length : 0];
  });
  const known = shares.reduce((sum, [, share]) => sum + share, 0);
  if (known) shares.push(["other", Math.max(1 - known, 0)]);
  return ["Of the newest reports; previews, validation and checkpoints are under other.", shares];
}

export function showPlan(run) {
  const { session, plan, now } = run;
  if (!plan?.signals.length) return $("plan").replaceChildren(make("p", { class: "none" }, "No plan is recorded."));
  const times = session?.times.length ? session.times : now?.times ?? [];
  const open = $("plan").querySelector("details")?.open ?? false, places = scrolled();
  const order = make("details", { open }, make("summary", {}, "Every handler, in the order of the run"), handlers(plan, times));
  $("plan").replaceChildren(plugins(run, times), ...lag(now), order);
  scrolled().forEach((_, place) => { $("plan").getElementsByClassName("scroll")[place].scrollLeft = places[place] ?? 0; });
}

// How far tables are scrolled, which are made anew when times change.
const scrolled = () => [...$("plan").getElementsByClassName("scroll")].map((frame) => frame.scrollLeft);

function plugins({ session, plan, counts }, times) {
  const rows = (session?.plugins ?? []).map((plugin) => {
    const own = times.filter((time) => time.plugin === plugin.name), here = own.filter((time) => time.where === "training");
    const handled = plan.signals.flatMap((signal) => signal.handlers).filter((handler) => handler.plugin === plugin.name);
    return { ...plugin, handlers: handled.length, calls: sum(own, "calls"), isHere: here.length > 0, seconds: sum(here, "seconds"), beside: sum(own, "seconds") - sum(here, "seconds"), told: counts[plugin.name] ?? {} };
  });
  const whole = sum(rows, "seconds");
  return table([
    ["Plugin", (row) => make("span", { title: row.use }, row.name, row.name === row.use.split(".").at(-1) ? "" : make("small", {}, row.use.split(".").at(-1)))],
    ["In training", (row) => (row.isHere ? taken(row.seconds) : "–"), true],
    ["Share", (row) => (row.isHere ? share(row.seconds / whole) : "–"), true],
    ["In workers", (row) => (row.beside ? taken(row.beside) : "–"), true],
    ["Calls", (row) => row.calls.toLocaleString("en"), true],
    ["Warnings", (row) => trouble(row.told.warning, "warned"), true],
    ["Errors", (row) => trouble((row.told.error ?? 0) + (row.told.critical ?? 0), "wrong"), true],
    ["Handlers", (row) => String(row.handlers), true],
  ], rows, "Plugins");
}

function share(part) {
  const bar = make("i", { "aria-hidden": "true" });
  bar.style.width = `${5 * part}rem`;
  return make("span", { class: "share" }, bar, percent(part));
}

const trouble = (count, kind) => (count ? make("span", { class: kind }, String(count)) : "–");

function handlers(plan, times) {
  const cost = new Map(times.map((time) => [[time.plugin, time.signal, time.handler].join("\n"), time]));
  const rows = plan.signals.flatMap((signal) => signal.handlers.map((handler, place) =>
    ({ ...handler, signal, place, time: cost.get([handler.plugin, signal.name, handler.handler].join("\n")) })));
  return table([
    ["Signal", (row) => (row.place ? "" : make("code", {}, row.signal.name))],
    ["Handler", (row) => make("span", { title: row.source }, row.handler, ...notes(row).map((note) => make("small", {}, note)))],
    ["Plugin", (row) => row.plugin],
    ["Where", (row) => (row.place ? "" : row.signal.where)],
    ["Priority", (row) => String(row.priority), true],
    ["Calls", (row) => (row.time ? row.time.calls.toLocaleString("en") : "–"), true],
    ["Mean", (row) => (row.time ? taken(row.time.seconds / row.time.calls) : "–"), true],
    ["Slowest", (row) => (row.time ? taken(row.time.slowest_seconds) : "–"), true],
    ["Together", (row) => (row.time ? taken(row.time.seconds) : "–"), true],
  ], rows, "Handlers");
}

// What is to be known of a handler besides: one that looks on runs on the main rank alone, unless it says otherwise.
function notes({ signal, is_async, ranks }) {
  return [...(is_async ? ["async"] : []), ...(signal.kind === "notification" && ranks === "all" ? ["all ranks"] : [])];
}

function lag(now) {
  if (!now?.lanes.length) return [];
  const behind = now.lanes.filter((lane) => lane.dropped || lane.blocked_seconds > 0.01);
  const said = behind.map((lane) => `${lane.plugin} let training wait ${taken(lane.blocked_seconds)} and lost ${counted(lane.dropped, "event")}`);
  return [make("p", { class: "none" }, `Async handlers of ${now.lanes.map((lane) => lane.plugin).join(", ")}: their loop was at most ${taken(now.lag_seconds)} late${said.length ? `; ${said.join("; ")}` : ", and training never waited for them"}.`)];
}

const sum = (rows, key) => rows.reduce((whole, row) => whole + row[key], 0);
