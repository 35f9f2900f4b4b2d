// The run as the server tells it: the whole once, then what changes.

const MOST_POINTS = 6000; // of a curve; then the server is asked for fewer that show the same
const MOST_LINES = 4000;
const AGAIN_MS = 3000;
const HIDDEN_MS = 30000; // a page that nobody sees gives its connection back: browsers have few for each server

export class Live {
  // `onState(run)` gets the whole, `onChange(run, names of what changed)` each change, `onConnection(word)` the rest.
  constructor({ onState, onChange, onConnection }) {
    Object.assign(this, { onState, onChange, onConnection });
    this.run = null;
    this.token = takeToken();
    this.cursor = "";
    this.source = null;
    window.addEventListener("hashchange", () => {
      this.token = takeToken();
      this.begin();
    });
    document.addEventListener("visibilitychange", () => this.rest());
  }

  // Read the state, then listen. Called again when the server says that its state has to be read anew.
  async begin() {
    this.source?.close();
    clearTimeout(this.waiting);
    try {
      if (this.token && !isOwnMachine()) await this.post("/api/enter");
      const answer = await fetch("/api/state");
      if (!answer.ok) return this.onConnection("refused", (await answer.json()).problem);
      this.run = await answer.json();
    } catch {
      this.onConnection("lost");
      return this.later();
    }
    this.cursor = this.run.cursor;
    this.onState(this.run);
    this.listen();
  }

  later() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.begin(), AGAIN_MS);
  }

  listen() {
    const source = this.source = new EventSource(`/api/events?cursor=${encodeURIComponent(this.cursor)}`);
    source.addEventListener("open", () => this.onConnection("open"));
    source.addEventListener("error", () => {
      this.onConnection("lost");
      if (source.readyState === EventSource.CLOSED) this.later(); // else the browser tries again by itself
    });
    source.addEventListener("reset", () => this.begin());
    source.addEventListener("change", (event) => {
      this.cursor = event.lastEventId;
      this.take(JSON.parse(event.data));
    });
    source.addEventListener("bye", () => {
      source.close();
      this.source = null;
      this.onConnection("over");
    });
  }

  // Ask the run for something; returns the problem, or nothing.
  async ask(wish) {
    try {
      const answer = await this.post(`/api/ask/${wish}`);
      return answer.ok ? "" : (await answer.json()).problem;
    } catch {
      return "the server of this page is not there";
    }
  }

  post(path) {
    return fetch(path, { method: "POST", headers: { "X-Signalbox-Token": this.token } });
  }

  // The points of a stretch, closer than the whole curve has them.
  async closely(name, from, to) {
    const answer = await fetch(`/api/curve?${new URLSearchParams({ name, from: Math.floor(from), to: Math.ceil(to) })}`);
    return answer.ok ? answer.json() : null;
  }

  take({ points = {}, log = [], rounds = [], ...parts }) {
    const run = Object.assign(this.run, parts);
    for (const [name, news] of Object.entries(points)) addPoints(run.curves[name] ??= { steps: [], values: [], whole: true }, news);
    run.log = [...run.log, ...log].slice(-MOST_LINES);
    if (rounds.length) run.rounds = withRounds(run.rounds, rounds);
    if (Object.values(run.curves).some((curve) => curve.steps.length > MOST_POINTS)) return this.begin();
    const names = new Set(Object.keys(parts));
    if (Object.keys(points).length) names.add("curves");
    if (log.length) names.add("log");
    if (rounds.length) names.add("rounds");
    this.onChange(run, names);
  }

  rest() {
    clearTimeout(this.resting);
    if (document.hidden) {
      this.resting = setTimeout(() => {
        this.source?.close();
        this.isResting = Boolean(this.source);
      }, HIDDEN_MS);
    } else if (this.isResting) {
      this.isResting = false;
      this.listen();
    }
  }
}

// From the address, which then forgets it, so that it is in no bookmark and on no picture of the screen; kept for this tab.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  try {
    if (given) sessionStorage.setItem("signalbox.token", given);
    if (given) history.replaceState(null, "", location.pathname);
    return given ?? sessionStorage.getItem("signalbox.token") ?? "";
  } catch {
    return given ?? "";
  }
}

function isOwnMachine() {
  return ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
}

function addPoints(curve, news) {
  for (const [step, value] of news) {
    if (curve.steps.at(-1) === step) curve.values[curve.values.length - 1] = value;
    else {
      curve.steps.push(step);
      curve.values.push(value);
    }
  }
}

function withRounds(rounds, news) {
  const byStep = new Map([...rounds, ...news].map((round) => [round.step, round]));
  return [...byStep.values()].sort((one, other) => one.step - other.step);
}
