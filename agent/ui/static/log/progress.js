// How far something long is: a bar, a small curve of its loss as the results told it, and the way to its panel.
import { h, svg, set } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { duration, money } from "../lib/format.js";

const WIDTH = 120;
const HEIGHT = 24;
const ENDS = new Set(["succeeded", "failed", "cancelled", "limit", "lost"]);

export class Progress {
  constructor(context) {
    this.points = [];
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.words = h("span.progress-words");
    this.curve = svg("svg.spark", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" });
    this.open = h("button.quiet", { hidden: true, onclick: () => context.openRun(this.run) }, icon("chart", 16), "Show in Runs");
    this.element = h("div.progress", { hidden: true }, this.bar, h("div.row", {}, this.words, h("span.grow"), this.curve, this.open));
  }

  /** A tool tells of itself while it works. */
  job({ state, progress, eta_seconds: eta, usd, run }) {
    this.element.hidden = false;
    this.run = run || this.run;
    this.open.hidden = !this.run;
    if (progress !== undefined && progress !== null) this.fill(progress);
    if (ENDS.has(String(state).toLowerCase())) this.bar.hidden = true;
    const facts = [eta !== null && eta !== undefined && `${duration(eta)} left`, usd > 0 && money(usd)].filter(Boolean);
    if (facts.length) this.words.textContent = facts.join(" · ");
    if (!this.points.length && !facts.length && !this.run) this.words.textContent = state;
  }

  /** A tool's result is about a run. */
  result({ run, ref, step, planned_steps: planned, loss, over, state, eta_minutes: eta }) {
    this.element.hidden = false;
    this.run = run || ref;
    this.open.hidden = !this.run;
    this.fill(planned ? step / planned : null);
    this.bar.hidden = over === true || ENDS.has(state);
    this.words.textContent = this.bar.hidden ? state : [planned && `step ${step} of ${planned}`, eta && `${duration(eta * 60)} left`].filter(Boolean).join(" · ");
    if (typeof loss === "number" && isFinite(loss) && step !== this.points[this.points.length - 1]?.[0]) this.points.push([step, loss]);
    this.draw();
  }

  fill(share) {
    if (share === null || share === undefined) this.bar.removeAttribute("value");
    else this.bar.value = Math.min(1, Math.max(0, share));
  }

  draw() {
    if (this.points.length < 2) return;
    const xs = this.points.map(([x]) => x);
    const ys = this.points.map(([, y]) => y);
    const [left, low, high] = [xs[0], Math.min(...ys), Math.max(...ys)];
    const at = ([x, y]) => `${(((x - left) / (xs[xs.length - 1] - left || 1)) * (WIDTH - 6) + 3).toFixed(1)} ${(HEIGHT - 3 - ((y - low) / (high - low || 1)) * (HEIGHT - 6)).toFixed(1)}`;
    const [x, y] = at(this.points[this.points.length - 1]).split(" ");
    set(this.curve, svg("path.line.c0", { d: `M${this.points.map(at).join("L")}` }), svg("circle.c0", { cx: x, cy: y, r: 2.5 }));
  }

  /** A later call tells of the same run. */
  giveWay() {
    this.element.hidden = true;
  }

  over() {
    this.bar.hidden = true;
    if (!this.points.length && !this.run) this.element.hidden = true;
  }
}
