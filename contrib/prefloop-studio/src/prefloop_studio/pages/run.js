// A run as it goes on: where it stands, its curves, its newest pairs, its log, and what there is to worry about.

import { get, post, stream, url } from "./api.js";
import { Chart } from "./charts.js";
import { ask, fill, h, notice, written } from "./dom.js";
import { ago, duration, number, percent, range } from "./format.js";
import { badge } from "./state.js";

// Which metrics share a chart. What a run has besides these, such as a plugin's own, gets a chart of its own.
const CHARTS = [
  ["Loss", ["loss", "preference_loss"]],
  ["Rewards and margin", ["chosen_reward", "rejected_reward", "margin"]],
  ["Reward accuracy", ["reward_accuracy"]],
  ["KL to the reference", ["kl", "kl_chosen", "kl_rejected"]],
  ["Exploration bonus", ["exploration_bonus"]],
  ["Log-ratio to the reference", ["log_ratio_chosen", "log_ratio_rejected"]],
  ["Log-probability of the answers", ["chosen_logprob", "rejected_logprob"]],
  ["Answer length, tokens", ["completion_length", "chosen_length", "rejected_length"]],
  ["Ended by itself, and distinct bigrams", ["stop_rate", "distinct_2"]],
  ["Judge: ties, errors, abstentions, position gap", ["ties", "errors", "abstentions", "position_gap"]],
  ["Seconds of a step", ["seconds_sampling", "seconds_judging", "seconds_scoring", "seconds_update"]],
  ["Tokens per second", ["tokens_per_second"]],
  ["Gradient norm", ["grad_norm"]],
  ["Learning rate", ["learning_rate"]],
  ["Peak memory, GB", ["peak_memory_gb"]],
];
const NOT_DRAWN = new Set(["epoch", "seconds", "pairs", "labelled", "skipped"]);
const MOST = 4000; // points of a series in the page, before it is asked for anew
const PAIRS = 20;

export async function page(box, { rest: [name], signal }) {
  const view = new RunPage(box, name, signal);
  await view.start();
}

class RunPage {
  constructor(box, name, signal) {
    Object.assign(this, { box, name, signal });
    this.steps = [];
    this.values = {};
    this.evaluations = [];
    this.table = {};
    this.pairs = [];
    this.cursors = { metrics: 0, judgements: 0, log: 0 };
    this.charts = new Map();
    signal.addEventListener("abort", () => this.charts.forEach(({ chart }) => chart.destroy()));
  }

  async start() {
    const [about] = await Promise.all([get(url("runs", this.name), this.signal), this.readSeries()]);
    this.about = about;
    this.state = about;
    this.layOut();
    this.showState();
    this.showCurves();
    this.readChecks();
    stream(() => `${url("runs", this.name, "events")}?${new URLSearchParams(this.cursors)}`, {
      metrics: (data) => this.addMetrics(data),
      judgements: (data) => this.addPairs(data),
      log: (data) => this.addLog(data),
      state: (data) => { this.state = { ...this.state, ...data }; this.showState(); },
      connected: (there) => { this.lost.hidden = there; },
      gone: () => { this.lost.hidden = false; fill(this.lost, "This run is no longer in the folder: it was renamed or deleted."); },
    }, this.signal);
  }

  layOut() {
    this.head = h("div.head");
    this.lost = h("p.problem", { hidden: true }, "The studio does not answer. A run that is going on does not mind; this page looks again by itself.");
    this.why = h("div");
    this.tiles = h("div.tiles");
    this.checks = h("ul.checks", {}, h("li.unknown", {}, "Looking …"));
    this.curves = h("div.grid");
    this.rates = h("div.card.chart", { hidden: true }, h("h3", {}, "Win rate against the start"), h("div"));
    this.byJudge = h("div.card.chart", { hidden: true }, h("h3", {}, "Win rate by each judge"), h("div"));
    this.numbers = h("div.scroll");
    this.newest = h("div.newest", { tabindex: 0, "aria-label": "Newest pairs" }, h("p.quiet", {}, "No pair has been judged yet."));
    this.logged = h("pre.log", { tabindex: 0, "aria-label": "Log" });
    fill(this.box, this.head, this.lost, this.why, this.tiles,
      h("section.card", { "aria-label": "Checks" }, h("h2", {}, "What to watch"), this.checks),
      h("section", { "aria-label": "Curves" }, h("h2", {}, "Curves"), this.curves),
      h("section.card", { "aria-label": "Newest pairs" }, h("h2", {}, "Newest pairs"), this.newest),
      h("section.card", { "aria-label": "All metrics" }, h("details", {}, h("summary", {}, "All metrics"), this.numbers)),
      h("section.card", { "aria-label": "Log" }, h("details", {}, h("summary", {}, "Log"), this.logged)),
      h("section.card", { "aria-label": "Configuration" }, h("details", {}, h("summary", {}, "Plan and configuration"),
        h("table", {}, this.about.plan.map(([title, text]) => h("tr", {}, h("th", {}, title), h("td", {}, text)))),
        h("pre.mono", {}, this.about.config))),
      this.about.problems.length ? h("section.card", {}, h("h2", {}, "Damage"), this.about.problems.map((text) => h("p.problem", {}, text))) : null);
  }

  async readSeries() {
    const found = await get(url("runs", this.name, "series"), this.signal);
    Object.assign(this, { steps: found.steps, values: found.values, evaluations: found.evaluations, table: found.table });
    this.cursors.metrics = found.cursor;
  }

  async addMetrics(data) {
    this.cursors.metrics = data.cursor;
    if (data.restarted || this.steps.length > MOST) {
      await this.readSeries();
    } else {
      for (const step of data.steps) this.addStep(step);
      this.evaluations.push(...data.evaluations);
    }
    this.showCurves();
    this.showState();
    if (data.evaluations.length || data.restarted) this.readChecks();
  }

  addStep({ step, ...metrics }) {
    const before = this.steps.length;
    this.steps.push(step);
    for (const [name, value] of Object.entries(metrics)) {
      const values = (this.values[name] ??= Array(before).fill(null));
      values.push(value);
      if (value === null) continue;
      const row = (this.table[name] ??= { least: value, greatest: value });
      Object.assign(row, { latest: value, least: Math.min(row.least, value), greatest: Math.max(row.greatest, value), step });
    }
    for (const values of Object.values(this.values)) if (values.length <= before) values.push(null);
  }

  showState() {
    const { state } = this;
    const step = Math.max(this.steps.at(-1) ?? 0, state.summary?.steps ?? 0);
    const latest = (name) => this.table[name]?.latest;
    const rate = state.summary?.win_rate?.after ?? this.evaluations.filter((e) => e.step > 0).at(-1)?.win_rate;
    const perStep = mean((this.values.seconds ?? []).slice(-20));
    const left = state.alive && step < state.planned ? `${duration(perStep * (state.planned - step))} left` : ago(state.ended ?? state.started);
    fill(this.head, h("div", {}, h("h1", {}, this.name), h("div.row", {}, badge(state.status), h("span.quiet", {}, state.started ? `started ${ago(state.started)}` : ""))), this.buttons());
    fill(this.why, state.reason && !state.alive ? h("p.problem", {}, state.reason) : null,
      state.status === "interrupted" ? h("p.problem", {}, "The process of this run is gone: it was killed, or the machine went off. Everything until its last checkpoint is there; resume it to go on.") : null);
    fill(this.tiles,
      tile("Step", step.toLocaleString("en"), `of ${(state.planned ?? 0).toLocaleString("en")} · ${left}`, step / (state.planned || 1)),
      tile("Loss", number(latest("loss"))),
      tile("Win rate", rate ? percent(rate.rate) : "–", rate ? `${range(rate)}, ${rate.pairs} prompts` : "no evaluation after training yet"),
      tile("Tokens per second", number(latest("tokens_per_second"))),
      tile("Seconds a step", number(perStep)),
      tile("Peak memory", latest("peak_memory_gb") === undefined ? "–" : `${number(latest("peak_memory_gb"))} GB`),
      tile("Learning rate", number(latest("learning_rate"))));
    if (this.rows !== this.steps.length) this.showTable();
  }

  buttons() {
    const { state, name } = this;
    const act = (action, path, body) => h("button", { onclick: async () => { await post(path, body); notice(action); } });
    const stop = fill(act("It ends after this step, with a checkpoint.", url("runs", name, "stop")), "Stop");
    const resume = h("button.primary", { onclick: () => this.resume() }, "Resume");
    return h("div.row", {},
      state.asks_a_person && state.alive ? h("a.button.primary", { href: `#/label/${encodeURIComponent(name)}` }, "Label") : null,
      state.alive ? stop : state.status !== "finished" ? resume : h("button", { onclick: () => this.extend() }, "Train on"),
      h("a.button", { href: `#/arena/${encodeURIComponent(name)}` }, "Talk"),
      h("a.button", { href: `#/train?from=${encodeURIComponent(name)}` }, "Clone"),
      h("button", { onclick: () => this.report() }, "Report"));
  }

  async resume(overrides = []) {
    await post(url("runs", this.name, "resume"), { set: overrides });
    notice("It goes on from its last checkpoint as soon as nothing else runs.");
  }

  async extend() {
    const answer = await ask("Train on, to how many steps in all?", { value: String(2 * this.state.planned), action: "Train on" });
    if (answer) await this.resume([`training.iters=${answer}`]);
  }

  async report() {
    const { url: address } = await post(url("runs", this.name, "report"));
    window.open(address, "_blank", "noopener");
  }

  showCurves() {
    const marks = this.evaluations.map((evaluation) => evaluation.step);
    for (const [title, names] of this.groups()) {
      if (!this.charts.has(title)) {
        const plot = h("div");
        this.curves.append(h("div.card.chart", {}, h("h3", {}, title), plot));
        this.charts.set(title, { chart: new Chart(plot, names), names });
      }
      const { chart, names: drawn } = this.charts.get(title);
      chart.set(this.steps, drawn.map((metric) => this.values[metric] ?? []), marks);
    }
    this.showRates();
  }

  /** The charts for which there is something to draw, those of unknown metrics last. */
  groups() {
    const there = (metric) => this.values[metric]?.some((value) => value !== null && value !== undefined);
    const known = CHARTS.map(([title, names]) => [title, names.filter(there)]).filter(([, names]) => names.length);
    const named = new Set([...CHARTS.flatMap(([, names]) => names), ...NOT_DRAWN]);
    const more = Object.keys(this.values).filter((metric) => !named.has(metric) && there(metric));
    return [...known, ...more.sort().map((metric) => [metric, [metric]])];
  }

  showRates() {
    const made = this.evaluations;
    if (!made.length) return;
    const title = "Win rate";
    if (!this.charts.has(title)) {
      this.rates.hidden = false;
      this.curves.prepend(this.rates);
      const chart = new Chart(this.rates.lastChild, ["win rate", "high", "low"], { points: true, band: true, format: percent, range: [0, 1] });
      this.charts.set(title, { chart, names: [] });
    }
    const of = (part) => made.map((evaluation) => evaluation.win_rate[part]);
    this.charts.get(title).chart.set(made.map((e) => e.step), [of("rate"), of("high"), of("low")], []);
    this.showJudges(made);
  }

  /** One line for each judge, where the same answers were given to several. */
  showJudges(made) {
    const last = made.findLast((evaluation) => evaluation.others.length);
    if (!last) return;
    const title = "Win rate by each judge", taught = (name) => (name === last.teacher ? `${name} (taught)` : name);
    const names = [last.judge || "the first judge", ...last.others.map((other) => other.judge)];
    if (!this.charts.has(title)) {
      this.byJudge.hidden = false;
      this.rates.after(this.byJudge);
      const chart = new Chart(this.byJudge.lastChild, names.map(taught), { points: true, format: percent, range: [0, 1] });
      this.charts.set(title, { chart, names: [] });
    }
    const rate = (evaluation, place) => (place ? evaluation.others[place - 1]?.win_rate : evaluation.win_rate)?.rate ?? null;
    this.charts.get(title).chart.set(made.map((e) => e.step), names.map((_, place) => made.map((e) => rate(e, place))), []);
  }

  showTable() {
    this.rows = this.steps.length;
    const rows = Object.entries(this.table).sort(([a], [b]) => a.localeCompare(b));
    const cells = (row) => ["latest", "least", "greatest"].map((part) => h("td.number", {}, number(row[part], 4)));
    fill(this.numbers, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "metric"), ["latest", "minimum", "maximum"].map((title) => h("th.number", {}, title)))),
      h("tbody", {}, rows.map(([metric, row]) => h("tr", {}, h("td", {}, metric), cells(row))))));
  }

  addPairs(data) {
    this.cursors.judgements = data.cursor;
    this.pairs = [...data.judgements.reverse(), ...(data.restarted ? [] : this.pairs)].slice(0, PAIRS);
    if (this.pairs.length) fill(this.newest, this.pairs.map(judged));
  }

  addLog(data) {
    this.cursors.log = data.cursor;
    if (data.restarted) fill(this.logged);
    const atEnd = this.logged.scrollTop + this.logged.clientHeight > this.logged.scrollHeight - 30;
    for (const line of data.lines) this.logged.append(written(line, "span"), "\n");
    while (this.logged.childNodes.length > 4000) this.logged.firstChild.remove();
    if (atEnd) this.logged.scrollTop = this.logged.scrollHeight;
  }

  async readChecks() {
    const found = await get(url("runs", this.name, "checks"), this.signal);
    const order = { warning: 0, note: 1, unknown: 2, fine: 3 };
    found.sort((a, b) => order[a.level] - order[b.level]);
    fill(this.checks, found.map((check) => h(`li.${check.level}`, {}, h("strong", {}, check.title), ". ", check.text)));
  }
}

function tile(name, value, more = "", share = null) {
  const bar = share === null ? null : h("div.meter", { role: "progressbar", "aria-valuenow": Math.round(100 * share), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": name }, h("span"));
  if (bar) bar.firstChild.style.width = `${Math.min(100, 100 * share)}%`;
  return h("div.tile", {}, h("div.name", {}, name), h("div.value", {}, value), h("div.more", {}, more), bar);
}

/** A pair with its verdict. */
export function judged(row) {
  const wins = row.status !== "ok" ? null : row.probability > 0.5;
  const sure = Math.max(row.probability, 1 - row.probability);
  const verdict = row.status === "ok" ? `${wins ? "first" : "second"} better, ${percent(sure)}` : row.status;
  const answer = (completion, won, who) => h(`div.answer${won ? ".won" : ""}`, {},
    h("div.who", {}, who + (completion.stopped ? "" : " · cut at the limit")), written(completion.text, "div.written.clip"));
  return h("article.judged", {},
    h("div.small.quiet", {}, `step ${row.step}${row.evaluation ? " · evaluation" : ""} · ${verdict}${row.reason ? ` · ${row.reason}` : ""}`),
    written(row.prompt, "div.written.clip"),
    h("div.pair", {}, answer(row.first, wins === true, "first"), answer(row.second, wins === false, "second")));
}

function mean(values) {
  const known = values.filter((value) => Number.isFinite(value));
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}
