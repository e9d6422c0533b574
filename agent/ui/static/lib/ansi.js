// What a terminal would show: colours (16, 256 and true), bold, dim, and a carriage return that writes a line anew, as
// progress bars do. Every other control sequence is dropped. State goes on from one piece of text to the next.
import { h } from "./dom.js";

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const SEQUENCE = /\x1b\[([0-9;:?]{0,40})([@-~])|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>()][0-9A-Z]?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

export class Ansi {
  constructor() {
    this.style = {};
  }

  /** Nodes for a piece that ends at a whole line or not. */
  nodes(text) {
    const made = document.createDocumentFragment();
    let at = 0;
    SEQUENCE.lastIndex = 0;
    for (let found; (found = SEQUENCE.exec(text)); ) {
      this.add(made, text.slice(at, found.index));
      at = SEQUENCE.lastIndex;
      if (found[2] === "m") this.paint(found[1]);
    }
    this.add(made, text.slice(at));
    return made;
  }

  add(into, text) {
    if (!text) return;
    const { fore, back, bold, dim, italic, underline, rgb } = this.style;
    const classes = [fore && `a-${fore}`, back && `a-on-${back}`, bold && "a-bold", dim && "a-dim"];
    classes.push(italic && "a-italic", underline && "a-underline");
    const kept = classes.filter(Boolean);
    if (!kept.length && !rgb) return into.append(text);
    const span = h(["span", ...kept].join("."), {}, text);
    if (rgb) span.style.color = rgb;
    into.append(span);
  }

  paint(codes) {
    const list = codes.split(/[;:]/).map(Number);
    for (let at = 0; at < list.length; at += 1) {
      const code = list[at];
      const style = this.style;
      if (code === 0) this.style = {};
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 3) style.italic = true;
      else if (code === 4) style.underline = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code >= 30 && code <= 37) Object.assign(style, { fore: NAMES[code - 30], rgb: null });
      else if (code >= 90 && code <= 97) Object.assign(style, { fore: NAMES[code - 90], rgb: null });
      else if (code >= 40 && code <= 47) style.back = NAMES[code - 40];
      else if (code === 39) Object.assign(style, { fore: null, rgb: null });
      else if (code === 49) style.back = null;
      else if (code === 38 || code === 48) {
        const colour = list[at + 1] === 2 ? list.slice(at + 2, at + 5) : cube(list[at + 2]);
        at += list[at + 1] === 2 ? 4 : 2;
        if (code === 38) style.rgb = `rgb(${colour.map((part) => Math.min(255, part || 0)).join(" ")})`;
      }
    }
  }
}

function cube(number) {
  if (number < 16) return [[85, 85, 85], [200, 70, 60], [70, 150, 80], [180, 140, 40], [70, 110, 200], [160, 80, 170], [50, 150, 160], [130, 130, 130]][number % 8];
  if (number > 231) return Array(3).fill((number - 232) * 10 + 8);
  const at = number - 16;
  return [Math.floor(at / 36), Math.floor(at / 6) % 6, at % 6].map((part) => part && part * 40 + 55);
}

/** Lines in which a carriage return was followed by more: only what stands at the end is kept. */
export function overwritten(text) {
  if (!text.includes("\r")) return text;
  return text.split("\n").map(lastWriting).join("\n");
}

function lastWriting(line) {
  let end = line.length;
  while (end && line[end - 1] === "\r") end -= 1;
  return line.slice(end ? line.lastIndexOf("\r", end - 1) + 1 : 0, end);
}
