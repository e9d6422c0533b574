// <ms-app>: the shell. It holds which session is open and what stands beside it, and passes on what the parts ask for.
// The address tells the place (#s/ID), so a reload or a second tab shows the same; everything else comes from the server.
import "./panels/sessions.js";
import "./log/log.js";
import "./composer.js";
import "./panels/side.js";
import "./panels/settings.js";
import "./welcome.js";
import { get, part, patch, post, put, url } from "./lib/api.js";
import { h, set } from "./lib/dom.js";
import { icon, mark } from "./lib/icons.js";
import { Stream } from "./lib/stream.js";
import { Theme } from "./lib/theme.js";
import { chooseModel } from "./panels/models.js";
import { show } from "./lib/dialog.js";
import { toast } from "./lib/toast.js";

const STYLES = ["base", "shell", "log", "forms", "panels"];
const STATUS = { connecting: "Connecting", live: "", broken: "Connection lost, trying again", gone: "This session is gone" };
const ENDS = new Set(["succeeded", "failed", "cancelled", "limit", "lost"]);

class App extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    const root = this.attachShadow({ mode: "open" });
    document.documentElement.lang ||= "en";
    this.theme = new Theme(this);
    this.build();
    const sheets = STYLES.map((name) => h("link", { rel: "stylesheet", href: new URL(`css/${name}.css`, import.meta.url).href }));
    Promise.allSettled(sheets.map((sheet) => new Promise((done) => ((sheet.onload = done), (sheet.onerror = done))))).then(() => this.setAttribute("ready", ""));
    root.append(...sheets, this.frame);
    addEventListener("hashchange", () => this.route());
    document.addEventListener("keydown", (event) => this.key(event));
    this.route();
    this.notice();
  }

  /** What everybody must see first: that code cannot run here, and the cure. */
  async notice() {
    const { notice } = await get("me").catch(() => ({}));
    if (notice) this.main.firstElementChild.after(h("p.notice", { role: "status" }, icon("warn", 16), h("span", {}, notice)));
  }

  build() {
    const label = (text) => h("span.visually-hidden", {}, text);
    this.sessions = h("ms-sessions");
    this.log = h("ms-log");
    this.composer = h("ms-composer");
    this.side = h("ms-side");
    this.settings = h("ms-settings");
    this.welcome = h("ms-welcome");
    this.heading = h("h1.title", {}, "New session");
    this.modelChip = h("button.model-chip", { title: "Change the model", onclick: () => this.models() }, icon("model", 16), h("span"));
    this.status = h("span.status", { role: "status" });
    this.sideButton = h("button.icon-button", { title: "Runs and artifacts", "aria-expanded": "false", onclick: () => this.toggleSide() }, icon("panel"), label("Runs and artifacts"));
    this.menuButton = h("button.icon-button.menu-button", { title: "Sessions", "aria-expanded": "false", onclick: () => this.toggleMenu() }, icon("menu"), label("Sessions"));
    const head = h("header.head", {}, this.menuButton, this.heading, this.status, h("span.grow"), this.modelChip, this.sideButton);
    this.main = h("main.main", {}, head, this.welcome, this.log, this.composer);
    const brand = h("div.brand", {}, mark(), h("span", {}, "Modelsmith"));
    const foot = h("div.side-foot", {}, h("button.quiet", { onclick: () => this.openSettings() }, icon("settings"), "Settings and health"), this.theme.button);
    this.nav = h("nav.nav", { "aria-label": "Sessions" }, brand, this.sessions, foot);
    this.shade = h("div.shade", { onclick: () => this.closeSheets() });
    this.toasts = h("div.toasts", { role: "status" });
    this.frame = h("div.frame", {}, h("a.skip", { href: "#", onclick: (event) => (event.preventDefault(), this.composer.focus()) }, "To the message field"), this.nav, this.main, this.side, this.shade, this.settings, this.toasts);
    this.log.use(this.context());
    this.sessions.use({ open: (id) => this.go(id), fresh: () => this.go(null), act: (name, detail) => this.act(name, detail), session: () => this.session });
    this.composer.use({ send: (text, files) => this.send(text, files), stop: () => this.stop(), act: (name, detail) => this.act(name, detail), session: () => this.session });
    this.side.use({ session: () => this.session, act: (name, detail) => this.act(name, detail), close: () => this.toggleSide(false) });
    this.settings.use({ act: (name, detail) => this.act(name, detail) });
    this.welcome.use({ pick: (text) => this.composer.draft(text), act: (name, detail) => this.act(name, detail) });
    this.addEventListener("dragover", (event) => event.preventDefault());
    this.addEventListener("drop", (event) => event.preventDefault());
    this.log.addEventListener("drawn", (event) => this.drawn(event.detail));
  }

  /** What the blocks of the log may ask of the page. */
  context() {
    const path = (...names) => `sessions/${part(this.session, ...names)}`;
    return {
      act: (name, detail) => this.act(name, detail),
      whole: (seq) => get(path("events", seq)),
      artifact: (seq, view) => url(path("artifacts", seq), view ? { view: 1 } : {}).href,
      decide: (id, decision) => post(path("approvals", id), decision),
      script: async (run) => (await get(`runs/${part(run)}`)).script,
      openRun: (run) => this.act("run", { run }),
      metric: (data) => this.side.metric(data),
      picture: (run) => (target) => {
        const name = String(target).split("/").pop();
        const of = run || this.lastRun;
        return of && /^[\w.-]+\.(png|jpe?g|webp)$/i.test(name) && !/^[a-z]+:/i.test(target) ? url(`runs/${part(of)}/pictures/${part(name)}`).href : null;
      },
    };
  }

  // -- where we are --------------------------------------------------------------------------------------------------

  route() {
    const found = /^#s\/([\w-]+)$/.exec(location.hash);
    this.open(found ? found[1] : null);
  }

  go(id) {
    const hash = id ? `#s/${id}` : "#new";
    if (location.hash === hash) this.open(id);
    else location.hash = hash;
    this.toggleMenu(false);
  }

  open(id) {
    if (id === this.session && id && this.stream) return;
    this.stream?.close();
    this.stream = null;
    this.session = id;
    this.lastRun = null;
    this.log.clear();
    this.log.hidden = !id;
    this.welcome.hidden = Boolean(id);
    this.name(id ? "" : "New session");
    this.running(false);
    this.showModel(null);
    this.side.session(id);
    this.sessions.mark(id);
    this.composer.session(id);
    set(this.status);
    if (!id) return void (matchMedia("(pointer: fine)").matches && this.composer.focus());
    this.stream = new Stream(id, {
      onevents: (events) => this.log.feed(events),
      onlive: () => this.log.caughtUp(),
      onstatus: (status) => this.connection(status),
    });
  }

  name(title) {
    this.heading.textContent = title || "Session";
    document.title = title && this.session ? `${title} · Modelsmith` : "Modelsmith";
  }

  connection(status) {
    this.setAttribute("connection", status);
    set(this.status, STATUS[status] && h("span", {}, STATUS[status]));
    if (status === "gone") this.sessions.refresh();
  }

  drawn(events) {
    for (const { type, data } of events) {
      if (type === "state") this.running(!ENDS.has(data.state) && data.state !== "idle", data.state);
      if (type === "state" && data.detail?.model) this.showModel(data.detail);
      if (type === "job" && data.run) this.lastRun = data.run;
      if (type === "tool_result" && data.ok && typeof data.result?.run === "string") this.lastRun = data.result.run;
      if (type === "task" && this.heading.textContent === "Session") this.name(data.text.split("\n")[0].slice(0, 80));
    }
    this.side.heard(events);
    if (this.log.live && events.some((event) => event.type === "state" || event.type === "task")) this.sessions.refresh();
  }

  running(yes, state) {
    this.toggleAttribute("running", yes);
    this.composer.running(yes, state);
  }

  showModel(detail) {
    this.model = detail;
    const name = detail?.model || this.defaultModel || "choose a model";
    this.modelChip.lastElementChild.textContent = name;
    this.modelChip.title = detail?.why ? `${name}: ${detail.why}. Change the model` : "Change the model";
    this.composer.note(detail?.model === "recipes" ? "Recipes are rules, no language model: they do a few fixed tasks and say which." : "");
  }

  showDefault(model) {
    this.defaultModel = model;
    if (!this.model) this.showModel(null);
  }

  // -- what is asked -------------------------------------------------------------------------------------------------

  async send(text, files) {
    // a session made for a task that was then refused is taken for the next try
    let id = this.session || this.made;
    try {
      if (!id) id = this.made = (await post("sessions")).id;
      const names = [];
      for (const file of files) names.push((await this.composer.upload(id, file)).name);
      await post(`sessions/${part(id)}/tasks`, { text: named(text, names), files: names });
      if (id === this.made) this.made = null;
      if (id !== this.session) this.go(id);
      this.log.toEnd(true);
      this.sessions.refresh();
      return true;
    } catch (problem) {
      this.tell(problem.message);
      return false;
    }
  }

  async stop() {
    await this.try(() => post(`sessions/${part(this.session)}/stop`));
  }

  async again({ text, after }) {
    const made = await this.try(() => post(`sessions/${part(this.session)}/tasks`, { text, after, files: [] }));
    if (made?.id && made.id !== this.session) this.go(made.id);
    this.sessions.refresh();
  }

  async act(name, detail = {}) {
    if (name === "again") return this.again(detail);
    if (name === "settings") return this.openSettings(detail.tab);
    if (name === "models") return this.models();
    if (name === "default") return this.showDefault(detail.model);
    if (name === "run" || name === "artifact" || name === "runs" || name === "artifacts" || name === "talk") {
      this.toggleSide(true);
      return this.side.show(name, detail);
    }
    if (name === "help") return this.help(detail.commands);
    if (name === "cost") return this.tell(this.log.cost());
    if (name === "new") return this.go(null);
    if (name === "stop") return this.stop();
    if (name === "tell") return this.tell(detail.text);
    if (name === "titled" && detail.id === this.session) return this.name(detail.title);
    if (name === "deleted" && detail.id === this.session) return this.go(null);
    if (name === "model") return this.setModel(detail.spec);
    if (name === "export" && this.session) return location.assign(url(`sessions/${part(this.session)}/export`, { format: detail.format || "html" }));
    if (name === "rename" && this.session && detail.title) {
      await this.try(() => patch(`sessions/${part(this.session)}`, { title: detail.title }));
      this.name(detail.title);
      this.sessions.refresh();
    }
  }

  help(commands) {
    const keys = [["Enter", "send"], ["Shift Enter", "break the line"], ["Ctrl K", "search the sessions"], ["Ctrl J", "to the message field"], ["Esc", "close what is open"]];
    show(this.frame, "Commands and keys", [
      h("dl.facts", {}, commands.map((one) => [h("dt", {}, h("code", {}, `/${one.name}`)), h("dd", {}, one.what)])),
      h("dl.facts", {}, keys.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    ]);
  }

  async models() {
    const spec = await chooseModel(this.frame, this.model?.model || this.defaultModel);
    if (spec) await this.setModel(spec);
  }

  async setModel(spec) {
    const path = this.session ? `sessions/${part(this.session)}/model` : "settings";
    const done = await this.try(() => put(path, this.session ? { spec } : { model: spec }).then(() => true));
    if (!done) return;
    this.tell(this.session ? `${spec} answers from the next task on.` : `${spec} answers from now on.`);
    if (!this.session) this.defaultModel = spec;
    if (!this.session) this.showModel(null);
  }

  async try(work) {
    try {
      return (await work()) ?? true;
    } catch (problem) {
      this.tell(problem.message);
      return null;
    }
  }

  tell(text) {
    toast(this.toasts, text);
  }

  // -- sheets --------------------------------------------------------------------------------------------------------

  toggleMenu(yes = !this.hasAttribute("menu")) {
    this.toggleAttribute("menu", yes);
    this.menuButton.setAttribute("aria-expanded", String(yes));
    if (yes) this.sessions.focus();
  }

  toggleSide(yes = !this.hasAttribute("side")) {
    const opened = yes && !this.hasAttribute("side");
    this.toggleAttribute("side", yes);
    this.sideButton.setAttribute("aria-expanded", String(yes));
    this.side.visible(yes, opened);
  }

  openSettings(tab) {
    this.closeSheets();
    this.settings.open(tab);
  }

  closeSheets() {
    this.toggleMenu(false);
    if (matchMedia("(max-width: 1100px)").matches) this.toggleSide(false);
  }

  key(event) {
    if (event.key === "Escape" && !event.defaultPrevented) this.closeSheets();
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    if (event.key === "k") this.sessions.search();
    else if (event.key === "j") this.composer.focus();
    else return;
    event.preventDefault();
  }
}

/** A task that came with files names them, so that everybody who reads it knows which are meant. */
function named(text, names) {
  const missing = names.filter((name) => !text.includes(name));
  return missing.length ? `${text} (${missing.map((name) => `uploads/${name}`).join(", ")})` : text;
}

customElements.define("ms-app", App);
// At once, over Gradio's frame, which needs longer to come up than the page may take.
document.body.append(document.createElement("ms-app"));
