// A list of commands above a text field, walked with the arrow keys as the ARIA pattern for a combobox wants it.
import { h, set } from "./lib/dom.js";

export class Completion {
  constructor(field, place, take) {
    this.field = field;
    this.take = take;
    this.list = h("ul.completion", { role: "listbox", id: "completion", "aria-label": "Commands", hidden: true });
    place.append(this.list);
    field.setAttribute("role", "combobox");
    field.setAttribute("aria-autocomplete", "list");
    field.setAttribute("aria-controls", "completion");
    field.setAttribute("aria-expanded", "false");
    field.addEventListener("blur", () => setTimeout(() => this.offer([]), 150));
    this.offers = [];
  }

  offer(offers) {
    this.offers = offers.slice(0, 60);
    this.at = 0;
    this.draw();
  }

  draw() {
    const open = this.offers.length > 0;
    this.list.hidden = !open;
    this.field.setAttribute("aria-expanded", String(open));
    set(
      this.list,
      this.offers.map(({ name, what }, at) =>
        h("li", { role: "option", id: `completion-${at}`, "aria-selected": String(at === this.at), onmousedown: (event) => (event.preventDefault(), this.choose(at)) }, h("code", {}, `/${name}`), h("span", {}, what)),
      ),
    );
    if (open) this.field.setAttribute("aria-activedescendant", `completion-${this.at}`);
    else this.field.removeAttribute("aria-activedescendant");
    this.list.children[this.at]?.scrollIntoView({ block: "nearest" });
  }

  choose(at) {
    const { name } = this.offers[at];
    this.offer([]);
    this.take(name);
  }

  /** Whether the key was for the list. */
  key(event) {
    if (!this.offers.length) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.at = (this.at + step + this.offers.length) % this.offers.length;
      this.draw();
    } else if (event.key === "Enter" || event.key === "Tab") this.choose(this.at);
    else if (event.key === "Escape") this.offer([]);
    else return false;
    event.preventDefault();
    return true;
  }
}
