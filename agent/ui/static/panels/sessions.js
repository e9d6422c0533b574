// <ms-sessions>: the list with search; each can be renamed, pinned, exported and deleted. It looks again every few
// seconds while the page is visible, because other tabs and terminals make sessions too.
import { get, part, patch, remove, url } from "../lib/api.js";
import { h, set, arrows } from "../lib/dom.js";
import { ago } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { ask, confirm } from "../lib/dialog.js";
import { openMenu } from "../lib/menu.js";

const EVERY = 3000;

class Sessions extends HTMLElement {
  use(context) {
    this.context = context;
  }

  connectedCallback() {
    if (this.list) return;
    this.fresh = h("button.new", { onclick: () => this.context.fresh() }, icon("plus"), "New session");
    this.field = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the sessions", oninput: () => this.later() });
    this.list = h("ul.session-list", { onkeydown: (event) => arrows(event, [...this.list.querySelectorAll("a")]) });
    this.append(this.fresh, h("div.search", {}, icon("search", 16), this.field), this.list);
    this.refresh();
    setInterval(() => !document.hidden && this.refresh(), EVERY);
    document.addEventListener("visibilitychange", () => !document.hidden && this.refresh());
  }

  focus() {
    this.fresh.focus();
  }

  search() {
    this.closest("nav").getRootNode().host.toggleMenu(true);
    this.field.focus();
    this.field.select();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), 150);
  }

  mark(id) {
    for (const link of this.list.querySelectorAll("a")) link.toggleAttribute("aria-current", link.dataset.id === id);
  }

  async refresh() {
    if (this.asking) return void (this.again = true);
    this.asking = true;
    const query = this.field.value.trim();
    try {
      const found = await get("sessions", { q: query });
      if (query === this.field.value.trim()) this.draw(found, query);
    } catch {
      // the connection's state is told at the top; the list stays as it was
    } finally {
      this.asking = false;
      if (this.again) {
        this.again = false;
        this.refresh();
      }
    }
  }

  draw(found, query) {
    const key = JSON.stringify([found, query, Math.floor(Date.now() / 60_000)]);
    if (key === this.drawn) return;
    this.drawn = key;
    const held = this.getRootNode().activeElement?.closest?.("li")?.dataset.id;
    const groups = query ? [["Found", found]] : grouped(found);
    set(
      this.list,
      groups.map(([name, sessions]) => sessions.length > 0 && h("li.group", {}, h("h2", {}, name), h("ul", {}, sessions.map((one) => this.row(one))))),
      found.length === 0 && h("li.note", {}, query ? "Nothing found." : "Your sessions will stand here."),
    );
    const open = found.find((one) => one.id === this.context.session());
    if (open?.title) this.context.act("titled", { id: open.id, title: open.title });
    if (held) this.list.querySelector(`li[data-id="${CSS.escape(held)}"] a`)?.focus();
  }

  row(one) {
    const title = one.title || "New session";
    const dot = one.running ? h("span.dot.live", { title: one.state === "waiting" ? "waits for you" : "running" }) : one.state === "failed" || one.state === "lost" ? h("span.dot.bad", { title: one.state }) : null;
    const state = one.running ? (one.state === "waiting" ? "waits for you" : "running") : ago(one.updated);
    const here = one.id === this.context.session();
    return h(
      "li.session",
      { "data-id": one.id },
      h("a", { href: `#s/${one.id}`, "data-id": one.id, "aria-current": here && "page", onclick: (event) => this.opened(event, one.id) }, dot, h("span.session-title", {}, title), one.pinned && icon("pin", 12), h("span.session-when", {}, state)),
      h("button.icon-button.tiny", { title: `More for ${title}`, "aria-haspopup": "menu", onclick: (event) => this.menu(event.currentTarget, one) }, icon("more", 16), h("span.visually-hidden", {}, `More for ${title}`)),
    );
  }

  opened(event, id) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.context.open(id);
  }

  menu(button, one) {
    const path = `sessions/${part(one.id)}`;
    const place = this.getRootNode().querySelector(".frame");
    const change = (what) => this.try(() => patch(path, what));
    const download = (format) => () => location.assign(url(`${path}/export`, { format }));
    openMenu(button, [
      ["edit", "Rename", async () => {
        const title = await ask(place, "Rename the session", one.title || "");
        if (title && (await change({ title }))) this.context.act("titled", { id: one.id, title });
      }],
      ["pin", one.pinned ? "Unpin" : "Pin", () => change({ pinned: !one.pinned })],
      ["share", "Share as an HTML file", download("html")],
      ["download", "Export as Markdown", download("md")],
      ["download", "Export as JSON lines", download("jsonl")],
      ["trash", "Delete", async () => {
        if (!(await confirm(place, "Delete this session?", `“${one.title || one.id}” and all its events are deleted. Runs and their models stay.`, "Delete"))) return;
        if (await this.try(() => remove(path))) this.context.act("deleted", { id: one.id });
      }],
    ]);
  }

  async try(work) {
    try {
      await work();
      return true;
    } catch (problem) {
      this.context.act("tell", { text: problem.message });
      return false;
    } finally {
      this.refresh();
    }
  }
}

function grouped(found) {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const pinned = found.filter((one) => one.pinned);
  const rest = found.filter((one) => !one.pinned);
  return [
    ["Pinned", pinned],
    ["Today", rest.filter((one) => one.updated >= midnight)],
    ["Last seven days", rest.filter((one) => one.updated < midnight && one.updated >= midnight - 6 * 86400)],
    ["Earlier", rest.filter((one) => one.updated < midnight - 6 * 86400)],
  ];
}

customElements.define("ms-sessions", Sessions);
