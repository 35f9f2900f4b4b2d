// Elements of the page. Whatever comes from files of a run gets in as text, never as markup.

export const $ = (id) => document.getElementById(id);

// An element with attributes, and children that are elements or text; `class`, `data-x` and listeners such as `onclick` go too.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// Change a text only when it differs, so that nothing is read out twice and selections stay.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A table; a column is [title, value of a row, is it a number]. A value may be an element.
export function table(columns, rows, caption) {
  const head = columns.map(([title, , isNumber]) => make("th", { scope: "col", class: isNumber ? "number" : null }, title));
  const body = rows.map((row) =>
    make("tr", {}, ...columns.map(([, value, isNumber]) => make("td", { class: isNumber ? "number" : null }, value(row)))));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

// What a person has chosen stays for the next time that the page is opened.
export function remember(key, value) {
  try {
    localStorage.setItem(`signalbox.${key}`, JSON.stringify(value));
  } catch { /* a browser that keeps nothing */ }
}

export function recall(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`signalbox.${key}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
