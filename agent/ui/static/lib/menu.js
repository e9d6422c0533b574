// A small menu below a button: arrow keys walk it, Escape or a click elsewhere closes it and focus goes back.
import { h, arrows } from "./dom.js";
import { icon } from "./icons.js";

export function openMenu(button, items) {
  const made = h("div.menu", { role: "menu", popover: "auto" });
  const close = () => made.hidePopover();
  for (const [sign, words, act] of items) {
    made.append(h("button", { role: "menuitem", tabindex: -1, onclick: () => (close(), act()) }, icon(sign, 16), words));
  }
  made.addEventListener("keydown", (event) => arrows(event, [...made.children]));
  made.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    made.remove();
    button.setAttribute("aria-expanded", "false");
  });
  button.after(made);
  made.showPopover();
  const at = button.getBoundingClientRect();
  const size = made.getBoundingClientRect();
  made.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  made.style.top = `${at.bottom + size.height + 8 > innerHeight ? Math.max(8, at.top - size.height - 4) : at.bottom + 4}px`;
  button.setAttribute("aria-expanded", "true");
  made.firstElementChild.focus();
}
