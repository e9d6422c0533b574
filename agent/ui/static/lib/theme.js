// Light, dark, or as the system has it; remembered in this browser where it allows that.
import { h, set } from "./dom.js";
import { icon } from "./icons.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const ICONS = { auto: "auto", light: "sun", dark: "moon" };
const KEY = "modelsmith-theme";

export function remembered(key, fallback) {
  try {
    return localStorage.getItem(key) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // a browser without storage forgets; nothing else changes
  }
}

export class Theme {
  constructor(host) {
    this.host = host;
    this.button = h("button.icon-button", { onclick: () => this.set(NEXT[this.now]) });
    const asked = new URLSearchParams(location.search).get("__theme");
    this.set(asked in ICONS ? asked : remembered(KEY, "auto"), !asked);
  }

  set(theme, keep = true) {
    this.now = theme in ICONS ? theme : "auto";
    this.host.setAttribute("theme", this.now);
    // the frame behind us and the browser's own bars follow
    document.documentElement.style.colorScheme = this.now === "auto" ? "light dark" : this.now;
    if (keep) remember(KEY, this.now);
    const words = `Colours: ${this.now === "auto" ? "as the system" : this.now}`;
    this.button.title = words;
    set(this.button, icon(ICONS[this.now]), h("span.visually-hidden", {}, words));
  }
}
