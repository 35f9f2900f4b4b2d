// The page of a run: each part shows what it knows of the state, and again when that has changed.

import { Charts } from "./charts.js";
import { showData } from "./data.js";
import { $, say } from "./dom.js";
import { Head } from "./head.js";
import { Live } from "./live.js";
import { Log } from "./log.js";
import { showPlan, showShares } from "./plan.js";
import { Previews } from "./previews.js";

const live = new Live({ onState, onChange, onConnection });
const head = new Head(live), charts = new Charts(live), previews = new Previews(), log = new Log();

// What each part depends on.
const PARTS = [
  [["status", "session", "now", "data", "curves", "rounds"], (run) => head.show(run)],
  [["curves"], (run) => charts.show(run)],
  [["status", "session", "curves"], showShares],
  [["rounds"], (run) => previews.show(run)],
  [["session", "plan", "now", "counts"], showPlan],
  [["data"], showData],
  [["log"], (run) => log.show(run)],
  [["session"], foot],
];

function onState(run) {
  PARTS.forEach(([, show]) => show(run));
}

function onChange(run, changed) {
  PARTS.filter(([names]) => names.some((name) => changed.has(name))).forEach(([, show]) => show(run));
}

function onConnection(word, problem) {
  head.connect(word, problem);
}

function foot({ run, session }) {
  const versions = Object.entries(session?.versions ?? {}).map(([name, version]) => `${name} ${version}`);
  say($("foot"), [run.folder, ...versions].join(" · "));
}

live.begin();
