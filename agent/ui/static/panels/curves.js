// Live curves of one run or several laid over each other, one small chart for each measure. Points are appended; a chart
// draws at most as many as it has pixels. The last values stand as text beside each chart, for eyes and screen readers.
import { h, svg, set } from "../lib/dom.js";
import { short } from "../lib/format.js";

const WIDTH = 380;
const HEIGHT = 132;
const PAD = { left: 46, right: 10, top: 10, bottom: 20 };
const MOST = 1200;
const ORDER = ["loss", "eval_loss", "reward", "eval", "accuracy", "learning_rate", "tokens", "memory", "grad"];
const NAMES = { loss: "Loss", eval_loss: "Held-out loss", learning_rate: "Learning rate", grad_norm: "Gradient norm", tokens_per_second: "Tokens per second" };
const QUIET = /epoch|total_flos|runtime|samples_per|steps_per|num_tokens|global_step|^step$|entropy|mean_token|timestamp/i;

export class Curves {
  /** `runs` fixes their order and colours, whichever answers first. */
  constructor(runs = []) {
    this.series = new Map(); // measure -> run -> points
    this.charts = new Map();
    this.runs = [...runs];
    this.legend = h("ul.legend", { hidden: true });
    this.list = h("div.charts");
    this.note = h("p.note", {}, "Curves are drawn as soon as the first numbers come.");
    this.element = h("div.curves", {}, this.legend, this.note, this.list);
  }

  add(run, series) {
    if (!this.runs.includes(run)) this.runs.push(run);
    for (const [name, points] of Object.entries(series)) {
      const measure = name.replace(/^(train|eval)[/.]/, (all, kind) => (kind === "eval" ? "eval_" : ""));
      if (!points.length || QUIET.test(measure)) continue;
      if (!this.series.has(measure)) this.series.set(measure, new Map());
      const of = this.series.get(measure);
      of.set(run, thinned([...(of.get(run) || []), ...points.filter(([, value]) => typeof value === "number" && isFinite(value))]));
    }
    const place = ([run]) => this.runs.indexOf(run);
    for (const [measure, of] of this.series) this.series.set(measure, new Map([...of].sort((a, b) => place(a) - place(b))));
    this.draw();
  }

  draw() {
    const names = [...this.series.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    this.note.hidden = names.length > 0;
    this.legend.hidden = this.runs.length < 2;
    if (this.runs.length > 1) set(this.legend, this.runs.map((run, at) => h("li", {}, h(`span.swatch.c${at % 6}`), run)));
    for (const name of names) {
      if (!this.charts.has(name)) this.charts.set(name, new Chart(name));
      this.charts.get(name).draw(this.series.get(name), this.runs);
    }
    const wanted = names.map((name) => this.charts.get(name).element);
    if (wanted.length !== this.list.children.length || wanted.some((one, at) => this.list.children[at] !== one)) set(this.list, wanted);
  }
}

function rank(name) {
  const exact = ORDER.indexOf(name);
  if (exact >= 0) return exact;
  const at = ORDER.findIndex((part) => name.includes(part));
  return at < 0 ? 2 * ORDER.length : ORDER.length + at;
}

/** Every second point goes when there are too many, never the last. */
function thinned(points) {
  while (points.length > MOST) points = points.filter((_, at) => at % 2 === 0 || at === points.length - 1);
  return points;
}

class Chart {
  constructor(name) {
    this.name = NAMES[name] || name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
    this.last = h("span.chart-last");
    this.lines = svg("g");
    this.axes = svg("g.axes");
    this.cursor = svg("g.cursor");
    this.picture = svg("svg.chart", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, this.axes, this.lines, this.cursor);
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => (set(this.cursor), this.tell()));
    this.element = h("figure.chart-frame", {}, h("figcaption", {}, h("span", {}, this.name), this.last), this.picture);
  }

  draw(points, runs) {
    this.points = points;
    this.runs = runs;
    const all = [...points.values()].flat();
    if (!all.length) return;
    const xs = all.map(([x]) => x);
    const ys = all.map(([, y]) => y);
    this.x = [Math.min(...xs), Math.max(...xs)];
    this.y = spread(Math.min(...ys), Math.max(...ys));
    set(this.axes, ticks(this.y).map((value) => [
      svg("line", { x1: PAD.left, x2: WIDTH - PAD.right, y1: this.atY(value), y2: this.atY(value) }),
      svg("text", { x: PAD.left - 6, y: this.atY(value) + 3.5, "text-anchor": "end" }, short(value)),
    ]), svg("text", { x: PAD.left, y: HEIGHT - 5 }, short(this.x[0])), svg("text", { x: WIDTH - PAD.right, y: HEIGHT - 5, "text-anchor": "end" }, `step ${short(this.x[1])}`));
    set(this.lines, [...points].map(([run, line]) => this.line(line, runs.indexOf(run) % 6)));
    this.tell();
  }

  line(points, colour) {
    const path = points.map(([x, y], at) => `${at ? "L" : "M"}${this.atX(x).toFixed(1)} ${this.atY(y).toFixed(1)}`).join("");
    const [x, y] = points[points.length - 1];
    return svg("g", {}, svg(`path.line.c${colour}`, { d: path }), svg(`circle.end.c${colour}`, { cx: this.atX(x), cy: this.atY(y), r: 3 }));
  }

  tell() {
    const lasts = [...this.points].map(([run, line]) => [run, line[line.length - 1]]);
    this.last.textContent = lasts.map(([, [, value]]) => short(value)).join(" · ");
    const words = lasts.map(([run, [step, value]]) => `${this.runs.length > 1 ? `${run}: ` : ""}${short(value)} at step ${short(step)}`);
    this.picture.setAttribute("aria-label", `${this.name}, ${words.join("; ")}`);
  }

  /** The values below the pointer. */
  point(event) {
    const box = this.picture.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const step = this.x[0] + ((at - PAD.left) / (WIDTH - PAD.left - PAD.right)) * (this.x[1] - this.x[0]);
    const near = [...this.points].map(([run, line]) => [run, line.reduce((best, one) => (Math.abs(one[0] - step) < Math.abs(best[0] - step) ? one : best))]);
    set(this.cursor, svg("line", { x1: this.atX(near[0][1][0]), x2: this.atX(near[0][1][0]), y1: PAD.top, y2: HEIGHT - PAD.bottom }), near.map(([run, [x, y]]) => svg(`circle.c${this.runs.indexOf(run) % 6}`, { cx: this.atX(x), cy: this.atY(y), r: 3.5 })));
    this.last.textContent = `${near.map(([, [, value]]) => short(value)).join(" · ")} at step ${short(near[0][1][0])}`;
  }

  atX(value) {
    const [low, high] = this.x;
    return PAD.left + ((value - low) / (high - low || 1)) * (WIDTH - PAD.left - PAD.right);
  }

  atY(value) {
    const [low, high] = this.y;
    return HEIGHT - PAD.bottom - ((value - low) / (high - low || 1)) * (HEIGHT - PAD.top - PAD.bottom);
  }
}

function spread(low, high) {
  if (low === high) return [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const room = (high - low) * 0.06;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

function ticks([low, high]) {
  const rough = (high - low) / 3;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * size).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high && found.length < 6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}
