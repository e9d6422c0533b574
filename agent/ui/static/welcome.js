// <ms-welcome>: what a newcomer sees: one question, tasks to begin with, and a plain word where no model answers.
import { get } from "./lib/api.js";
import { h, set } from "./lib/dom.js";
import { icon } from "./lib/icons.js";

class Welcome extends HTMLElement {
  use(context) {
    this.context = context;
  }

  async connectedCallback() {
    if (this.list) return;
    this.list = h("ul.examples");
    this.model = h("p.welcome-model");
    this.append(
      h("div.welcome", {}, h("p.welcome-title", {}, "What shall we make?"), h("p.welcome-text", {}, "Say it in your own words, or drop a dataset here. You see every step, and nothing costs or leaves this machine without your yes."), this.list, this.model),
    );
    const [examples, models] = await Promise.allSettled([get("examples"), get("models")]);
    if (examples.status === "fulfilled") {
      set(this.list, examples.value.slice(0, 6).map(({ title, text }) => h("li", {}, h("button.example", { onclick: () => this.context.pick(text) }, h("strong", {}, title), h("span", {}, text)))));
    }
    if (models.status === "fulfilled") {
      this.tellModel(models.value);
      this.context.act("default", { model: models.value.current?.label });
    }
  }

  tellModel({ current }) {
    if (current?.label && current.label !== "recipes") return;
    const why = current?.label ? "No language model answers here yet. Recipes, which are rules, do a few fixed tasks." : current?.why;
    set(this.model, icon("model", 16), h("span", {}, why || "No language model answers here yet."), h("button.link", { onclick: () => this.context.act("models") }, "Choose a model"));
  }
}

customElements.define("ms-welcome", Welcome);
