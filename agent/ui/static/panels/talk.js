// Talk to the base model and to a run's result beside each other: one question, two answers, each with its own history.
import { get, lines } from "../lib/api.js";
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";

const SIDES = { base: "Base", result: "Result" };

export class Talk {
  constructor(context) {
    this.context = context;
    this.select = h("select", { "aria-label": "Run", onchange: () => this.fresh() });
    this.columns = Object.fromEntries(Object.entries(SIDES).map(([side, words]) => [side, h("div.talk-side", {}, h("h3", {}, words))]));
    this.field = h("textarea", { rows: 2, placeholder: "Ask both the same…", "aria-label": "Message to both models" });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    this.url = h("input", { type: "url", hidden: true, placeholder: "http://localhost:8000/v1", "aria-label": "URL of a server of this model" });
    this.button = h("button.send", { title: "Send", onclick: () => (this.work ? this.work.abort() : this.send()) }, icon("send"), h("span.visually-hidden", {}, "Send"));
    this.empty = h("div.empty", {}, icon("talk", 28), h("p", {}, "No result to talk to yet."), h("p.note", {}, "When a run has succeeded, you can compare how it answers with its base model here."));
    this.body = h("div.talk", {}, h("div.row", {}, h("h2", {}, "Talk"), this.select, h("button.quiet", { onclick: () => this.fresh() }, "Clear")), h("div.talk-sides", {}, Object.values(this.columns)), this.url, h("div.composer-row.talk-row", {}, this.field, this.button));
    this.element = h("div", {}, this.empty, this.body);
    this.fresh();
  }

  fresh() {
    this.work?.abort();
    this.history = { base: [], result: [] };
    for (const [side, column] of Object.entries(this.columns)) set(column, h("h3", {}, SIDES[side]));
  }

  async visible(yes) {
    if (!yes) return;
    let runs = [];
    try {
      runs = (await get("runs")).filter((one) => one.state === "succeeded");
    } catch {
      // told by the Runs tab
    }
    const chosen = this.wanted || this.select.value;
    set(this.select, runs.map((one) => h("option", { value: one.run }, one.run)));
    if (runs.some((one) => one.run === chosen)) this.select.value = chosen;
    this.wanted = null;
    this.empty.hidden = runs.length > 0;
    this.body.hidden = runs.length === 0;
  }

  openRun(run) {
    this.wanted = run;
    this.fresh();
    this.visible(true);
  }

  async send() {
    const text = this.field.value.trim();
    if (!text || this.work) return;
    this.field.value = "";
    this.work = new AbortController();
    set(this.button, icon("stop"), h("span.visually-hidden", {}, "Stop"));
    const { signal } = this.work;
    // one after the other: two models at once would fight for the same cores
    for (const side of Object.keys(SIDES)) {
      if (signal.aborted) break;
      await this.answer(side, text, signal);
    }
    this.work = null;
    set(this.button, icon("send"), h("span.visually-hidden", {}, "Send"));
    this.field.focus();
  }

  async answer(side, text, signal) {
    const history = this.history[side];
    history.push({ role: "user", content: text });
    const said = h("div.talk-said.live", { role: "group", tabindex: 0, "aria-label": `${SIDES[side]} answers` });
    this.columns[side].append(h("div.talk-asked", {}, text), said);
    said.scrollIntoView({ block: "nearest" });
    let whole = "";
    try {
      await lines("talk", { run: this.select.value, side, messages: history, url: this.url.value.trim() || undefined }, (line) => {
        if (line.error) throw new Error(line.error);
        if (line.kind === "think") return void (said.dataset.thinks = "");
        whole += line.text || "";
        said.textContent = whole;
      }, signal);
      if (!whole) said.append(h("span.faint", {}, "(nothing)"));
    } catch (problem) {
      // too large for this machine: a server of it may be named
      if (problem.status === 409) this.url.hidden = false;
      if (!signal.aborted) said.append(h("p.error-text", {}, problem.message));
    }
    said.classList.remove("live");
    history.push({ role: "assistant", content: whole });
  }
}
