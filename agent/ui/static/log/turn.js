// One turn: the task, the steps of work, the answer, and one quiet line of what it took. A turn that is long over folds
// its work away; nothing of it is lost.
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { copyButton } from "../lib/code.js";
import { clock, count, duration, money } from "../lib/format.js";
import { Answer } from "./answer.js";
import { Approval } from "./approval.js";
import { Code, Output, Thought } from "./texts.js";
import { ErrorNote, Job, Kept, Plan } from "./notes.js";
import { ToolCall } from "./tool.js";

const ENDS = { succeeded: "Done", failed: "Failed", cancelled: "Stopped", limit: "Limit reached", lost: "Interrupted" };
const STREAMS = { thought: Thought, code: Code, output: Output };

export class Turn {
  constructor(log) {
    this.log = log;
    this.context = log.context;
    this.parts = new Map(); // what still grows, by what it is
    this.runs = new Map(); // the call that told of a run last, which shows how far it is
    this.dirty = new Set();
    this.steps = 0;
    this.tokens = { in: 0, out: 0, usd: 0, known: true };
    this.work = h("div.work-body");
    this.workFrame = h("details.work", { open: true, hidden: true, ontoggle: () => this.paint() }, h("summary.work-summary", {}, "Work"), this.work);
    this.result = h("div.result");
    this.foot = h("div.turn-foot");
    this.element = h("section.turn", { "aria-label": "Turn" }, this.workFrame, this.result, this.foot);
  }

  take(event, live) {
    const { type, data, at } = event;
    this.began ??= at;
    this.last = at;
    if (data.step > this.steps) this.steps = data.step;
    if (type === "task") return this.asked(event);
    if (type === "answer") return this.answered(event);
    if (type === "state") return this.stands(data, at, live);
    if (type === "usage") return this.used(data);
    if (type === "metric") return this.context.metric?.(data);
    if (type in STREAMS) this.stream(event);
    else if (type === "tool_call" || type === "tool_result") this.tool(event);
    else if (type === "approval") this.approval(event);
    else if (type === "job" && this.watched(data)) this.watched(data).far(data);
    else if (type === "job") this.part(`job ${data.run || data.id}`, () => new Job(this.context)).take(data);
    else if (type === "artifact") this.part(`kept ${data.step ?? ""}`, () => new Kept(this.context)).take(event);
    else if (type === "error") this.failed(data);
  }

  /** Draws what has changed; work that is folded away waits until somebody unfolds it. */
  paint() {
    for (const part of this.dirty) {
      if (part !== this.answer && !this.workFrame.open) continue;
      part.paint();
      this.dirty.delete(part);
    }
  }

  asked(event) {
    this.task = event;
    const { text, files = [] } = event.data;
    const body = h("div.task-text", { tabindex: text.length > 1500 ? 0 : null }, text);
    const { cut } = event.data;
    if (cut) body.append(h("button.show-all", { onclick: async () => set(body, (await this.context.whole(event.seq)).data.text) }, `Show all ${count(cut.characters)} characters`));
    const bar = h(
      "div.task-bar",
      {},
      h("button.icon-button", { title: "Edit and send again", onclick: () => this.edit(body) }, icon("edit", 16), h("span.visually-hidden", {}, "Edit and send again")),
      copyButton(() => text, "Copy the task"),
    );
    const names = files.map((path) => h("li.file-chip", {}, icon("file", 14), String(path).split("/").pop()));
    this.element.prepend(
      h("div.task", {}, h("h2.visually-hidden", {}, "Task"), body, names.length > 0 && h("ul.files", {}, names), bar),
    );
  }

  edit(body) {
    const field = h("textarea", { rows: 3, "aria-label": "The task", value: this.task.data.text });
    const send = () => this.context.act("again", { text: field.value, after: this.task.seq });
    const undo = () => form.replaceWith(body);
    const keys = (event) => {
      if (event.key === "Escape") undo();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    };
    field.addEventListener("keydown", keys);
    const form = h(
      "div.task-edit",
      {},
      field,
      h("p.note", {}, "It goes on from before this task, in a session of its own; this one stays as it is."),
      h("div.row", {}, h("button.primary", { onclick: send }, "Send"), h("button.quiet", { onclick: undo }, "Cancel")),
    );
    body.replaceWith(form);
    field.focus();
  }

  stream(event) {
    const { type, data } = event;
    const key = `${type} ${data.step ?? ""} ${data.stream ?? ""}`;
    // stdout and stderr share a block; an output after other work begins a new one
    const name = type === "output" ? `output ${data.step ?? ""}` : key;
    const part = this.part(name, () => new STREAMS[type](this.context));
    if (type !== "thought") this.parts.get(`thought ${data.step ?? ""} `)?.over(event.at);
    part.take(event);
    this.dirty.add(part);
  }

  tool(event) {
    const { id, tool, step, arguments: given } = event.data;
    const key = `tool ${id}`;
    if (event.type === "tool_call" && !this.parts.has(key)) {
      // the same call once more in this step takes the line of the one before, when that has ended
      const same = `call ${step} ${tool} ${JSON.stringify(given)}`;
      const before = this.parts.get(same);
      if (before?.ended?.ok) this.parts.set(key, before);
      else this.parts.set(same, this.part(key, () => new ToolCall(this.context)));
    }
    const part = this.part(key, () => new ToolCall(this.context));
    part.take(event);
    const { run } = part.progress;
    if (!run || this.runs.get(run) === part) return;
    this.runs.get(run)?.progress.giveWay();
    this.parts.get(`job ${run}`)?.element.remove();
    this.runs.set(run, part);
  }

  /** The call that a job event is about: it works itself, or its result told of that run. */
  watched({ id, run }) {
    return this.parts.get(`tool ${id}`) || this.runs.get(run) || this.runs.get(id);
  }

  approval(event) {
    const { data } = event;
    const key = `approval ${data.id}`;
    if (data.decision === "ask") this.part(key, () => new Approval(this.context)).ask(event);
    else if (this.parts.has(key)) this.parts.get(key).settled(data);
    else if (data.decision === "deny") this.part(key, () => new Approval(this.context)).settled(data);
  }

  failed(data) {
    if (!data.fatal) return this.add(new ErrorNote(data, this.context).element);
    this.fatal = data;
    this.result.append(new ErrorNote(data, this.context, () => this.again()).element);
  }

  answered(event) {
    this.answer ??= new Answer(this.context);
    if (!this.answer.element.isConnected) this.result.append(this.answer.element);
    this.answer.take(event);
    this.dirty.add(this.answer);
  }

  answerText() {
    return this.answer?.text() || "";
  }

  used(data) {
    this.tokens.in += data.input_tokens;
    this.tokens.out += data.output_tokens;
    if (data.usd === undefined || data.usd === null) this.tokens.known = false;
    else this.tokens.usd += data.usd;
  }

  stands(data, at, live) {
    if (data.detail?.plan) this.part("plan", () => new Plan()).take(data.detail.plan);
    if (!(data.state in ENDS) || !this.task) return;
    for (const part of this.parts.values()) part.over?.(at, data.state);
    this.ended = data.state;
    const { in: into, out, usd, known } = this.tokens;
    const facts = [ENDS[data.state], duration(at - this.began), this.steps && `${this.steps} step${this.steps > 1 ? "s" : ""}`];
    if (into + out) facts.push(`${count(into + out)} tokens`);
    if (known && into) facts.push(money(usd));
    set(
      this.foot,
      h(`span.end.${data.state}`, { title: `${data.state} at ${clock(at)}` }, facts.filter(Boolean).join(" · ")),
      data.state !== "failed" && data.reason && data.reason !== this.fatal?.text && h("span.reason", {}, data.reason),
      h("span.grow"),
      this.answer && copyButton(() => this.answerText(), "Copy the answer"),
      h("button.icon-button", { title: "Try again", onclick: () => this.again() }, icon("retry", 16), h("span.visually-hidden", {}, "Try again")),
    );
    if (!live) this.summary();
  }

  again() {
    this.context.act("again", { text: this.task.data.text, after: this.task.seq, files: this.task.data.files });
  }

  /** Another turn follows: the work folds away. */
  past() {
    this.workFrame.open = false;
    this.summary();
  }

  summary() {
    const took = this.began && this.last ? ` · ${duration(this.last - this.began)}` : "";
    this.workFrame.firstElementChild.textContent = `Work${this.steps ? ` in ${this.steps} step${this.steps > 1 ? "s" : ""}` : ""}${took}`;
  }

  part(key, make) {
    let part = this.parts.get(key);
    if (!part) {
      part = make();
      this.parts.set(key, part);
      this.add(part.element);
    }
    return part;
  }

  add(element) {
    this.workFrame.hidden = false;
    this.work.append(element);
  }
}
