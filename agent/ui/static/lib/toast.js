// One line that comes and goes; it stays while the pointer or the keyboard is on it.
import { h } from "./dom.js";
import { icon } from "./icons.js";

export function toast(place, text) {
  for (const old of [...place.children].slice(0, -2)) old.remove();
  const close = h("button.icon-button", { title: "Close", onclick: () => made.remove() }, icon("close", 14), h("span.visually-hidden", {}, "Close"));
  const made = h("div.toast", {}, h("span", {}, text), close);
  place.append(made);
  let timer = setTimeout(() => made.remove(), 8000);
  made.addEventListener("pointerenter", () => clearTimeout(timer));
  made.addEventListener("pointerleave", () => (timer = setTimeout(() => made.remove(), 3000)));
}
