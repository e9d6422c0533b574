// The icons of the page, drawn on a grid of 20 with one line width. They are decoration: the word stands beside them or
// in the label of the button.
import { svg } from "./dom.js";

const PATHS = {
  plus: "M10 4v12M4 10h12",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11ZM13 13l4 4",
  menu: "M3 6h14M3 10h14M3 14h14",
  close: "M5 5l10 10M15 5L5 15",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  file: "M11 3H6a1 1 0 0 0-1 1v12a1 1 0 0 0 1 1h8a1 1 0 0 0 1-1V7l-4-4ZM11 3v4h4",
  clip: "M13.3 6.700L7.9 12.100a1.4 1.4 0 0 0 2 2l5.9-5.900a2.9 2.9 0 0 0-4.1-4.100L5.6 10.200a4.3 4.3 0 0 0 6.1 6.100l4.3-4.3",
  copy: "M8 7h7a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H8a1 1 0 0 1-1-1V8a1 1 0 0 1 1-1ZM4 13V5a1 1 0 0 1 1-1h8",
  check: "M4 10.5l4 4 8-9",
  cross: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  retry: "M4 10a6 6 0 1 1 2 4.5M4 15v-4h4",
  edit: "M12.5 4.5l3 3L7 16H4v-3l8.5-8.5Z",
  pin: "M7 3h6l-1 5 3 3H5l3-3-1-5ZM10 11v6",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  down: "M5 8l5 5 5-5",
  right: "M8 5l5 5-5 5",
  download: "M10 3v10M6 9.5l4 4 4-4M4 17h12",
  trash: "M4 6h12M8 6V4h4v2M6 6l1 11h6l1-11",
  share: "M10 12V3M6.5 6.5L10 3l3.5 3.5M5 10v6h10v-6",
  settings: "M3 6h7m4 0h3M3 14h3m4 0h7M10 4v4M6 12v4",
  panel: "M3 4h14v12H3zM12 4v12",
  sun: "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  moon: "M16 12.2A6.5 6.5 0 0 1 7.8 4 6.5 6.5 0 1 0 16 12.2Z",
  auto: "M3 5h14v9H3zM7 17h6",
  chart: "M3 3v14h14M6 13l3-4 3 2 4-6",
  table: "M3 4h14v12H3zM3 8h14M8 8v8",
  report: "M5 3h10v14H5zM8 7h4M8 10h4M8 13h2",
  job: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM10 6v4l3 2",
  tool: "M12.5 3.5a4 4 0 0 0-3.8 5.3L3.5 14l2.5 2.5 5.2-5.2a4 4 0 0 0 5.2-4.9L14 8.8l-2.3-.5-.5-2.3 2.4-2.4a4 4 0 0 0-1.1-.1Z",
  shield: "M10 3l6 2v4c0 4-2.5 6.5-6 8-3.5-1.5-6-4-6-8V5l6-2Z",
  warn: "M10 4l7 12H3l7-12ZM10 8.500v3.500M10 14h.01",
  talk: "M4 4h12v9H9l-4 3v-3H4z",
  model: "M10 3l6 3.500v7L10 17l-6-3.500v-7L10 3ZM4 6.500l6 3.5 6-3.500M10 10v7",
  out: "M8 4H4v12h4M8 10h9M14 7l3 3-3 3",
};

export function icon(name, size = 18) {
  return svg(
    "svg.icon",
    { viewBox: "0 0 20 20", width: size, height: size, fill: "none", stroke: "currentColor", "aria-hidden": "true" },
    svg("path", { d: PATHS[name] || PATHS.more, "stroke-width": "1.6", "stroke-linecap": "round", "stroke-linejoin": "round" }),
  );
}

/** The mark: a glowing bar on an anvil. */
export function mark(size = 26) {
  return svg(
    "svg.mark",
    { viewBox: "0 0 32 32", width: size, height: size, "aria-hidden": "true" },
    svg("path.anvil", { d: "M4 14h20c0 4-3 6-6 6l1 4h3v3H9v-3h3l1-4c-5 0-8-2-9-6Z" }),
    svg("rect.iron", { x: 9, y: 8, width: 19, height: 3.6, rx: 1.8 }),
  );
}
