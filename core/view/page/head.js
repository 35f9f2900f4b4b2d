// The head of the page: which run, what it is doing, how far it is, and the buttons that ask it for something.

import { $, make, say } from "./dom.js";
import { clock, counted, figure, lasting, percent, short } from "./words.js";

const WISHES = [
  ["save", "Save", "Write a checkpoint after this step"],
  ["preview", "Preview", "Render the prompts after this step"],
  ["evaluate", "Validate", "Measure the loss on the validation sets after this step"],
  ["stop", "Stop", "End after this step, with a checkpoint"],
];
const WORDS = { interrupted: "interrupted", unknown: "not known" };

export class Head {
  constructor(live) {
    this.live = live;
    this.connection = "";
    this.problem = "";
    this.buttons = new Map(WISHES.map(([wish, label, title]) => [wish, make("button", { type: "button", title, "data-wish": wish, onclick: () => this.press(wish) }, label)]));
    $("buttons").append(...this.buttons.values());
    const dialog = $("stop-dialog");
    dialog.addEventListener("click", (event) => {
      if (event.target.value) dialog.close(event.target.value);
    });
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "stop") this.ask("stop");
    });
  }

  show(run) {
    this.run = run;
    const { state, step, steps } = run.status;
    say($("name"), run.run.name);
    say($("state"), this.connection === "lost" ? "connection lost" : WORDS[state] ?? state);
    $("state").dataset.state = this.connection === "lost" ? "lost" : state;
    const share = steps ? Math.min(step / steps, 1) : 0;
    const left = state === "running" && run.now && run.now.pid === run.session?.pid ? `${lasting(run.now.eta_seconds)} left` : "";
    say($("far"), [steps ? `step ${step.toLocaleString("en")} of ${steps.toLocaleString("en")}` : `step ${step}`, left].filter(Boolean).join(" · "));
    $("progress").firstElementChild.style.width = `${100 * share}%`;
    $("progress").setAttribute("aria-valuenow", String(Math.floor(100 * share)));
    document.title = `${state === "running" ? `${Math.floor(100 * share)} %` : WORDS[state] ?? state} · ${run.run.name}`;
    this.enable();
    this.notice();
    figures(run);
  }

  // `open`, `lost`, `over`: the server has said its farewell, or `refused`.
  connect(word, problem = "") {
    this.connection = word;
    this.problem = problem;
    if (this.run) return this.show(this.run);
    say($("state"), word === "open" ? "" : word === "refused" ? "not shown" : "connection lost");
    this.notice();
  }

  enable() {
    const reason = this.reason();
    for (const [wish, button] of this.buttons) {
      const none = wish === "evaluate" && this.run.data && !Object.keys(this.run.data.validation).length ? "The run has no validation set" : "";
      button.disabled = Boolean(reason || none);
      button.title = reason || none || WISHES.find(([name]) => name === wish)[2];
      button.classList.toggle("waiting", this.run.status.waiting.includes(wish));
    }
  }

  // Why nothing can be asked for.
  reason() {
    if (this.connection === "over") return "The server of this page has ended";
    if (this.connection === "lost") return "There is no connection";
    if (this.run.status.state !== "running") return "The run is over";
    return this.live.token ? "" : "Buttons need the token: open the address that the run printed when it began";
  }

  press(wish) {
    if (wish === "stop") $("stop-dialog").showModal();
    else this.ask(wish);
  }

  async ask(wish) {
    this.buttons.get(wish).classList.add("waiting");
    this.problem = await this.live.ask(wish);
    if (this.problem) this.buttons.get(wish).classList.remove("waiting");
    this.notice();
  }

  notice() {
    const said = this.run ? [...notices(this.run, this.connection, this.reason())] : [];
    if (this.problem) said.unshift(["bad", this.problem]);
    if (!this.run && this.connection === "lost") said.unshift(["bad", "The server of this page is not there; it is tried again."]);
    const told = JSON.stringify(said);
    if (told === this.told) return;
    this.told = told;
    $("notices").replaceChildren(...said.map(([kind, ...text]) => make("p", { class: `notice ${kind}` }, ...text.map(element))));
    $("notices").querySelector("button")?.addEventListener("click", () => this.live.begin());
  }
}

// A command is shown as code, and what is called again is a button.
function element(part) {
  if (typeof part === "string") return part;
  return part.code ? make("code", {}, part.code) : make("button", { type: "button" }, part.button);
}

// The words that a command begins with, as whoever started the run has typed them.
function program(session) {
  const command = session?.command ?? [];
  return command.includes("train") ? command.slice(0, command.indexOf("train")) : ["python", "run.py"];
}

function* notices(run, connection, reason) {
  const { state, waiting } = run.status, session = run.session;
  if (connection === "over") {
    yield ["", "The server of this page has ended, and the page stays as it was. ", { code: [...program(session), "view", run.run.folder].map(quoted).join(" ") }, " serves it again. ", { button: "Connect again" }];
  }
  if (state === "failed") yield ["bad", `The run failed${session.stage ? ` in ${session.stage}` : ""}: ${session.error}`];
  if (state === "interrupted") yield ["bad", "The run's process is gone without a word; its newest checkpoint stands."];
  if (state === "stopped" && session.reason) yield ["", `Stopped: ${session.reason}`];
  if (["failed", "interrupted", "stopped"].includes(state) && session?.command.length) yield ["", "Go on with ", { code: session.command.map(quoted).join(" ") }];
  if (state === "running" && waiting.length) yield ["", `Asked for: ${waiting.map((wish) => label(wish).toLowerCase()).join(", ")}. It waits for the end of a step.`];
  if (state === "running" && !waiting.length && reason && connection === "open") yield ["quiet", reason + "."];
}

const label = (wish) => WISHES.find(([name]) => name === wish)?.[1] ?? wish;
const quoted = (word) => (/^[\w./=:,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function figures(run) {
  const { session, now, curves } = run, isNow = now && now.pid === session?.pid;
  const validation = Object.keys(curves).filter((name) => name.startsWith("validation/"))[0];
  const rows = [["Loss", figure(curves.loss?.values.at(-1) ?? (isNow ? now.loss : null))]];
  if (validation) {
    const { values, steps } = curves[validation], least = values.reduce((best, value, place) => (value < values[best] ? place : best), 0);
    rows.push(["Validation", figure(values.at(-1)), `best ${figure(values[least])} at step ${steps[least]}`]);
  }
  const rate = curves["time/images_per_second"]?.values.at(-1);
  if (rate !== undefined || isNow) rows.push(["Images a second", short(Number((rate ?? now.images_per_second).toPrecision(3)))]);
  if (isNow) rows.push(["Waiting for data", percent(now.data_fraction)]);
  if (session) rows.push(["This session", lasting((Date.parse(session.ended || now?.time || session.began) - Date.parse(session.began)) / 1000), `since ${clock(session.began)}`]);
  if (run.rounds.length) rows.push(["Previews", counted(run.rounds.length, "round")]);
  $("figures").replaceChildren(...rows.map(([name, value, note]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, note ? make("small", {}, note) : ""))));
}
