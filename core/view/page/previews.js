// What the model renders of each prompt, over time: a slider for all prompts, one for each, and a larger look.

import { $, make, recall, remember, say } from "./dom.js";

export class Previews {
  constructor() {
    this.tiles = [];
    this.rounds = [];
    this.step = recall("preview-step", null); // of the round that is shown; null: the newest, also when another comes
    const [slider] = $("master").getElementsByTagName("input");
    slider.addEventListener("input", () => this.choose(Number(slider.value)));
    this.large = new Large();
  }

  show(run) {
    this.rounds = run.rounds;
    const tiles = byPrompt(run.rounds);
    const told = JSON.stringify(tiles.map((tile) => tile.key));
    if (told !== this.told) {
      this.told = told;
      this.tiles = tiles.map((tile) => new Tile(tile, this.large, () => this.tiles));
      const nothing = make("p", { class: "none" }, "No previews yet.");
      $("tiles").replaceChildren(...(tiles.length ? this.tiles.map((tile) => tile.element) : [nothing]));
    } else {
      this.tiles.forEach((tile, place) => tile.take(tiles[place]));
    }
    $("master").hidden = run.rounds.length < 2;
    this.turn();
  }

  // By the slider of all prompts.
  choose(place) {
    const isNewest = place === this.rounds.length - 1;
    remember("preview-step", this.step = isNewest ? null : this.rounds[place].step);
    this.tiles.forEach((tile) => { tile.own = null; });
    this.turn();
  }

  turn() {
    if (!this.rounds.length) return;
    const place = this.step === null ? this.rounds.length - 1 : Math.max(0, this.rounds.findLastIndex((round) => round.step <= this.step));
    const [slider] = $("master").getElementsByTagName("input");
    slider.max = this.rounds.length - 1;
    slider.value = place;
    slider.setAttribute("aria-valuetext", `step ${this.rounds[place].step}`);
    say($("master").querySelector("output"), `step ${this.rounds[place].step}`);
    this.tiles.forEach((tile) => tile.turn(this.step === null ? Infinity : this.rounds[place].step));
  }
}

// A prompt with its picture of one round.
class Tile {
  constructor(tile, large, all) {
    this.own = null; // the step that its own slider has chosen
    this.picture = make("img", { alt: "", loading: "lazy", decoding: "async" });
    this.picture.addEventListener("load", () => sharpen(this.picture));
    this.slider = make("input", { type: "range", min: 0, step: 1, "aria-label": `Round of ${tile.text}` });
    this.slider.addEventListener("input", () => {
      this.own = this.shown[Number(this.slider.value)].step;
      this.turn(this.wanted);
    });
    this.output = make("output");
    const button = make("button", { type: "button", class: "look", "aria-label": `Enlarge ${tile.text}`, onclick: () => large.open(all(), this) }, this.picture);
    this.element = make("figure", { class: "tile" }, button, make("div", { class: "turn" }, this.slider, this.output),
      make("figcaption", {}, tile.text || "(no words)", tile.note ? make("span", { class: "note" }, tile.note) : ""));
    this.take(tile);
  }

  take(tile) {
    Object.assign(this, tile);
    this.slider.max = this.shown.length - 1;
    this.slider.hidden = this.shown.length < 2;
  }

  // Show the newest picture up to a step, or the one that the tile's own slider has chosen.
  turn(step) {
    this.wanted = step;
    const upTo = this.own ?? step;
    this.place = Math.max(0, this.shown.findLastIndex((one) => one.step <= upTo));
    const one = this.shown[this.place];
    this.slider.value = this.place;
    this.slider.setAttribute("aria-valuetext", `step ${one.step}`);
    say(this.output, this.slider.hidden ? `step ${one.step}` : String(one.step));
    display(this.picture, one, `${this.text}, step ${one.step}`);
  }
}

// One picture as large as the window allows; arrow keys go to other rounds and other prompts.
class Large {
  constructor() {
    this.dialog = $("large");
    this.picture = this.dialog.querySelector("img");
    this.picture.addEventListener("load", () => sharpen(this.picture));
    [this.slider] = this.dialog.getElementsByTagName("input");
    this.slider.addEventListener("input", () => this.turn(Number(this.slider.value)));
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog || event.target.className === "close") this.dialog.close();
    });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  open(tiles, tile) {
    Object.assign(this, { tiles, tile });
    this.turn(tile.place);
    this.dialog.showModal();
    this.slider.focus();
  }

  turn(place) {
    const { shown, text, note } = this.tile;
    this.place = Math.min(Math.max(place, 0), shown.length - 1);
    const one = shown[this.place];
    this.slider.max = shown.length - 1;
    this.slider.value = this.place;
    this.slider.setAttribute("aria-valuetext", `step ${one.step}`);
    say(this.dialog.querySelector("output"), String(one.step));
    display(this.picture, one, `${text}, step ${one.step}`);
    const facts = [`${one.width} × ${one.height}`, `seed ${one.seed}`, `${one.steps} denoising steps`, `guidance ${one.guidance}`, one.scheduler, one.negative && `not: ${one.negative}`];
    this.dialog.querySelector("figcaption").replaceChildren(
      make("b", {}, text || "(no words)"), note ? make("span", { class: "note" }, note) : "", make("small", {}, facts.filter(Boolean).join(" · ")));
  }

  key(event) {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key], other = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!turn && !other) return;
    event.preventDefault();
    const { step } = this.tile.shown[this.place];
    if (other) this.tile = this.tiles[(this.tiles.indexOf(this.tile) + other + this.tiles.length) % this.tiles.length];
    this.turn(turn ? this.place + turn : this.tile.shown.findLastIndex((one) => one.step <= step));
  }
}

// Tiles in the order of the newest round: {key, text, note, shown: pictures of this prompt by step}.
function byPrompt(rounds) {
  const tiles = new Map();
  for (const round of [...rounds].reverse()) {
    const seen = new Map();
    for (const picture of round.pictures) {
      const same = JSON.stringify([picture.text, picture.negative, picture.seed, picture.width, picture.height, picture.guidance, picture.scheduler]);
      seen.set(same, (seen.get(same) ?? 0) + 1);
      const key = `${same} ${seen.get(same)}`;
      if (!tiles.has(key)) tiles.set(key, { key, text: picture.text, note: picture.note, shown: [] });
      tiles.get(key).shown.unshift({ ...picture, step: round.step, denoising: picture.steps, address: `/previews/${round.step}/${encodeURIComponent(picture.file)}?v=${round.version}` });
    }
  }
  return [...tiles.values()];
}

function display(image, one, words) {
  if (image.getAttribute("src") !== one.address) image.src = one.address;
  image.width = one.width;
  image.height = one.height;
  image.alt = words;
}

// Small pictures are shown by their pixels.
function sharpen(image) {
  image.classList.toggle("sharp", image.naturalWidth > 0 && image.naturalWidth < 200);
}
