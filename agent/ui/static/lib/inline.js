// One paragraph's Markdown as nodes: code, strong, emphasis, deleted, links. One pass with a stack, so that no text can
// make it slow; what does not close stays as it was written.
import { h } from "./dom.js";

const DEEPEST = 12;
const TOKEN =
  /(\\[\\`*_{}[\]()#+\-.!|~<>])|(`{1,4})|(!?)\[([^[\]\n]{0,400})\]\(\s*<?([^()\s<>]{1,1000})>?(?:\s+"[^"\n]{0,200}")?\s*\)|(https?:\/\/[^\s<>()"'`*\]]{3,1000})|(\*\*|__|~~|\*|_)|(\n)/g;
const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };

export function inline(text, picture = () => null) {
  const root = { node: document.createDocumentFragment(), sign: "" };
  const stack = [root];
  const top = () => stack[stack.length - 1].node;
  let at = 0;
  TOKEN.lastIndex = 0;
  for (let found; (found = TOKEN.exec(text)); ) {
    top().append(text.slice(at, found.index));
    at = TOKEN.lastIndex;
    const [all, escaped, ticks, bang, label, target, bare, sign, line] = found;
    if (escaped) top().append(escaped[1]);
    else if (ticks) at = TOKEN.lastIndex = code(text, at, ticks, top());
    else if (target !== undefined) top().append(bang ? image(label, target, picture) : link(label, target));
    else if (bare) {
      const end = /[.,;:!?]+$/.exec(bare)?.[0].length || 0;
      const address = bare.slice(0, bare.length - end);
      top().append(link(address, address), bare.slice(bare.length - end));
    } else if (line) top().append(h("br"));
    else mark(stack, sign, all, text, found.index, at);
  }
  top().append(text.slice(at));
  while (stack.length > 1) unwind(stack);
  return root.node;
}

function code(text, at, ticks, into) {
  const end = text.indexOf(ticks, at);
  if (end < 0 || end - at > 4000) {
    into.append(ticks);
    return at;
  }
  into.append(h("code", {}, text.slice(at, end).replace(/^ (.*) $/, "$1")));
  return end + ticks.length;
}

function mark(stack, sign, all, text, from, to) {
  const before = text[from - 1] || " ";
  const after = text[to] || " ";
  const word = /[\p{L}\p{N}]/u;
  const inside = sign[0] === "_" && word.test(before) && word.test(after);
  const open = stack.findLastIndex((entry) => entry.sign === sign);
  if (open > 0 && /\S/.test(before) && !inside) {
    while (stack.length - 1 > open) unwind(stack);
    const closed = stack.pop();
    stack[stack.length - 1].node.append(closed.node);
  } else if (/\S/.test(after) && !inside && open < 0 && stack.length < DEEPEST) {
    stack.push({ node: h(TAGS[sign]), sign });
  } else stack[stack.length - 1].node.append(all);
}

/** What was opened and never closed is text. */
function unwind(stack) {
  const { node, sign } = stack.pop();
  const into = stack[stack.length - 1].node;
  into.append(sign);
  while (node.firstChild) into.append(node.firstChild);
}

export function link(label, target) {
  if (!/^https:\/\/|^http:\/\/(localhost|127\.0\.0\.1)(:|\/|$)|^mailto:/i.test(target)) return `${label} (${target})`;
  return h("a", { href: target, rel: "noopener noreferrer", target: "_blank" }, label || target);
}

function image(label, target, picture) {
  const address = picture(target);
  if (!address) return `[picture: ${label || target}]`;
  return h("img", { src: address, alt: label || "picture", loading: "lazy" });
}
