// The trainings: those of this session or all; one opened shows its curves, log, plan and report; several beside each
// other are compared. While the tab is open the list is asked for every two seconds, else not at all.
import { get } from "../lib/api.js";
import { h, set } from "../lib/dom.js";
import { duration, money } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { compared } from "./compare.js";
import { Run } from "./run.js";

const EVERY = 2000;
export const ENDED = new Set(["succeeded", "failed", "cancelled", "limit", "lost"]);

export class Runs {
  constructor(context) {
    this.context = context;
    this.chosen = new Set();
    this.list = h("ul.runs");
    this.compare = h("button.primary", { hidden: true, onclick: () => this.compareChosen() }, icon("chart", 16), "Compare");
    this.which = h("select", { "aria-label": "Which runs", onchange: () => this.refresh() }, h("option", { value: "all" }, "All"), h("option", { value: "mine" }, "Of this session"));
    this.head = h("div.row", {}, h("h2", {}, "Runs"), this.which, h("span.grow"), this.compare);
    this.overview = h("div", {}, this.head, this.list);
    this.element = h("div.runs-panel", {}, this.overview);
  }

  session(id) {
    this.id = id;
  }

  visible(yes) {
    clearInterval(this.timer);
    this.shown = yes;
    this.run?.visible(yes);
    if (!yes) return;
    this.refresh();
    this.timer = setInterval(() => !document.hidden && this.refresh(), EVERY);
  }

  changed() {
    if (this.shown) this.refresh();
  }

  async refresh() {
    if (this.asking || this.run) return;
    this.asking = true;
    try {
      this.draw(await get("runs", this.id && this.which.value === "mine" ? { session: this.id } : {}));
      this.failed = false;
    } catch (problem) {
      if (!this.failed) set(this.list, h("li.error-text", {}, problem.message));
      this.failed = true;
    } finally {
      this.asking = false;
    }
  }

  draw(runs) {
    const key = JSON.stringify(runs) + [...this.chosen];
    if (key === this.drawn && !this.failed) return;
    this.drawn = key;
    const held = this.element.getRootNode().activeElement?.dataset?.key;
    set(
      this.list,
      runs.map((one) => this.row(one)),
      runs.length === 0 && h("li.empty", {}, icon("chart", 28), h("p", {}, "No training yet."), h("p.note", {}, "Ask for one: “fine-tune ./my-model on my-data.jsonl”. Its curves will be drawn here while it runs.")),
    );
    if (held) this.list.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
    this.compare.hidden = this.chosen.size < 2;
    this.compare.lastChild.textContent = `Compare ${this.chosen.size}`;
  }

  row(one) {
    const ended = ENDED.has(one.state);
    const facts = [one.method, one.dataset && String(one.dataset).split("/").pop()].filter(Boolean).join(" on ");
    const now = ended ? [one.state !== "succeeded" && one.reason] : [one.steps && `step ${one.step ?? 0} of ${one.steps}`, one.eta_seconds !== null && one.eta_seconds !== undefined && `${duration(one.eta_seconds)} left`];
    const told = [...now, one.usd ? money(one.usd) : null].filter(Boolean).join(" · ");
    const box = h("input", { type: "checkbox", checked: this.chosen.has(one.run), "aria-label": `Compare ${one.run}`, "data-key": `box-${one.run}`, onchange: (event) => this.choose(one.run, event.target.checked) });
    const bar = !ended && h("progress", { max: 1, value: one.progress ?? undefined, "aria-label": `Progress of ${one.run}` });
    return h(
      "li.run-row",
      { "data-state": one.state },
      box,
      h("button.run-open", { "data-key": `run-${one.run}`, onclick: () => this.openRun(one.run) }, h("span.run-name", {}, one.model ? String(one.model).split("/").pop() : one.run), h(`span.badge.${one.state}`, {}, one.verdict ? one.verdict.toLowerCase() : one.state), h("span.run-facts", {}, facts), told && h("span.run-now", {}, told), h("span.run-id", {}, one.run)),
      bar,
    );
  }

  choose(run, yes) {
    if (yes) this.chosen.add(run);
    else this.chosen.delete(run);
    this.compare.hidden = this.chosen.size < 2;
    this.compare.lastChild.textContent = `Compare ${this.chosen.size}`;
  }

  openRun(name) {
    this.run?.visible(false);
    this.run = new Run(name, { ...this.context, back: () => this.back() });
    set(this.element, this.run.element);
    this.run.visible(this.shown);
    this.run.element.querySelector("button")?.focus();
  }

  back() {
    this.run?.visible(false);
    this.run = null;
    this.drawn = "";
    set(this.element, this.overview);
    this.refresh();
  }

  compareChosen() {
    this.run = { visible() {}, element: compared([...this.chosen], () => this.back()) };
    set(this.element, this.run.element);
    this.run.element.querySelector("button")?.focus();
  }
}
