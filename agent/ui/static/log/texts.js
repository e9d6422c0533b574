// What streams in pieces: thoughts, code, and what running code prints. Each keeps its whole text but draws no more than
// a head and a tail; a piece that the server cut is fetched whole when somebody asks for all of it.
import { h, set } from "../lib/dom.js";
import { Ansi, overwritten } from "../lib/ansi.js";
import { copyButton, longText, LONG } from "../lib/code.js";
import { count, duration, oneLine } from "../lib/format.js";
import { highlight } from "../lib/python.js";

class Pieces {
  constructor(context) {
    this.context = context;
    this.pieces = [];
    this.size = 0;
    this.cut = false;
  }

  add(event) {
    const { text, cut } = event.data;
    this.pieces.push({ seq: event.seq, text, cut });
    this.size += cut ? cut.characters : text.length;
    this.cut ||= Boolean(cut);
  }

  text() {
    if (this.pieces.length > 1 && !this.cut) this.pieces = [{ ...this.pieces[0], text: this.pieces.map((one) => one.text).join("") }];
    return this.pieces.map((one) => one.text).join("");
  }

  async whole() {
    const texts = await Promise.all(this.pieces.map((one) => (one.cut ? this.context.whole(one.seq).then((event) => event.data.text) : one.text)));
    return texts.join("");
  }
}

export class Thought {
  constructor(context) {
    this.pieces = new Pieces(context);
    this.label = h("span.thought-label", {}, "Thinking");
    this.first = h("span.thought-first");
    this.body = h("div.thought-text");
    this.element = h("details.thought.live", { open: true }, h("summary", {}, this.label, this.first), this.body);
  }

  take(event) {
    this.began ??= event.at;
    this.pieces.add(event);
  }

  paint() {
    const text = this.pieces.text().trim();
    if (this.pieces.cut || text.length > LONG) longText(this.body, text, undefined, this.pieces.cut ? () => this.pieces.whole() : null, this.pieces.size);
    else this.body.textContent = text;
    this.first.textContent = oneLine(text, 160);
    // one line needs no unfolding
    this.element.classList.toggle("short", text.length < 110 && !text.includes("\n"));
  }

  over(at) {
    if (!this.element.classList.contains("live")) return;
    this.element.classList.remove("live");
    this.element.open = false;
    const took = at - this.began;
    this.label.textContent = took >= 1 ? `Thought for ${duration(took)}` : "Thought";
  }
}

export class Code {
  constructor(context) {
    this.pieces = new Pieces(context);
    this.pre = h("pre.scroll", { tabindex: 0, role: "group", "aria-label": "Code" });
    this.name = h("span", {}, "python");
    const copy = copyButton(() => this.pieces.text().trim(), "Copy the code");
    this.element = h("div.code-block.cell", {}, h("div.code-bar", {}, this.name, copy), this.pre);
  }

  take(event) {
    this.language = event.data.language || "python";
    this.pieces.add(event);
  }

  paint() {
    const text = this.pieces.text().replace(/^\n+/, "").trimEnd();
    const whole = this.pieces.cut ? () => this.pieces.whole() : null;
    this.name.textContent = this.language;
    longText(this.pre, text, (part) => highlight(part, this.language), whole, this.pieces.size);
  }
}

const HEAD = 2000;
const TAIL = 6000; // drawn of the end, in whole lines

export class Output {
  constructor(context) {
    this.pieces = new Pieces(context);
    this.head = h("code");
    this.hidden = h("div.cut", { hidden: true });
    this.tail = h("code");
    this.line = h("code");
    this.pre = h("pre.output.scroll", { tabindex: 0, role: "group", "aria-label": "Output" }, this.head, this.hidden, this.tail, this.line);
    this.bar = h("div.output-bar", {}, copyButton(() => this.pieces.text(), "Copy the output"));
    this.element = h("div.output-block", {}, this.pre, this.bar);
    this.fresh = [];
    this.open = { text: "", stream: "stdout" }; // the line that is being written
    this.ansi = { stdout: new Ansi(), stderr: new Ansi() };
    this.headSize = this.tailSize = this.dropped = 0;
  }

  take(event) {
    this.pieces.add(event);
    this.fresh.push({ text: event.data.text, stream: event.data.stream || "stdout" });
  }

  paint() {
    if (this.all) return;
    for (const { text, stream } of this.fresh) this.write(text, stream);
    this.fresh = [];
    const rest = overwritten(this.open.text);
    set(this.line, rest && this.shown(rest.length > LONG ? `…${rest.slice(-LONG)}` : rest, this.open.stream, new Ansi()));
    if (this.dropped || this.pieces.cut) this.tellHidden();
    this.pre.scrollTop = this.pre.scrollHeight;
  }

  write(text, stream) {
    if (stream !== this.open.stream && this.open.text) this.finish(this.open.text, this.open.stream);
    else text = this.open.text + text;
    const end = text.lastIndexOf("\n") + 1;
    this.open = { text: text.slice(end), stream };
    if (end) this.finish(text.slice(0, end), stream);
    if (this.open.text.length > 60_000) {
      this.finish(this.open.text, stream);
      this.open = { text: "", stream };
    }
  }

  /** Whole lines go to the head while there is room, then to the tail, whose beginning gives way. */
  finish(text, stream) {
    text = overwritten(text);
    const room = Math.max(0, HEAD - this.headSize);
    if (room) {
      const part = text.slice(0, room);
      this.head.append(this.shown(part, stream));
      this.headSize += part.length;
      text = text.slice(room);
    }
    if (!text) return;
    if (text.length > TAIL) {
      this.dropped += text.length - TAIL + this.tailSize;
      set(this.tail);
      this.tailSize = 0;
      text = text.slice(-TAIL);
    }
    const span = h("span", {}, this.shown(text, stream));
    span.dataset.size = text.length;
    this.tail.append(span);
    this.tailSize += text.length;
    while (this.tailSize > TAIL && this.tail.firstChild !== this.tail.lastChild) {
      const gone = Number(this.tail.firstChild.dataset.size);
      this.tail.firstChild.remove();
      this.tailSize -= gone;
      this.dropped += gone;
    }
  }

  shown(text, stream, ansi = this.ansi[stream] || new Ansi()) {
    const nodes = ansi.nodes(text);
    return stream === "stderr" ? h("span.stderr", {}, nodes) : nodes;
  }

  tellHidden() {
    this.hidden.hidden = false;
    this.button ??= h("button.show-all", { onclick: () => this.showAll() });
    if (!this.button.isConnected) this.hidden.append(this.button);
    this.button.textContent = `Show all ${count(this.pieces.size)} characters`;
  }

  async showAll() {
    this.button.disabled = true;
    this.button.textContent = "Loading…";
    try {
      const text = overwritten(await this.pieces.whole());
      this.all = true;
      set(this.pre, h("code", {}, text.length > 2_000_000 ? text : new Ansi().nodes(text)));
      this.pre.focus();
    } catch (problem) {
      this.button.disabled = false;
      this.button.textContent = `${problem.message} Try again`;
    }
  }
}

