// A subset of Markdown as DOM nodes: headings, paragraphs, lists, quotes, fenced code, tables, rules. Hostile text is
// harmless: HTML stays text, pictures are never loaded from elsewhere, nesting and sizes have bounds, time is linear.
import { h } from "./dom.js";
import { inline } from "./inline.js";
import { codeBlock } from "./code.js";
import { tableOf } from "./table.js";

const DEEPEST = 6;
const MOST_BLOCKS = 1500;
const LONGEST = 300_000;

/** picture(name) gives the address of a picture of our own by its file name, or null; without it pictures are words. */
export function markdown(text, picture = () => null) {
  const root = h("div.markdown");
  const shown = text.length > LONGEST ? text.slice(0, LONGEST) : text;
  const left = { blocks: MOST_BLOCKS };
  blocks(shown.replace(/\r\n?/g, "\n").split("\n"), root, 0, picture, left);
  if (shown.length < text.length || left.blocks <= 0)
    root.append(h("p.note", {}, "The rest is too long to be shown here; “Copy” and the export have all of it."));
  return root;
}

// Each of these is linear on any line; what would need two open ends is done by hand.
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])(?:\s+(.*)|$)/;

function blocks(lines, into, depth, picture, left) {
  let at = 0;
  const text = (value) => inline(value, picture);
  while (at < lines.length && left.blocks > 0) {
    const line = lines[at];
    if (!line.trim()) {
      at += 1;
      continue;
    }
    left.blocks -= 1;
    let found;
    if ((found = FENCE.exec(line))) at = fence(lines, at, found, into);
    else if ((found = HEADING.exec(line))) {
      // the page has its own h1 and h2
      into.append(h(`h${Math.min(6, found[1].length + 2)}`, {}, text(found[2].trim())));
      at += 1;
    } else if (RULE.test(line)) {
      into.append(h("hr"));
      at += 1;
    } else if (QUOTE.test(line) && depth < DEEPEST) {
      const inner = [];
      while (at < lines.length && QUOTE.test(lines[at])) inner.push(lines[at++].replace(QUOTE, ""));
      const quote = h("blockquote");
      blocks(inner, quote, depth + 1, picture, left);
      into.append(quote);
    } else if (ITEM.test(line) && depth < DEEPEST) at = list(lines, at, into, depth, picture, left);
    else if (line.includes("|") && at + 1 < lines.length && divides(lines[at + 1])) {
      at = table(lines, at, into, text);
    } else at = paragraph(lines, at, into, text);
  }
}

function paragraph(lines, at, into, text) {
  const first = at;
  do at += 1;
  while (at < lines.length && lines[at].trim() && !starts(lines[at]));
  into.append(h("p", {}, text(lines.slice(first, at).map((line) => line.trim()).join("\n"))));
  return at;
}

function starts(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || ITEM.test(line) || RULE.test(line);
}

function divides(line) {
  return line.includes("-") && cells(line).every((cell) => /^:?-+:?$/.test(cell));
}

function fence(lines, at, found, into) {
  const close = new RegExp(`^ {0,3}${found[1][0]}{${found[1].length},}\\s*$`);
  const first = (at += 1);
  while (at < lines.length && !close.test(lines[at])) at += 1;
  into.append(codeBlock(lines.slice(first, at).join("\n"), /^[\w+#.-]{0,30}/.exec(found[2].trim())[0]));
  return at + 1;
}

function list(lines, at, into, depth, picture, left) {
  const begin = ITEM.exec(lines[at]);
  const ordered = /\d/.test(begin[2]);
  const indent = begin[1].length;
  const made = h(ordered ? "ol" : "ul", ordered ? { start: parseInt(begin[2], 10) } : {});
  let item = null;
  while (at < lines.length && left.blocks > 0) {
    const found = ITEM.exec(lines[at]);
    const same = found && found[1].length <= indent + 1 && /\d/.test(found[2]) === ordered;
    if (found && found[1].length < indent) break;
    if (same) {
      finish();
      item = [found[3] || ""];
    } else if (found && found[1].length <= indent + 1) break;
    else if (!lines[at].trim()) {
      const next = lines[at + 1] || "";
      if (!next.trim() || !(/^\s{2,}/.test(next) || ITEM.test(next))) break;
      item.push("");
    } else if (/^\s{2,}/.test(lines[at]) || item[item.length - 1] !== "") item.push(lines[at].replace(/^ {1,4}/, ""));
    else break;
    at += 1;
  }
  finish();
  into.append(made);
  return at;

  function finish() {
    if (!item) return;
    left.blocks -= 1;
    const node = h("li");
    blocks(item, node, depth + 1, picture, left);
    const only = node.children.length && node.firstElementChild.tagName === "P" ? node.firstElementChild : null;
    if (only && !item.includes("")) {
      while (only.firstChild) only.before(only.firstChild);
      only.remove();
    }
    made.append(node);
  }
}

function table(lines, at, into, text) {
  const columns = cells(lines[at]);
  const rows = [];
  for (at += 2; at < lines.length && lines[at].includes("|") && lines[at].trim(); at += 1) rows.push(cells(lines[at]));
  into.append(tableOf(columns, rows, text));
  return at;
}

function cells(line) {
  const found = line.trim().replace(/^\|/, "").replace(/\\\|/g, "\u0000").replace(/\|$/, "").split("|");
  return found.map((cell) => cell.trim().replace(/\u0000/g, "|"));
}
