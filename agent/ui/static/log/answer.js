// The answer of a turn: Markdown that grows, or a tool's envelope shown as it is.
import { h, set } from "../lib/dom.js";
import { codeBlock } from "../lib/code.js";
import { markdown } from "../lib/markdown.js";
import { count } from "../lib/format.js";
import { envelope } from "./envelope.js";

const AT_ONCE = 300_000;

export class Answer {
  constructor(context) {
    this.context = context;
    this.pieces = [];
    this.body = h("div.answer-body");
    this.element = h("div.answer", {}, h("h2.visually-hidden", {}, "Answer"), this.body);
  }

  take(event) {
    if (event.data.envelope) this.whole = event.data.envelope;
    else this.pieces.push(event.data.text || "");
    if (event.data.cut) this.fetch(event);
  }

  text() {
    if (!this.whole) return this.pieces.join("");
    return this.whole.markdown || this.whole.text || JSON.stringify(this.whole, null, 2);
  }

  paint() {
    set(this.body, this.whole ? envelope(this.whole, this.context) : markdown(this.text(), this.context.picture?.()));
    if (this.cut) this.body.append(this.more());
  }

  /** A long answer comes as its two ends; the whole is fetched at once unless it is monstrous. */
  fetch(event) {
    this.cut = { seq: event.seq, at: this.pieces.length - 1, size: event.data.cut.characters };
    if (this.cut.size <= AT_ONCE) this.showAll();
  }

  more() {
    return h("button.show-all", { onclick: () => this.showAll() }, `Show all ${count(this.cut.size)} characters`);
  }

  async showAll() {
    const { seq, at } = this.cut;
    try {
      const { data } = await this.context.whole(seq);
      this.cut = null;
      if (data.envelope) this.whole = data.envelope;
      else this.pieces[at] = data.text;
      const text = this.text();
      // a monstrous text is no Markdown
      if (!this.whole && text.length > AT_ONCE) set(this.body, codeBlock(text, "text"));
      else this.paint();
    } catch (problem) {
      this.body.append(h("p.error-text", {}, problem.message));
    }
  }
}
