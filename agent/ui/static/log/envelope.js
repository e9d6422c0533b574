// A tool's result by its kind: table, plot, report, file, job, text. An unknown kind is shown as the JSON it is.
import { h } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { codeBlock } from "../lib/code.js";
import { markdown } from "../lib/markdown.js";
import { tableOf } from "../lib/table.js";
import { bytes, count, oneLine, short } from "../lib/format.js";

export const ICONS = { table: "table", plot: "chart", report: "report", file: "file", job: "job", text: "report" };

export function envelope(result, context) {
  const view = typeof result === "object" && result !== null && VIEWS[result.type];
  return view ? view(result, context) : codeBlock(typeof result === "string" ? result : JSON.stringify(result, null, 2), "json");
}

/** What came back, in a few words. */
export function inShort(result) {
  if (result === null || result === undefined) return "";
  if (typeof result !== "object") return oneLine(result, 80);
  const title = oneLine(result.title || "", 80);
  if (result.type === "table") return [title || "table", `${count((result.rows || []).length)} rows`].join(", ");
  if (result.type === "job") return [title || result.ref, result.state].filter(Boolean).join(", ");
  if (result.type === "text") return oneLine(result.text, 80);
  return title || result.type || "";
}

const VIEWS = {
  text: (result) => markdown(String(result.text ?? "")),
  report: (result, context) => h("div.report", {}, markdown(String(result.markdown ?? ""), context?.picture?.(result.run))),
  table: (result) => tableOf(result.columns || [], result.rows || [], undefined, result.title, result.note),
  plot: (result) => {
    const safe = /^[A-Za-z0-9+/=\s]+$/.test(result.png || "");
    if (!safe) return h("p.note", {}, "This plot holds no picture.");
    return h("figure.plot", {}, h("img", { src: `data:image/png;base64,${result.png}`, alt: result.title || "plot" }), result.title && h("figcaption", {}, result.title));
  },
  file: (result) => h("p.file-line", {}, icon("file", 16), h("code", {}, String(result.path ?? "")), result.size ? h("span.faint", {}, bytes(result.size)) : null),
  job: (result, context) => {
    const facts = Object.entries(result).filter(([name, value]) => !["type", "ref", "state", "title", "log", "alerts"].includes(name) && ["number", "string", "boolean"].includes(typeof value) && value !== "");
    return h(
      "div.job-facts",
      {},
      h("p", {}, result.title || result.ref),
      facts.length > 0 && h("dl.facts", {}, facts.slice(0, 24).map(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, short(value))])),
      context?.openRun && result.ref && h("button.quiet", { onclick: () => context.openRun(result.run || result.ref) }, icon("chart", 16), "Show in Runs"),
    );
  },
};
