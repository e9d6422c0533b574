// A modal dialog of the browser's own: focus is kept inside, Escape closes, focus returns to where it was.
import { h } from "./dom.js";
import { icon } from "./icons.js";

/** show(place, "Title", body) gives the dialog; close it with dialog.close(value). */
export function show(place, title, body, kind = "dialog") {
  const close = h("button.icon-button", { title: "Close", onclick: () => made.close() }, icon("close"), h("span.visually-hidden", {}, "Close"));
  const made = h(`dialog.${kind}`, { "aria-label": title }, h("header.dialog-head", {}, h("h2", {}, title), close), h("div.dialog-body", {}, body));
  made.addEventListener("click", (event) => event.target === made && made.close());
  made.addEventListener("close", () => made.remove());
  place.append(made);
  made.showModal();
  return made;
}

export function confirm(place, title, text, word) {
  return new Promise((answer) => {
    const yes = h("button.danger", { onclick: () => made.close("yes") }, word);
    const no = h("button.quiet", { autofocus: true, onclick: () => made.close() }, "Cancel");
    const made = show(place, title, [h("p", {}, text), h("div.row.end", {}, no, yes)]);
    made.addEventListener("close", () => answer(made.returnValue === "yes"));
  });
}

export function ask(place, title, value, word = "Save") {
  return new Promise((answer) => {
    const field = h("input", { type: "text", value, autofocus: true, "aria-label": title });
    const form = h("form", { method: "dialog", onsubmit: () => (made.returned = field.value.trim()) }, field, h("div.row.end", {}, h("button.primary", {}, word)));
    const made = show(place, title, form);
    field.select();
    made.addEventListener("close", () => answer(made.returned ?? null));
  });
}
