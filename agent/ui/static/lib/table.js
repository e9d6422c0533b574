// Tables of any size: the first rows at once, more on demand; numbers to the right, long cells cut with all in reach.
import { h } from "./dom.js";
import { count, short } from "./format.js";

const FIRST = 30;
const MORE = 300;
const MOST_COLUMNS = 60;
const CELL = 300;

/** text(value) makes a cell's nodes; left out, values are shown as they are. */
export function tableOf(columns, rows, text = plain, title = "", note = "") {
  const shown = columns.slice(0, MOST_COLUMNS);
  const numeric = shown.map((_, at) => rows.length > 0 && rows.slice(0, 20).every((row) => number(row[at])));
  const body = h("tbody");
  const more = h("button.quiet", { onclick: grow });
  const frame = h(
    "div.table-frame.scroll",
    { tabindex: 0, role: "group", "aria-label": title || "table" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, shown.map((name, at) => h(numeric[at] ? "th.number" : "th", { scope: "col" }, text(String(name)))))),
      body,
    ),
  );
  let drawn = 0;
  const made = h("figure.table", {}, title && h("figcaption", {}, title), frame, more);
  if (columns.length > shown.length) made.append(h("p.note", {}, `${count(columns.length - shown.length)} more columns are not shown.`));
  if (note) made.append(h("p.note", {}, note));
  draw(FIRST);
  return made;

  function grow() {
    draw(MORE);
    if (!more.isConnected) frame.focus();
  }

  function draw(how) {
    const next = rows.slice(drawn, drawn + how);
    body.append(...next.map((row) => h("tr", {}, shown.map((_, at) => h(numeric[at] ? "td.number" : "td", {}, cell(row[at]))))));
    drawn += next.length;
    const left = rows.length - drawn;
    if (left > 0) more.textContent = `${count(left)} more rows`;
    else more.remove();
  }

  function cell(value) {
    if (typeof value !== "string" && text === plain) return plain(value);
    const told = String(value ?? "");
    return told.length > CELL ? h("details.cell", {}, h("summary", {}, told.slice(0, CELL) + "…"), told) : text(told);
  }
}

function number(value) {
  return typeof value === "number" || (typeof value === "string" && value.length < 40 && /^\s*[-+$]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?\s*$/i.test(value));
}

function plain(value) {
  if (typeof value === "number") return short(value);
  if (value === null || value === undefined) return h("span.faint", {}, "–");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
