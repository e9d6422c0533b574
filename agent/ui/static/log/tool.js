// A tool call as one quiet line: what was called, how long it took, what came back. Unfolded it shows arguments and result.
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { codeBlock } from "../lib/code.js";
import { duration, oneLine } from "../lib/format.js";
import { envelope, ICONS, inShort } from "./envelope.js";

const OPEN = new Set(["plot"]);

export class ToolCall {
  constructor(context) {
    this.context = context;
    this.sign = h("span.sign", {}, icon("tool", 16));
    this.name = h("span.tool-name");
    this.with = h("span.tool-with");
    this.came = h("span.tool-came");
    this.time = h("span.tool-time", {}, "running");
    this.body = h("div.tool-body");
    const summary = h("summary", {}, this.sign, this.name, this.with, this.came, this.time);
    this.element = h("details.tool.live", {}, summary, this.body);
    this.result = h("div.tool-result");
    this.arguments = h("div");
    this.body.append(this.arguments, this.result);
    // a result is built when somebody looks at it
    this.element.addEventListener("toggle", () => this.element.open && this.build());
  }

  take({ seq, type, data, at }) {
    this.name.textContent = data.tool;
    if (type === "tool_call") {
      this.call = data;
      this.began = at;
      this.with.textContent = Object.entries(data.arguments).map(([name, value]) => `${name} ${oneLine(typeof value === "string" ? value : JSON.stringify(value), 60)}`).join(", ");
      return;
    }
    this.ended = data;
    this.cut = data.cut && seq;
    this.element.classList.remove("live");
    this.element.classList.add(data.ok ? "ok" : "failed");
    this.time.textContent = duration(data.seconds);
    const kind = data.ok && ICONS[data.result?.type];
    set(this.sign, icon(data.ok ? kind || "check" : "warn", 16));
    this.came.textContent = data.ok ? inShort(data.result) : oneLine(data.error, 300);
    if (OPEN.has(data.result?.type)) this.element.open = true;
    if (this.element.open) this.build();
  }

  build() {
    const given = Object.entries(this.call?.arguments || {});
    set(
      this.arguments,
      given.length > 0 &&
        h("dl.facts", {}, given.map(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "string" && value.includes("\n") ? codeBlock(value, "python") : h("code", {}, typeof value === "string" ? value : JSON.stringify(value)))])),
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
    if (!state || !this.element.classList.contains("live")) return;
    this.element.classList.remove("live");
    this.element.classList.add("failed");
    this.time.textContent = "no result";
  }
}
