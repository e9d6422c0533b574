// A block of code or plain text that can be copied; long ones show their head and tail and, on demand, all.
import { h, set } from "./dom.js";
import { icon } from "./icons.js";
import { highlight } from "./python.js";
import { count } from "./format.js";

export const LONG = 4000;
const HEAD = 2600;
const TAIL = 1000;

export function codeBlock(text, language = "") {
  const pre = h("pre.scroll", { tabindex: 0, role: "group", "aria-label": `${language || "text"} block` });
  longText(pre, text, (part) => highlight(part, language));
  return h("div.code-block", {}, h("div.code-bar", {}, h("span", {}, language || "text"), copyButton(() => text)), pre);
}

/** Fills a <pre>: all of a short text, head and tail of a long one with a button between. `whole` may fetch the rest. */
export function longText(pre, text, show = (part) => part, whole = null, size = text.length) {
  if (text.length <= LONG && !whole) return set(pre, h("code", {}, show(text)));
  const head = text.slice(0, Math.min(HEAD, text.length));
  const tail = text.slice(Math.max(HEAD, text.length - TAIL));
  const button = h("button.show-all", { onclick: open }, `Show all ${count(size)} characters`);
  set(pre, h("code", {}, show(head)), h("div.cut", {}, button), h("code", {}, show(tail)));
  async function open() {
    button.disabled = true;
    button.textContent = "Loading…";
    try {
      const all = whole ? await whole() : text;
      set(pre, h("code", {}, all.length > 400_000 ? all : show(all)));
      pre.focus();
    } catch (problem) {
      button.disabled = false;
      button.textContent = `${problem.message} Try again`;
    }
  }
  return pre;
}

export function copyButton(text, label = "Copy") {
  const word = h("span.visually-hidden", {}, label);
  const button = h("button.icon-button.copy", { title: label, onclick: copy }, icon("copy", 16), word);
  return button;
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      word.textContent = "Copied";
      button.replaceChildren(icon("check", 16), word);
    } catch {
      word.textContent = "The browser does not allow copying";
      button.title = word.textContent;
    }
    setTimeout(() => {
      word.textContent = label;
      button.title = label;
      button.replaceChildren(icon("copy", 16), word);
    }, 1500);
  }
}
