// Up to five runs in one chart, what their configurations differ in, and their answers to the same prompts.

import { get, url } from "./api.js";
import { Chart } from "./charts.js";
import { fill, h, written } from "./dom.js";
import { interval, number } from "./format.js";
import { badge, rateOf, steps } from "./state.js";

const MOST_PROMPTS = 30;

export async function page(box, { rest: names, signal }) {
  const runs = await Promise.all(names.slice(0, 5).map(async (name) => {
    const [about, series, evaluations] = await Promise.all([
      get(url("runs", name), signal), get(url("runs", name, "series"), signal), get(url("runs", name, "evaluations"), signal)]);
    return { name, about, series, evaluations };
  }));
  const known = [...new Set(runs.flatMap((run) => run.series.names))].sort();
  const chosen = h("select", { "aria-label": "Metric", onchange: () => draw() },
    ["win rate", ...known].map((name) => h("option", { value: name }, name)));
  const plot = h("div");
  let chart = null;
  const draw = () => {
    chart?.destroy();
    fill(plot);
    chart = new Chart(plot, names, { height: 320, points: chosen.value === "win rate" });
    chart.set(...together(runs.map((run) => points(run, chosen.value))));
  };
  signal.addEventListener("abort", () => chart?.destroy());
  fill(box, h("h1", {}, "Comparison"),
    h("section.card", {}, h("div.row.apart", {}, h("h2", {}, "Curves"), h("label.row", {}, chosen)), plot),
    h("section.card", {}, h("h2", {}, "Where they stand"), standing(runs)),
    h("section.card", {}, h("h2", {}, "What they differ in"), differences(runs)),
    h("section.card", {}, h("h2", {}, "Answers to the same prompts"), answers(runs)));
  draw();
}

function points(run, name) {
  if (name === "win rate") {
    const made = run.series.evaluations;
    return new Map(made.map((evaluation) => [evaluation.step, evaluation.win_rate.rate]));
  }
  const values = run.series.values[name] ?? [];
  return new Map(run.series.steps.map((step, place) => [step, values[place]]));
}

/** Several series at their own steps as series at common ones. */
function together(series) {
  const steps = [...new Set(series.flatMap((points) => [...points.keys()]))].sort((a, b) => a - b);
  return [steps, series.map((points) => steps.map((step) => points.get(step) ?? null)), []];
}

function standing(runs) {
  const rows = runs.map(({ name, about, series }) => h("tr", {},
    h("td", {}, h("a", { href: `#/run/${encodeURIComponent(name)}` }, name)), h("td", {}, badge(about.status)), h("td", {}, steps(about)),
    h("td", {}, rateOf(about) ? interval(rateOf(about)) : "–"), h("td.number", {}, number(series.table.loss?.latest)), h("td.number", {}, number(series.table.kl?.latest))));
  const titles = ["run", "", "steps", "win rate", "loss", "KL"].map((title, place) => h(place > 3 ? "th.number" : "th", {}, title));
  return h("div.scroll", {}, h("table.even", {}, h("tr", {}, titles), rows));
}

function flat(value, path = "", found = {}) {
  if (value === null || typeof value !== "object" || !Object.keys(value).length) found[path] = typeof value === "string" && value ? value : JSON.stringify(value);
  else for (const [key, inner] of Object.entries(value)) flat(inner, path ? `${path}.${key}` : key, found);
  return found;
}

function differences(runs) {
  const settings = runs.map((run) => flat(run.about.settings));
  const keys = [...new Set(settings.flatMap(Object.keys))].filter((key) => key !== "output.path" && new Set(settings.map((found) => found[key])).size > 1);
  if (!keys.length) return h("p.quiet", {}, "Nothing.");
  return h("div.scroll", {}, h("table", {}, h("tr", {}, h("th", {}, "setting"), runs.map((run) => h("th", {}, run.name))),
    keys.map((key) => h("tr", {}, h("td.mono", {}, key.split(".").map((part, place) => (place ? [h("wbr"), `.${part}`] : part))), settings.map((found) => h("td.loose", {}, found[key] ?? "–"))))));
}

function answers(runs) {
  const last = runs.map((run) => new Map((run.evaluations.training.at(-1)?.pairs ?? []).map((pair) => [pair.prompt, pair])));
  const prompts = [...(last[0]?.keys() ?? [])].filter((prompt) => last.every((pairs) => pairs.has(prompt))).slice(0, MOST_PROMPTS);
  if (!prompts.length) return h("p.quiet", {}, "These runs were not evaluated on the same prompts.");
  return prompts.map((prompt) => h("article.judged", {}, written(prompt, "div.written"),
    h("div.several", {}, runs.map((run, place) => h("div.answer", {}, h("div.who", {}, run.name), written(last[place].get(prompt).ours, "div.written.clip"))))));
}
