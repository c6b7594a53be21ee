// Charts by uPlot: mounted when they are scrolled to, redrawn when the theme or the width changes.

const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const live = new Set();

for (const event of ["theme"]) document.addEventListener(event, () => live.forEach((chart) => chart.draw()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => live.forEach((chart) => chart.draw()));

/** Lines over steps in `box`. `series` are labels; `set` gives them steps and one list of values for each. */
export class Chart {
  constructor(box, series, { height = 220, format = undefined, range = undefined, points = false, band = false } = {}) {
    Object.assign(this, { box, series, height, format, range, points, band });
    this.data = [[], ...series.map(() => [])];
    this.marks = [];
    this.seen = false;
    this.observer = new IntersectionObserver((entries) => {
      this.seen = entries.some((entry) => entry.isIntersecting);
      if (this.seen && this.stale) this.draw();
    }, { rootMargin: "200px" });
    this.resizes = new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: this.height }));
    this.observer.observe(box);
    this.resizes.observe(box);
    this.stale = true;
    box.style.minHeight = `${height}px`;
    live.add(this);
  }

  width() { return Math.max(200, this.box.clientWidth); }

  /** Show these steps and values, with a mark at each step in `marks`. */
  set(steps, values, marks = this.marks) {
    this.data = [steps, ...values];
    this.marks = marks;
    if (!this.seen) { this.stale = true; return; }
    if (this.plot && !this.stale) {
      this.plot.setData(this.data);
      this.showLast(this.plot);
    } else this.draw();
  }

  draw() {
    this.stale = false;
    this.plot?.destroy();
    this.plot = new window.uPlot(this.options(), this.data, this.box);
  }

  destroy() {
    this.observer.disconnect();
    this.resizes.disconnect();
    this.plot?.destroy();
    live.delete(this);
  }

  options() {
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false } };
    const lines = this.series.map((label, place) => ({
      label,
      stroke: colour(COLOURS[place % COLOURS.length]),
      width: 1.6,
      spanGaps: true,
      points: { show: this.points, size: 6 },
      value: (plot, value, at) => this.say(value ?? (isPointedAt(plot) ? null : this.data[at].findLast((one) => one !== null && one !== undefined))),
    }));
    if (this.band) for (const edge of lines.slice(1)) Object.assign(edge, { stroke: colour("--mark"), width: 1, points: { show: false } });
    return {
      width: this.width(),
      height: this.height,
      scales: { x: { time: false }, y: this.range ? { range: this.range } : {} },
      axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (this.format ? this.format(tick) : short(tick))) }],
      series: [{ label: "step" }, ...lines],
      bands: this.band ? [{ series: [2, 3], fill: colour("--band") }] : [],
      legend: { live: true },
      cursor: { focus: { prox: 24 }, drag: { x: true, y: false } },
      hooks: { drawClear: [(plot) => this.drawMarks(plot)], ready: [(plot) => this.showLast(plot)], setLegend: [(plot) => this.showLast(plot)] },
    };
  }

  say(value) { return value === null || value === undefined ? "–" : this.format ? this.format(value) : short(value); }

  /** While nothing is pointed at, the legend says the latest values. */
  showLast(plot) {
    if (!isPointedAt(plot) && this.data[0].length) plot.setLegend({ idx: this.data[0].length - 1 }, false);
  }

  /** A thin line where an evaluation was made. */
  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour("--mark");
    ctx.setLineDash([3, 4]);
    for (const step of this.marks) {
      const x = Math.round(plot.valToPos(step, "x", true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }
}

const isPointedAt = (plot) => plot.cursor.left >= 0;

function short(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/** A small line without axes, as an SVG. */
export function sparkline(values, label) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 100 28");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (known.length < 2) return svg;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const line = document.createElementNS(space, "polyline");
  const y = (value) => 26 - (24 * (value - low)) / (high - low || 1);
  line.setAttribute("points", known.map((value, i) => `${(100 * i) / (known.length - 1)},${y(value).toFixed(2)}`).join(" "));
  svg.append(line);
  return svg;
}
