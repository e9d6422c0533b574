// The small notes between the steps: an error with what happens next, a job with its progress, what was kept.
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { bytes, duration, money, oneLine } from "../lib/format.js";
import { longText } from "../lib/code.js";

const NEXT = {
  model: "Look at the model in Settings, or try again.",
  sandbox: "The doctor in Settings says what is wrong with the sandbox.",
  limit: "Raise the limit in Settings, then go on with a new task.",
};

export class ErrorNote {
  constructor(data, context, again) {
    const [first, ...rest] = String(data.text).split("\n");
    const more = [...rest, data.detail || ""].join("\n").trim();
    const next = data.hint || (data.fatal ? NEXT[data.kind] || "This turn ended here. Try again, or say what to do differently." : "The agent is told and goes on.");
    const detail = h("pre.scroll", { tabindex: 0, role: "group", "aria-label": "Details of the error" });
    if (more) longText(detail, more);
    this.element = h(
      data.fatal ? "div.error.fatal" : "div.error",
      {},
      h("p.error-text", {}, icon("warn", 16), h("span", {}, oneLine(first, 600))),
      more && h("details", {}, h("summary", {}, "Details"), detail),
      h("p.note", {}, next),
      data.fatal &&
        h(
          "div.row",
          {},
          h("button.quiet", { onclick: again }, icon("retry", 16), "Try again"),
          ["model", "sandbox", "limit"].includes(data.kind) && h("button.quiet", { onclick: () => context.act("settings") }, icon("settings", 16), "Open settings"),
        ),
    );
  }
}

const JOB_ENDS = new Set(["succeeded", "completed", "failed", "cancelled", "error", "lost", "limit", "timeout"]);

export class Job {
  constructor(context) {
    this.context = context;
    this.title = h("span.job-title");
    this.detail = h("span.job-detail");
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.open = h("button.quiet", { hidden: true, onclick: () => context.openRun(this.run) }, icon("chart", 16), "Show in Runs");
    this.element = h("div.job.live", {}, h("div.job-line", {}, icon("job", 16), this.title, this.detail, this.open), this.bar);
  }

  take(data) {
    const state = data.state.toLowerCase();
    this.element.classList.toggle("live", !JOB_ENDS.has(state));
    this.element.dataset.state = state;
    this.run = data.run || this.run;
    this.open.hidden = !this.run;
    this.title.textContent = `${oneLine(data.run || data.id, 80)}: ${state}`;
    const facts = [data.eta_seconds !== null && data.eta_seconds !== undefined && `${duration(data.eta_seconds)} left`, data.usd > 0 && money(data.usd)];
    this.detail.textContent = [...facts, oneLine(data.detail || "", 160)].filter(Boolean).join(" · ");
    if (data.progress === null || data.progress === undefined) this.bar.removeAttribute("value");
    else this.bar.value = Math.min(1, Math.max(0, data.progress));
    this.bar.hidden = JOB_ENDS.has(state);
  }
}

/** What the model means to do, and how far it is. */
export class Plan {
  constructor() {
    this.steps = h("ol.plan-steps");
    this.element = h("section.plan", { "aria-label": "Plan" }, this.steps);
  }

  take({ steps, done }) {
    const marks = ["done", "now", "later"];
    const rows = steps.map((step, at) => {
      const mark = marks[at < done ? 0 : at === done ? 1 : 2];
      return h(`li.${mark}`, {}, mark === "done" ? icon("check", 14) : h("span.dot", { "aria-hidden": "true" }), h("span", {}, oneLine(step, 200)), h("span.visually-hidden", {}, ` (${mark})`));
    });
    set(this.steps, rows);
  }
}

export class Kept {
  constructor(context) {
    this.context = context;
    this.pictures = h("div.kept-pictures");
    this.chips = h("ul.kept-files");
    this.element = h("div.kept", {}, this.pictures, this.chips);
  }

  take({ seq, data }) {
    const name = data.path.split("/").pop();
    const title = data.title || name;
    if (/\.(png|jpe?g|webp|gif)$/i.test(name)) {
      const picture = h("img", { src: this.context.artifact(seq, true), alt: title, loading: "lazy", onerror: () => set(frame, h("span.note", {}, `${title} is no longer there.`)) });
      const frame = h("button.picture", { title: "Show in Artifacts", onclick: () => this.context.act("artifact", { seq }) }, picture);
      this.pictures.append(frame);
      return;
    }
    this.chips.append(h("li", {}, h("a.file-chip", { href: this.context.artifact(seq), download: name }, icon("file", 14), title, data.size ? h("span.faint", {}, bytes(data.size)) : null)));
  }
}
