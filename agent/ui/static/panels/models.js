// Which model answers, which others answer here, and a field for any other; chooseModel() gives what was chosen or null.
import { get } from "../lib/api.js";
import { h, set } from "../lib/dom.js";
import { show } from "../lib/dialog.js";
import { icon } from "../lib/icons.js";

export function chooseModel(place, now) {
  return new Promise((answer) => {
    const list = h("ul.models", {}, h("li.note", {}, "Looking for model servers…"));
    const field = h("input", { type: "text", placeholder: "http://localhost:8000/v1, ollama/qwen3-coder, hf/ORG/NAME", "aria-label": "Another model" });
    const form = h("form.row", { onsubmit: (event) => (event.preventDefault(), field.value.trim() && made.close(field.value.trim())) }, field, h("button.primary", {}, "Use"));
    const made = show(place, "The model", [
      now && h("p", {}, "Now: ", h("strong", {}, now)),
      list,
      h("h3", {}, "Another one"),
      form,
      h("p.note", {}, "A URL of an OpenAI-compatible server, ollama/NAME, lmstudio/NAME, vllm/NAME, llamacpp, hf/ORG/NAME, transformers/PATH or recipes. Keys belong in the settings file, never here."),
    ]);
    made.addEventListener("close", () => answer(made.returnValue || null));
    get("models").then(
      ({ current, choices }) => set(list, rows(choices, made, now || current?.label)),
      (problem) => set(list, h("li.error-text", {}, problem.message)),
    );
  });
}

function rows(choices, made, now) {
  return choices.map(({ spec, label, what, ok }) =>
    h("li", {}, h("button.model", { disabled: ok === false, "aria-pressed": String(spec === now || label === now), onclick: () => made.close(spec) }, icon(ok === false ? "warn" : "model", 16), h("strong", {}, label), h("span", {}, what || ""))),
  );
}
