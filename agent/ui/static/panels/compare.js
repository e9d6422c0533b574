// Several runs beside each other: their curves laid over one another and what differs between them as a table.
import { get, part } from "../lib/api.js";
import { h, set } from "../lib/dom.js";
import { markdown } from "../lib/markdown.js";
import { tableOf } from "../lib/table.js";
import { envelope } from "../log/envelope.js";
import { Curves } from "./curves.js";

export function compared(runs, back) {
  const curves = new Curves(runs);
  const table = h("div", {}, h("p.note", {}, "Comparing…"));
  const made = h("div.run", {}, h("div.row", {}, h("button.quiet", { onclick: back }, "‹ All runs")), h("h2", {}, `${runs.length} runs`), curves.element, table);
  for (const run of runs) get(`runs/${part(run)}/metrics`, { after: 0 }).then((told) => curves.add(run, told.series || {}), () => {});
  get("runs/compare", { runs: runs.join(",") }).then(
    (told) => set(table, told.type ? envelope(told, {}) : told.columns ? tableOf(told.columns, told.rows) : markdown(told.markdown || told.text || JSON.stringify(told))),
    (problem) => set(table, h("p.error-text", {}, problem.message)),
  );
  return made;
}
