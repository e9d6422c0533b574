// A tool call as one quiet line: what was called, how long it took, what came back. Unfolded it shows arguments and result.
// The same call again and again in one step, as when a run is watched, stays one line that is kept current.
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { codeBlock } from "../lib/code.js";
import { duration, oneLine } from "../lib/format.js";
import { envelope, ICONS, inShort } from "./envelope.js";
import { Progress } from "./progress.js";

const OPEN = new Set(["plot"]);

export class ToolCall {
  constructor(context) {
    this.context = context;
    this.times = 0;
    this.sign = h("span.sign", {}, icon("tool", 16));
    this.name = h("span.tool-name");
    this.with = h("span.tool-with");
    this.came = h("span.tool-came");
    this.time = h("span.tool-time", {}, "running");
    this.result = h("div.tool-result");
    this.arguments = h("div");
    const summary = h("summary", {}, this.sign, this.name, this.with, this.came, this.time);
    this.fold = h("details", {}, summary, h("div.tool-body", {}, this.arguments, this.result));
    this.progress = new Progress(context);
    this.element = h("div.tool.live", {}, this.fold, this.progress.element);
    // a result is built when somebody looks at it
    this.fold.addEventListener("toggle", () => this.fold.open && this.build());
  }

  take(event) {
    const { type, data } = event;
    this.name.textContent = this.times > 1 ? `${data.tool} ×${this.times}` : data.tool;
    if (type === "tool_call") this.called(data);
    else this.finished(event);
  }

  called(data) {
    this.call = data;
    this.times += 1;
    this.name.textContent = this.times > 1 ? `${data.tool} ×${this.times}` : data.tool;
    this.with.textContent = Object.entries(data.arguments).map(([name, value]) => `${name} ${oneLine(told(value), 60)}`).join(", ");
    this.element.classList.add("live");
  }

  finished({ seq, data }) {
    this.ended = data;
    this.cut = data.cut && seq;
    this.built = false;
    this.element.classList.remove("live", "ok", "failed");
    this.element.classList.add(data.ok ? "ok" : "failed");
    this.time.textContent = duration(data.seconds);
    const kind = data.ok && ICONS[data.result?.type];
    set(this.sign, icon(data.ok ? kind || "check" : "warn", 16));
    this.came.textContent = data.ok ? inShort(data.result) : oneLine(data.error, 300);
    if (data.ok && data.result?.type === "job") this.progress.result(data.result);
    if (OPEN.has(data.result?.type)) this.fold.open = true;
    if (this.fold.open) this.build();
  }

  /** How far the call itself is, as its tool tells. */
  far(data) {
    this.progress.job(data);
    if (data.detail) this.came.textContent = oneLine(data.detail, 200);
  }

  build() {
    const given = Object.entries(this.call?.arguments || {});
    set(
      this.arguments,
      given.length > 0 && h("dl.facts", {}, given.map(([name, value]) => [h("dt", {}, name), h("dd", {}, told(value).includes("\n") ? codeBlock(told(value), "python") : h("code", {}, told(value)))])),
    );
    if (!this.ended || this.built) return;
    this.built = true;
    if (this.cut) return this.fetch();
    this.show();
  }

  async fetch() {
    set(this.result, h("p.note", {}, "Loading…"));
    try {
      this.ended = (await this.context.whole(this.cut)).data;
      this.show();
    } catch (problem) {
      this.built = false;
      set(this.result, h("p.error-text", {}, problem.message));
    }
  }

  show() {
    set(this.result, this.ended.ok ? envelope(this.ended.result, this.context) : h("p.error-text", {}, this.ended.error, h("span.note", {}, " The agent is told and goes on.")));
  }

  over(at, state) {
    if (!state) return;
    this.progress.over();
    if (!this.element.classList.contains("live")) return;
    this.element.classList.remove("live");
    this.element.classList.add("failed");
    this.time.textContent = "no result";
  }
}

function told(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}
