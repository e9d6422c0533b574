// <ms-composer>: the field at the bottom. Enter sends, Shift+Enter breaks the line, "/" offers commands, files may be
// dropped anywhere on the page. What was typed and not sent survives a reload of the tab.
import { get, part, upload } from "./lib/api.js";
import { h, set } from "./lib/dom.js";
import { bytes } from "./lib/format.js";
import { icon } from "./lib/icons.js";
import { Completion } from "./completion.js";

// What this page does itself; the server's list names more of them, and every skill.
const OWN = [
  { name: "runs", what: "show the trainings" },
  { name: "artifacts", what: "show what was made" },
  { name: "settings", what: "settings, skills and health" },
];
const ACTS = new Set(["help", "new", "model", "cost", "stop", "export", "rename", ...OWN.map((one) => one.name)]);

class Composer extends HTMLElement {
  use(context) {
    this.context = context;
  }

  connectedCallback() {
    if (this.field) return;
    this.files = [];
    this.field = h("textarea", { rows: 1, placeholder: "Say what you want to make…", "aria-label": "Message", "aria-describedby": "composer-hint" });
    this.picker = h("input.visually-hidden", { type: "file", multiple: true, tabindex: -1, "aria-label": "Add files" });
    this.chips = h("ul.files");
    this.sendButton = h("button.send", { title: "Send (Enter)", onclick: () => this.submit() }, icon("send"), h("span.visually-hidden", {}, "Send"));
    this.stopButton = h("button.send.stop", { title: "Stop this turn", hidden: true, onclick: () => this.halt() }, icon("stop"), h("span.visually-hidden", {}, "Stop"));
    const clip = h("button.icon-button", { title: "Add files", onclick: () => this.picker.click() }, icon("clip"), h("span.visually-hidden", {}, "Add files"));
    this.hint = h("p.hint", { id: "composer-hint" });
    const box = h("div.composer-box", {}, this.chips, h("div.composer-row", {}, clip, this.field, this.sendButton, this.stopButton));
    this.completion = new Completion(this.field, box, (name) => this.take(name));
    this.append(box, this.hint, this.picker);
    this.field.addEventListener("input", () => this.typed());
    this.field.addEventListener("keydown", (event) => this.key(event));
    this.field.addEventListener("paste", (event) => this.add(event.clipboardData.files));
    this.picker.addEventListener("change", () => (this.add(this.picker.files), (this.picker.value = "")));
    const app = this.getRootNode().host;
    app.addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && app.setAttribute("dropping", ""));
    app.addEventListener("dragleave", (event) => event.relatedTarget || app.removeAttribute("dropping"));
    app.addEventListener("drop", (event) => (app.removeAttribute("dropping"), this.add(event.dataTransfer?.files || [])));
    get("commands").then((known) => ((this.commands = known), this.field.value.startsWith("/") && this.typed()), () => {});
    this.tell();
  }

  focus() {
    this.field.focus();
  }

  draft(text) {
    this.field.value = text;
    this.typed();
    this.focus();
  }

  session(id) {
    this.key_ = `modelsmith-draft-${id || "new"}`;
    this.files = [];
    this.drawFiles();
    let kept = "";
    try {
      kept = sessionStorage.getItem(this.key_) || "";
    } catch {
      // no storage, no draft
    }
    this.field.value = kept;
    this.grow();
  }

  running(yes, state) {
    this.busy = yes;
    this.state = state;
    this.stopButton.hidden = !yes;
    this.sendButton.hidden = yes;
    this.stopButton.disabled = false;
    this.tell();
  }

  note(text) {
    this.said = text;
    this.tell();
  }

  tell() {
    const now = this.state === "waiting" ? "Waits for your decision above." : "It works. You can leave: the run goes on.";
    set(this.hint, this.busy ? now : this.said || "Enter sends, Shift+Enter breaks the line, / shows the commands.");
  }

  typed() {
    this.grow();
    try {
      sessionStorage.setItem(this.key_, this.field.value);
    } catch {
      // no storage, no draft
    }
    const found = /^\/([\w-]*)$/.exec(this.field.value);
    this.completion.offer(found ? this.known().filter((one) => one.name.startsWith(found[1])) : []);
  }

  known() {
    const told = (this.commands || []).map((one) => ({ ...one, name: one.name.replace(/^\//, "") }));
    return [...told.filter((one) => ACTS.has(one.name)), ...OWN, ...told.filter((one) => !ACTS.has(one.name))];
  }

  grow() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, 240)}px`;
  }

  key(event) {
    if (this.completion.key(event)) return;
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    }
  }

  take(name) {
    if (!ACTS.has(name) || name === "rename") return this.draft(`/${name} `);
    this.clear();
    this.command(name, "");
  }

  clear() {
    this.field.value = "";
    this.typed();
  }

  command(word, rest) {
    if (word === "model") return rest ? this.context.act("model", { spec: rest }) : this.context.act("models");
    if (word === "rename") return this.context.act("rename", { title: rest });
    if (word === "help") return this.context.act("help", { commands: this.known() });
    if (word === "export") return this.context.act("export", { format: rest || "html" });
    return this.context.act(word);
  }

  async submit() {
    const text = this.field.value.trim();
    const [, word, rest] = /^\/(\w+)\s*(.*)$/s.exec(text) || [];
    if (ACTS.has(word)) {
      this.clear();
      return this.command(word, rest);
    }
    if (this.busy || this.sending) return;
    if (!text) return this.files.length ? this.context.act("tell", { text: "Say what to do with the file." }) : undefined;
    this.sending = this.sendButton.disabled = true;
    const files = this.files;
    const key = this.key_;
    try {
      if (!(await this.context.send(text, files.map((entry) => entry)))) return;
      if (this.field.value.trim() === text) this.field.value = "";
      try {
        sessionStorage.removeItem(key);
      } catch {
        // no storage, no draft
      }
      this.files = [];
      this.drawFiles();
      this.grow();
    } finally {
      this.sending = this.sendButton.disabled = false;
    }
  }

  halt() {
    this.stopButton.disabled = true;
    set(this.hint, "Stopping…");
    this.context.stop();
  }

  add(files) {
    for (const file of files) this.files.push({ file, state: "" });
    this.drawFiles();
    if (files.length) this.focus();
  }

  drawFiles() {
    set(
      this.chips,
      this.files.map((entry) =>
        h("li.file-chip", {}, icon("file", 14), entry.file.name, h("span.faint", {}, entry.state || bytes(entry.file.size)), h("button.icon-button.tiny", { title: `Remove ${entry.file.name}`, onclick: () => this.drop(entry) }, icon("close", 12), h("span.visually-hidden", {}, `Remove ${entry.file.name}`))),
      ),
    );
  }

  drop(entry) {
    this.files = this.files.filter((one) => one !== entry);
    this.drawFiles();
    this.focus();
  }

  /** Sends one file, once: a second try after a mistake does not send it again. */
  async upload(session, entry) {
    entry.state = "sending…";
    this.drawFiles();
    try {
      entry.sent ??= await upload(`sessions/${part(session)}/files`, entry.file);
      entry.state = "sent";
      return entry.sent;
    } catch (problem) {
      entry.state = "not sent";
      throw problem;
    } finally {
      this.drawFiles();
    }
  }
}

customElements.define("ms-composer", Composer);
