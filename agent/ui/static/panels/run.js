// One run: how it stands, its curves, log, plan and report; cancel and resume. Rows and log are only ever appended.
import { get, part, post, url } from "../lib/api.js";
import { h, set, arrows } from "../lib/dom.js";
import { codeBlock } from "../lib/code.js";
import { confirm } from "../lib/dialog.js";
import { bytes, duration, money, short } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { markdown } from "../lib/markdown.js";
import { Curves } from "./curves.js";

const EVERY = 1500;
const ENDED = new Set(["succeeded", "failed", "cancelled", "limit", "lost"]);
const RESUMABLE = new Set(["failed", "cancelled", "limit", "lost"]);
const LOG_SHOWN = 200_000;
const VIEWS = { curves: "Curves", report: "Report", log: "Log", plan: "Plan", script: "Script" };

export class Run {
  constructor(name, context) {
    this.name = name;
    this.context = context;
    this.row = 0;
    this.byte = undefined; // the first look takes the end of the log
    this.curves = new Curves();
    this.log = h("pre.log.scroll", { tabindex: 0, role: "group", "aria-label": "Log" });
    this.facts = h("div");
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.buttons = h("span.row");
    this.tabs = Object.entries(VIEWS).map(([key, words]) => h("button", { role: "tab", id: `run-tab-${key}`, "aria-controls": "run-view", onclick: () => this.show(key) }, words));
    this.view = h("div.run-view", { role: "tabpanel", id: "run-view", tabindex: 0 });
    this.problem = h("p.error-text", { role: "alert", hidden: true });
    this.badge = h("span.badge", {}, "…");
    this.element = h(
      "div.run",
      {},
      h("div.row", {}, h("button.quiet", { onclick: context.back }, "‹ All runs"), h("span.grow"), this.buttons),
      h("div.run-head", {}, h("h2", {}, name), this.badge),
      this.bar,
      this.facts,
      this.problem,
      h("div.tabs.small", { role: "tablist", "aria-label": "Of this run", onkeydown: (event) => arrows(event, this.tabs) }, this.tabs),
      this.view,
    );
    this.show("curves");
  }

  visible(yes) {
    clearInterval(this.timer);
    if (!yes) return;
    this.refresh();
    this.timer = setInterval(() => !document.hidden && !this.ended && this.refresh(), EVERY);
  }

  path(...more) {
    return `runs/${part(this.name, ...more)}`;
  }

  async refresh() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.told = await get(this.path());
      this.draw();
      await this.more();
      // the last rows may be written after the end was told
      this.ended = ENDED.has(this.state()) && this.finished;
      this.finished = ENDED.has(this.state());
      this.problem.hidden = true;
    } catch (problem) {
      this.problem.textContent = problem.message;
      this.problem.hidden = false;
    } finally {
      this.asking = false;
    }
  }

  state() {
    return this.told.state;
  }

  async more() {
    const metrics = await get(this.path("metrics"), { after: this.row });
    this.row = metrics.next ?? this.row;
    this.curves.add(this.name, metrics.series || {});
    const log = await get(this.path("log"), { after: this.byte });
    this.byte = log.next ?? this.byte;
    if (!log.text) return;
    const there = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 30;
    this.log.textContent = (this.log.textContent + log.text).slice(-LOG_SHOWN);
    if (there) this.log.scrollTop = this.log.scrollHeight;
  }

  draw() {
    const { state, plan = {}, numbers = {}, judged, diagnosis, alerts = [] } = this.told;
    this.badge.className = `badge ${state}`;
    this.badge.textContent = state;
    this.bar.hidden = ENDED.has(state);
    if (this.told.progress === null) this.bar.removeAttribute("value");
    else this.bar.value = this.told.progress;
    const facts = [
      ["Step", this.told.steps ? `${this.told.step ?? 0} of ${this.told.steps}` : this.told.step],
      ["Time left", this.told.eta_seconds === null || ENDED.has(state) ? null : duration(this.told.eta_seconds)],
      ["Loss", numbers.loss],
      ["Held-out loss", numbers.eval_loss],
      ["Reward", numbers.reward],
      ["Tokens/s", numbers.tokens_per_second],
      ["Memory", numbers.memory_mb && bytes(numbers.memory_mb * 1e6)],
      ["Cost", this.told.usd === null ? "unknown" : money(this.told.usd)],
      ["Method", plan.method],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    set(
      this.facts,
      judged && verdictBox(judged),
      ENDED.has(state) && state !== "succeeded" && h("p.error-text", {}, this.told.reason),
      diagnosis && h("div.error", {}, h("strong", {}, "What happened"), record(diagnosis)),
      alerts.length > 0 && h("ul.alerts", {}, alerts.slice(-3).map((one) => h("li", {}, icon("warn", 16), typeof one === "string" ? one : one.text || one.title || JSON.stringify(one)))),
      h("dl.facts.wide", {}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, short(value))))),
    );
    set(
      this.buttons,
      !ENDED.has(state) && state !== "prepared" && h("button.danger", { onclick: () => this.cancel() }, icon("stop", 16), "Cancel"),
      RESUMABLE.has(state) && h("button.primary", { onclick: () => this.change("resume") }, icon("retry", 16), "Resume"),
      state === "succeeded" && h("button.quiet", { onclick: () => this.context.show("talk", { run: this.name }) }, icon("talk", 16), "Talk to it"),
    );
    if (this.shown !== "curves" && this.shown !== "log") this.show(this.shown);
  }

  show(key) {
    this.shown = key;
    Object.keys(VIEWS).forEach((one, at) => {
      this.tabs[at].setAttribute("aria-selected", String(one === key));
      this.tabs[at].tabIndex = one === key ? 0 : -1;
    });
    this.view.setAttribute("aria-labelledby", `run-tab-${key}`);
    const told = this.told || {};
    const picture = (target) => {
      const name = String(target).split("/").pop();
      return /^[\w.-]+\.(png|jpe?g|webp)$/i.test(name) ? url(this.path("pictures", name)).href : null;
    };
    const drawn = JSON.stringify([key, key === "report" ? told.report : key === "plan" ? [told.plan, told.preflight] : told.script]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    if (key === "curves") set(this.view, this.curves.element);
    else if (key === "log") set(this.view, this.log);
    else if (key === "report") set(this.view, told.report ? h("div.report", {}, markdown(told.report, picture)) : h("p.note", {}, "The report is written when the run has something to tell."));
    else if (key === "plan") set(this.view, h("h3", {}, "Plan"), record(told.plan), h("h3", {}, "Preflight"), told.preflight?.findings?.length ? rehearsal(told.preflight.findings) : h("p.note", {}, "Not rehearsed yet."));
    else set(this.view, told.script ? codeBlock(told.script, "python") : h("p.note", {}, "There is no script yet."));
  }

  openRun() {}

  async cancel() {
    const place = this.element.getRootNode().querySelector(".frame");
    if (await confirm(place, "Cancel this run?", "It stops with a checkpoint and can be resumed.", "Cancel the run")) this.change("cancel");
  }

  async change(what) {
    for (const button of this.buttons.querySelectorAll("button")) button.disabled = true;
    try {
      await post(this.path(what));
      this.ended = this.finished = false;
      await this.refresh();
    } catch (problem) {
      this.draw();
      this.problem.textContent = problem.message;
      this.problem.hidden = false;
    }
  }
}

function verdictBox({ verdict, metric, reason }) {
  const told = metric ? `judged by ${metric}: ${reason}` : reason;
  return h("p.verdict", { "data-verdict": String(verdict).toLowerCase() }, h("strong", {}, verdict), h("span", {}, told));
}

function rehearsal(findings) {
  return h("ul.findings", {}, findings.map(({ ok, check, what, mend }) => h("li.finding", { "data-level": ok ? "ok" : "bad" }, icon(ok ? "check" : "warn", 18), h("div", {}, h("strong", {}, check), h("p", {}, what), mend && h("p.cure", {}, mend)))));
}

/** A nested record as a list of terms; long texts and deep parts fold. */
function record(value, depth = 0) {
  if (value === null || value === undefined || value === "") return h("span.faint", {}, "–");
  if (typeof value !== "object") return document.createTextNode(short(value));
  const entries = Object.entries(value);
  if (!entries.length) return h("span.faint", {}, "none");
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return document.createTextNode(value.map(short).join(", "));
  if (depth > 4) return h("code", {}, JSON.stringify(value));
  return h("dl.facts", {}, entries.map(([name, inner]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, record(inner, depth + 1))]));
}
