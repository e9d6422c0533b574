// Everything a session made: a list, a preview by kind, each to download and all as one file.
import { get, part, url } from "../lib/api.js";
import { h, set } from "../lib/dom.js";
import { codeBlock } from "../lib/code.js";
import { bytes } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { markdown } from "../lib/markdown.js";
import { tableOf } from "../lib/table.js";

const PICTURE = /\.(png|jpe?g|webp|gif)$/i;
const TEXT = /\.(txt|md|log|py|json|jsonl|csv|tsv|toml|ya?ml|sh|html?|xml|svg)$/i;
const MOST = 2_000_000; // bytes that are fetched to be looked at
const ICONS = { plot: "chart", image: "chart", table: "table", report: "report" };

export class Artifacts {
  constructor(context) {
    this.context = context;
    this.list = h("ul.artifacts");
    this.all = h("a.button.quiet", { hidden: true, download: "" }, icon("download", 16), "All");
    this.overview = h("div", {}, h("div.row", {}, h("h2", {}, "Artifacts"), h("span.grow"), this.all), this.list);
    this.element = h("div.artifacts-panel", {}, this.overview);
    this.found = [];
  }

  session(id) {
    this.id = id;
    this.found = [];
    this.drawn = null;
    set(this.element, this.overview);
    this.draw();
    if (this.shown) this.refresh();
  }

  visible(yes) {
    this.shown = yes;
    if (yes) this.refresh();
  }

  changed() {
    if (!this.shown) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), 300);
  }

  async refresh() {
    const id = this.id;
    if (!id) return this.draw();
    try {
      const found = await get(`sessions/${part(id)}/artifacts`);
      if (id !== this.id) return;
      this.found = found;
      this.draw();
    } catch (problem) {
      set(this.list, h("li.error-text", {}, problem.message));
    }
  }

  address(seq, view) {
    return url(`sessions/${part(this.id)}/artifacts/${seq}`, view ? { view: 1 } : {}).href;
  }

  draw() {
    const key = JSON.stringify(this.found);
    if (key === this.drawn) return;
    this.drawn = key;
    this.all.hidden = this.found.length === 0;
    if (this.id) this.all.href = url(`sessions/${part(this.id)}/artifacts.zip`).href;
    set(
      this.list,
      this.found.map((one) =>
        h(
          "li.artifact",
          {},
          h("button.artifact-open", { onclick: () => this.open(one) }, PICTURE.test(one.name) ? h("img", { src: this.address(one.seq, true), alt: "", loading: "lazy" }) : h("span.artifact-icon", {}, icon(ICONS[one.kind] || "file", 22)), h("span.artifact-title", {}, one.title || one.name), h("span.faint", {}, [one.kind, bytes(one.size), one.step && `step ${one.step}`].filter(Boolean).join(" · "))),
          h("a.icon-button", { href: this.address(one.seq), download: one.name, title: `Download ${one.name}` }, icon("download", 16), h("span.visually-hidden", {}, `Download ${one.name}`)),
        ),
      ),
      this.found.length === 0 && h("li.empty", {}, icon("file", 28), h("p", {}, "Nothing made yet."), h("p.note", {}, "Pictures, tables, reports and files of this session will stand here.")),
    );
  }

  async openOne(seq) {
    await this.refresh();
    const one = this.found.find((entry) => entry.seq === seq);
    if (one) this.open(one);
  }

  async open(one) {
    const body = h("div.preview", {}, h("p.note", {}, "Loading…"));
    const back = h("button.quiet", { onclick: () => (set(this.element, this.overview), this.refresh()) }, "‹ All artifacts");
    set(this.element, h("div.row", {}, back, h("span.grow"), h("a.button.primary", { href: this.address(one.seq), download: one.name }, icon("download", 16), "Download")), h("h2", {}, one.title || one.name), h("p.faint", {}, [one.name, bytes(one.size)].filter(Boolean).join(" · ")), body);
    back.focus();
    try {
      set(body, await this.preview(one));
    } catch (problem) {
      set(body, h("p.error-text", {}, problem.message));
    }
  }

  async preview(one) {
    if (PICTURE.test(one.name)) return h("img.preview-picture", { src: this.address(one.seq, true), alt: one.title || one.name });
    if (!TEXT.test(one.name)) return h("p.note", {}, "There is no preview of this kind of file. Download it to look at it.");
    if (one.size > MOST) return h("p.note", {}, `It is ${bytes(one.size)}, too large for a preview. Download it to look at it.`);
    const answer = await fetch(this.address(one.seq));
    if (!answer.ok) throw new Error("The file could not be read. It may have been removed.");
    const text = await answer.text();
    if (/\.md$/i.test(one.name)) return markdown(text);
    if (/\.(csv|tsv)$/i.test(one.name)) return tableOf(...separated(text, one.name.toLowerCase().endsWith("tsv") ? "\t" : ","));
    if (/\.json$/i.test(one.name)) return fromJson(text);
    return codeBlock(text, one.name.split(".").pop());
  }
}

function fromJson(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return codeBlock(text, "json");
  }
  if (Array.isArray(value?.columns) && Array.isArray(value?.rows || value?.data)) return tableOf(value.columns, value.rows || value.data, undefined, value.title);
  if (Array.isArray(value) && value.length && value.every((row) => row && typeof row === "object" && !Array.isArray(row))) {
    const columns = Object.keys(value[0]);
    return tableOf(columns, value.map((row) => columns.map((name) => row[name])));
  }
  return codeBlock(JSON.stringify(value, null, 2), "json");
}

/** Comma-separated text as columns and rows, quotes respected. */
function separated(text, comma) {
  const rows = [[]];
  let field = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (quoted && sign === '"' && text[at + 1] === '"') field += text[(at += 1)];
    else if (sign === '"') quoted = !quoted;
    else if (sign === comma && !quoted) {
      rows[rows.length - 1].push(field);
      field = "";
    } else if (sign === "\n" && !quoted) {
      rows[rows.length - 1].push(field.replace(/\r$/, ""));
      field = "";
      rows.push([]);
    } else field += sign;
  }
  if (field || rows[rows.length - 1].length) rows[rows.length - 1].push(field);
  return [rows[0], rows.slice(1).filter((row) => row.length)];
}
