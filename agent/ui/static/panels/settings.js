// <ms-settings>: a drawer with settings, skills and health. Only what the server lets the page change can be changed;
// secrets are never sent here, only whether they are set.
import { get, part, post, put, signIn } from "../lib/api.js";
import { h, set, arrows } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { inline } from "../lib/inline.js";
import { markdown } from "../lib/markdown.js";
import { show } from "../lib/dialog.js";

const NAMES = {
  max_usd: "Dollars a session",
  max_minutes: "Minutes a turn",
  max_steps: "Steps a turn",
  hf_token: "Hugging Face token",
  e2b_api_key: "E2B key",
  model_key: "Key of the model server",
  upload_mb: "Largest upload in MB",
};
const TABS = { settings: "Settings", skills: "Skills", health: "Health" };

class Settings extends HTMLElement {
  use(context) {
    this.context = context;
  }

  open(tab = "settings") {
    this.tabs = Object.entries(TABS).map(([name, words]) => h("button", { role: "tab", id: `settings-${name}`, "aria-controls": "settings-view", onclick: () => this.pick(name) }, words));
    this.view = h("div.settings-view", { role: "tabpanel", id: "settings-view", tabindex: 0 });
    this.dialog = show(this, "Settings and health", [h("div.tabs", { role: "tablist", "aria-label": "Settings", onkeydown: (event) => arrows(event, this.tabs) }, this.tabs), this.view], "dialog.drawer");
    this.pick(tab in TABS ? tab : "settings");
  }

  async pick(name, again) {
    this.now = name;
    Object.keys(TABS).forEach((one, at) => {
      this.tabs[at].setAttribute("aria-selected", String(one === name));
      this.tabs[at].tabIndex = one === name ? 0 : -1;
    });
    this.view.setAttribute("aria-labelledby", `settings-${name}`);
    set(this.view, h("p.note", {}, name === "health" ? "The doctor looks at everything; this takes a few seconds…" : "Loading…"));
    try {
      const shown = await this[name](again);
      if (this.now === name) set(this.view, shown);
    } catch (problem) {
      if (this.now === name) set(this.view, h("p.error-text", {}, problem.message), h("button.quiet", { onclick: () => this.pick(name) }, "Try again"));
    }
  }

  async settings() {
    const [told, me] = await Promise.all([get("settings"), get("me").catch(() => null)]);
    return [
      me?.signed_in && h("p.row", {}, `Signed in as ${me.name}`, me.can_sign_out && h("button.quiet", { onclick: () => post("../logout").finally(signIn) }, icon("out", 16), "Sign out")),
      h("div.settings-list", {}, told.map((field) => this.field(field))),
    ];
  }

  field({ key, value, what, kind, changeable, set: isSet }) {
    const label = NAMES[key] || (key || "").replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
    const said = h("span.note", { role: "status" });
    const save = async (next) => {
      try {
        await put("settings", { [key]: next });
        said.textContent = "Saved.";
      } catch (problem) {
        said.textContent = problem.message;
      }
    };
    let control;
    if (kind === "secret") control = h("span.badge", {}, isSet ? "set" : "not set");
    else if (!changeable) control = h("code", {}, value === null || value === undefined || value === "" ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
    else if (kind === "switch") control = toggle(label, value, save);
    else control = h("input", { type: kind === "number" ? "number" : "text", step: "any", min: 0, "aria-label": label, value: value ?? "", placeholder: kind === "number" ? "no limit" : "", onchange: (event) => save(event.target.type === "number" ? (event.target.value === "" ? null : Number(event.target.value)) : event.target.value || null) });
    return h("div.setting", {}, h("div", {}, h("strong", {}, label), what && what.toLowerCase() !== label.toLowerCase() && h("p.note", {}, what)), h("div.setting-control", {}, control, said));
  }

  async skills() {
    const found = await get("skills");
    return found.length ? found.map((skill) => this.skill(skill)) : h("p.note", {}, "No skills are installed.");
  }

  skill({ name, description, source, trusted, on, warnings, text }) {
    const said = h("span.note", { role: "status" });
    const change = async (next) => {
      try {
        await put(`skills/${part(name)}`, { on: next });
        said.textContent = next ? "On from the next session." : "Off from the next session.";
      } catch (problem) {
        said.textContent = problem.message;
      }
    };
    const body = h("details", { ontoggle: () => body.children.length < 2 && body.append(markdown(text)) }, h("summary", {}, "Its text"));
    return h(
      "div.setting.skill",
      {},
      h("div", {}, h("strong", {}, name), " ", source && h("span.badge", {}, source), h("p.note", {}, description), !trusted && h("p.note", {}, "Nobody has vouched for it yet. Read its text; switching it on means that you do."), (warnings || []).map((one) => h("p.note", {}, one)), text && body),
      h("div.setting-control", {}, toggle(name, on, change), said),
    );
  }

  async health(again) {
    const order = { bad: 0, warn: 1, ok: 2 };
    const words = { bad: "must be mended", warn: "needs a look", ok: "all right" };
    const found = (await get("health", again ? { again: 1 } : {})).sort((a, b) => order[a.state] - order[b.state]);
    return [
      h("div.row", {}, h("p.note", {}, `${found.filter((one) => one.state === "ok").length} of ${found.length} are all right.`), h("span.grow"), h("button.quiet", { onclick: () => this.pick("health", true) }, icon("retry", 16), "Look again")),
      h("ul.findings", {}, found.map(({ name, state, text, mend }) => h("li.finding", { "data-level": state }, icon(state === "ok" ? "check" : "warn", 18), h("div", {}, h("strong", {}, name), h("p", {}, text), mend && h("p.cure", {}, inline(mend))), h("span.visually-hidden", {}, words[state])))),
    ];
  }
}

function toggle(label, on, save) {
  return h("button.switch", { role: "switch", "aria-checked": String(Boolean(on)), "aria-label": label, onclick: ({ currentTarget: button }) => {
    const next = button.getAttribute("aria-checked") !== "true";
    button.setAttribute("aria-checked", String(next));
    save(next);
  } }, h("span"));
}

customElements.define("ms-settings", Settings);
