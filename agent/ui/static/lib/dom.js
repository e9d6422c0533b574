// Builds DOM nodes. Text only ever becomes a text node or an attribute: nothing here, or anywhere in these modules,
// parses a string as HTML, so what a model or a program wrote stays text.

const SVG = "http://www.w3.org/2000/svg";

/** h("button.quiet", {onclick, "aria-label": "Copy"}, "text", node, [more]) */
export function h(kind, props = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  return fill(document.createElement(tag || "div"), classes, props, children);
}

export function svg(kind, props = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  return fill(document.createElementNS(SVG, tag), classes, props, children);
}

function fill(node, classes, props, children) {
  if (classes.length) node.classList.add(...classes);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "open") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  put(node, ...children);
  return node;
}

export function put(node, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** The children of a node become these. */
export function set(node, ...children) {
  node.replaceChildren();
  return put(node, ...children);
}

/** Moves the keyboard to the next or previous of a row of buttons by arrow keys (tabs, lists). */
export function arrows(event, items) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step || !items.length) return;
  const at = items.findIndex((item) => item === event.target || item.contains(event.target));
  items[(at + step + items.length) % items.length].focus();
  event.preventDefault();
}
