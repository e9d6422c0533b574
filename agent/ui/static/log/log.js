// <ms-log>: the events of one session as blocks that grow. Events are drawn together once a frame (by a timer while the
// page is hidden), and the view follows the end only while the reader is there.
import { h, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { count, money, oneLine } from "../lib/format.js";
import { Turn } from "./turn.js";

const AT_THE_END = 48; // pixels

export class Log extends HTMLElement {
  connectedCallback() {
    if (this.list) return;
    this.list = h("div.turns");
    this.end = h("button.to-end", { hidden: true, onclick: () => this.toEnd(true) }, icon("down", 16), "To the end");
    this.spoken = h("div.visually-hidden", { role: "log", "aria-live": "polite", "aria-label": "What the agent says" });
    this.scroller = h("div.log-scroll", { tabindex: 0, role: "region", "aria-label": "Conversation" }, this.list);
    this.append(this.scroller, this.end, this.spoken);
    this.scroller.addEventListener("scroll", () => this.looked(), { passive: true });
    this.growth = new ResizeObserver(() => this.following && this.toEnd());
    this.growth.observe(this.list);
    this.clear();
  }

  /** `context` is what blocks need of the page: session(), act(name, detail), artifact(seq), whole(seq). */
  use(context) {
    this.context = context;
  }

  clear() {
    this.queue = [];
    this.turn = null;
    this.following = true;
    this.live = false;
    this.list.hidden = true; // nothing is laid out before the backlog is there
    this.spent = { tokens: 0, usd: 0, unknown: false };
    this.model = null;
    set(this.list);
    set(this.spoken);
    this.end.hidden = true;
  }

  feed(events) {
    this.queue.push(...events);
    if (this.waiting) return;
    this.waiting = true;
    if (document.hidden) setTimeout(() => this.draw(), 50);
    else {
      const frame = requestAnimationFrame(() => this.draw());
      // a frame may never come: the tab may be hidden in between
      setTimeout(() => this.waiting && (cancelAnimationFrame(frame), this.draw()), 200);
    }
  }

  /** The backlog is drawn: from here on what comes is new and is spoken. */
  caughtUp() {
    this.draw();
    if (this.live) return;
    this.live = true;
    this.list.hidden = false;
    this.toEnd();
  }

  draw() {
    this.waiting = false;
    const events = this.queue;
    this.queue = [];
    if (!events.length) return;
    const touched = new Set();
    for (const event of events) touched.add(this.apply(event));
    for (const turn of touched) turn.paint();
    if (this.live && this.following) this.toEnd();
    else if (this.live) this.looked();
    this.dispatchEvent(new CustomEvent("drawn", { detail: events }));
  }

  apply(event) {
    const { type, data } = event;
    if (type === "state" && data.detail?.model) this.model = data.detail;
    if (type === "task" || !this.turn) this.begin(event);
    this.turn.take(event, this.live);
    if (type === "usage") this.used(data);
    if (this.live) this.speak(type, data);
    return this.turn;
  }

  begin(event) {
    if (event.type !== "task" && !this.turn) {
      // what is said before the first task belongs to no turn
      this.turn = new Turn(this);
    } else if (event.type === "task") {
      if (this.turn && !this.turn.task) this.turn.element.remove();
      this.turn?.past();
      this.turn = new Turn(this);
    }
    this.list.append(this.turn.element);
  }

  /** Tokens and money of the whole session, as far as they were told. */
  cost() {
    const { tokens, usd, unknown } = this.spent;
    const price = unknown ? (usd ? `${money(usd)} and more that nobody told` : "the price was not told") : money(usd);
    return tokens ? `${count(tokens)} tokens, ${price}.` : "Nothing was used in this session yet.";
  }

  used({ input_tokens: read, output_tokens: written, usd }) {
    this.spent.tokens += read + written;
    if (usd === undefined || usd === null) this.spent.unknown = true;
    else this.spent.usd += usd;
  }

  speak(type, data) {
    let said = null;
    if (type === "error" && data.fatal) said = `Error: ${data.text}`;
    if (type === "approval" && data.decision === "ask") said = `The agent asks for your approval: ${data.what}`;
    if (type === "state" && ["succeeded", "failed", "cancelled", "limit", "lost"].includes(data.state)) {
      said = data.state === "succeeded" ? `Answer: ${oneLine(this.turn.answerText(), 400)}` : `Ended: ${data.state}`;
    }
    if (said) set(this.spoken, h("p", {}, oneLine(said, 500)));
  }

  looked() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const there = scrollHeight - scrollTop - clientHeight < AT_THE_END;
    // growth moves the end away without the reader having moved
    if (there) this.following = true;
    else if (scrollTop < (this.lastTop ?? 0) - 2) this.following = false;
    this.lastTop = scrollTop;
    this.end.hidden = this.following || there;
  }

  toEnd(asked = false) {
    if (asked) this.following = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.lastTop = this.scroller.scrollTop;
    if (this.following) this.end.hidden = true;
  }
}

customElements.define("ms-log", Log);
