// <ms-side>: what stands beside the conversation: runs, artifacts, and talking to a result.
import { h, set, arrows } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { Artifacts } from "./artifacts.js";
import { Runs } from "./runs.js";
import { Talk } from "./talk.js";

const TABS = { runs: "Runs", artifacts: "Artifacts", talk: "Talk" };

class Side extends HTMLElement {
  use(context) {
    this.context = context;
    const inner = { ...context, show: (name, detail) => this.show(name, detail) };
    this.parts = { runs: new Runs(inner), artifacts: new Artifacts(inner), talk: new Talk(inner) };
    this.tabs = Object.entries(TABS).map(([name, words]) => h("button", { role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => this.show(name) }, words));
    const bar = h("div.tabs", { role: "tablist", "aria-label": "Beside the conversation", onkeydown: (event) => arrows(event, this.tabs) }, this.tabs);
    const close = h("button.icon-button", { title: "Close", onclick: () => this.context.close() }, icon("close"), h("span.visually-hidden", {}, "Close"));
    this.panels = Object.entries(this.parts).map(([name, one]) => h("div.panel", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, hidden: true, tabindex: 0 }, one.element));
    const made = h("aside.side", { "aria-label": "Runs and artifacts" }, h("div.side-head", {}, bar, close), this.panels);
    set(this, made);
    this.pick("runs");
  }

  pick(name) {
    this.now = name;
    Object.keys(TABS).forEach((one, at) => {
      const here = one === name;
      this.tabs[at].setAttribute("aria-selected", String(here));
      this.tabs[at].tabIndex = here ? 0 : -1;
      this.panels[at].hidden = !here;
      this.parts[one].visible?.(here && this.open);
    });
  }

  show(name, detail = {}) {
    const tab = { run: "runs", artifact: "artifacts" }[name] || name;
    this.pick(tab);
    if (detail.run) this.parts[tab].openRun?.(detail.run);
    if (detail.seq) this.parts.artifacts.openOne(detail.seq);
  }

  visible(yes, opened) {
    this.open = yes;
    this.parts[this.now].visible?.(yes);
    if (opened) this.tabs[Object.keys(TABS).indexOf(this.now)].focus();
  }

  session(id) {
    this.parts.artifacts.session(id);
    this.parts.runs.session(id);
  }

  /** Events of the open session that were drawn. */
  heard(events) {
    if (events.some((event) => event.type === "artifact")) this.parts.artifacts.changed();
    if (events.some((event) => event.type === "job" || event.type === "tool_result")) this.parts.runs.changed();
  }

  metric() {
    this.parts.runs.changed();
  }
}

customElements.define("ms-side", Side);
