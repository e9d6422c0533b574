// The card that asks a person: what, where, price and cap, the script to read and change; yes, yes up to an amount, or no
// with a reason. What was decided stands on it afterwards, whoever decided it.
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { codeBlock } from "../lib/code.js";
import { money, range } from "../lib/format.js";

const RISKS = { paid: "costs money", publish: "publishes", destructive: "deletes", network: "leaves this machine" };

export class Approval {
  constructor(context) {
    this.context = context;
    this.element = h("section.approval", { "aria-label": "Approval" });
  }

  async ask({ seq, data }) {
    this.data = data;
    this.draw(data);
    if (!data.cut) return;
    // a script is read as a whole or not at all
    this.busy(true);
    try {
      this.data = (await this.context.whole(seq)).data;
      if (!this.told) this.draw(this.data);
    } catch (problem) {
      this.problem.textContent = `The whole of it could not be loaded: ${problem.message}`;
      this.problem.hidden = false;
    }
  }

  draw(data) {
    const card = data.card || data;
    const script = this.script(card.arguments || {}) || {};
    this.reason = h("input", { type: "text", placeholder: "Why not? The agent is told. (optional)", "aria-label": "Reason for refusing" });
    this.cap = h("input.amount", { type: "number", min: 0, step: "0.5", value: String(card.usd_max ?? card.usd ?? 5), "aria-label": "Dollars for this session" });
    this.problem = h("p.error-text", { role: "alert", hidden: true });
    const priced = data.priced || card.risk === "paid";
    const others = Object.entries(card.arguments || {}).filter(([name]) => name !== script.name);
    this.buttons = h(
      "div.row.decide",
      {},
      h("button.primary", { onclick: () => this.send({ decision: "approve" }) }, icon("check", 16), "Approve"),
      h("button.danger", { onclick: () => this.send({ decision: "refuse", reason: this.reason.value }) }, icon("cross", 16), "Refuse"),
      this.reason,
    );
    const always =
      priced &&
      h("div.row.always", {}, h("button.quiet", { onclick: () => this.send({ decision: "approve", session_usd: Number(this.cap.value) }) }, "Approve all like this, this session, up to"), h("span.money", {}, "$", this.cap));
    const facts = [
      ["Where", card.where],
      ["Price", priced ? card.price || range(card) : null],
      ["Cap", card.minutes ? `stopped after ${card.minutes} minutes` : null],
      ["Left in the budget", card.left_usd === null || card.left_usd === undefined ? null : money(card.left_usd)],
      ["Asked by", card.origin && card.origin !== "model" ? card.origin : null],
    ].filter(([, value]) => value);
    set(
      this.element,
      h("div.approval-head", {}, icon("shield", 18), h("h3", {}, card.what || data.what), h("span.badge", {}, RISKS[card.risk || data.risk] || card.risk)),
      card.note && h("p.careful", {}, icon("warn", 16), h("span", {}, card.note)),
      h("dl.facts", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      script.element || this.ofRun(card.arguments?.run),
      others.length > 0 && h("details", {}, h("summary", {}, `${card.tool} with ${others.length} argument${others.length > 1 ? "s" : ""}`), h("dl.facts", {}, others.map(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "string" && value.includes("\n") ? codeBlock(value, "text") : h("code", {}, JSON.stringify(value)))]))),
      this.buttons,
      always,
      this.problem,
    );
    this.always = always;
  }

  /** The script of the run that this starts: it may be read and changed before the yes. */
  ofRun(run) {
    if (typeof run !== "string") return null;
    const place = h("div");
    this.context.script(run).then((text) => text && !this.told && set(place, this.shown(text, true)), () => {});
    return place;
  }

  /** An argument that is a program can be read. */
  script(given) {
    const name = ["script", "code", "source"].find((key) => typeof given[key] === "string" && given[key].includes("\n"));
    return name && { name, element: this.shown(given[name], false) };
  }

  shown(text, changeable) {
    const field = h("textarea.script", { rows: 14, spellcheck: "false", "aria-label": "The script", value: text });
    const view = h("div", {}, codeBlock(text, "python"));
    const edit = h("button.quiet", { onclick: () => (set(view, field), field.focus(), edit.remove()) }, icon("edit", 16), "Edit before approving");
    this.edited = () => (field.isConnected && field.value !== text ? field.value : undefined);
    const count = text.split("\n").length;
    return h("details.script", { open: count < 30 }, h("summary", {}, `The script (${count} lines)`), view, changeable && edit);
  }

  async send(decision) {
    const changed = decision.decision === "approve" ? this.edited?.() : undefined;
    this.busy(true);
    try {
      await this.context.decide(this.data.id, changed === undefined ? decision : { ...decision, script: changed });
    } catch (problem) {
      this.problem.textContent = problem.message;
      this.problem.hidden = false;
      this.busy(false);
    }
  }

  busy(yes) {
    for (const node of this.element.querySelectorAll("button, input")) node.disabled = yes;
  }

  settled(data) {
    if (this.told && data.decision === "settled") return;
    const yes = data.decision !== "deny";
    const what = (this.data?.card || this.data || data).what || data.what;
    const by = data.by === "person" ? "by you" : `by ${data.by}`;
    this.told = true;
    this.element.classList.add("settled", yes ? "yes" : "no");
    const words = yes ? `Approved ${by}` : `Refused ${by}`;
    const price = data.grant ? ` · like it up to ${money(data.grant.usd)} this session` : data.held ? ` · up to ${money(data.held)} held` : "";
    set(
      this.element,
      h("div.approval-head", {}, icon(yes ? "check" : "cross", 16), h("span", {}, what), h("span.grow"), h("span.faint", {}, words + price)),
      !yes && data.reason && h("p.note", {}, data.reason),
    );
  }

  over(at, state) {
    if (!state || this.told || !this.data) return;
    this.settled({ ...this.data, decision: "deny", by: "the end of the turn", reason: "The turn ended before this was decided." });
  }
}
