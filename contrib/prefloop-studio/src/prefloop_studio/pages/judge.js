// Try one or two judges on a few pairs: agreement, bias, and what each order says; then use one in a run.

import { get, post } from "./api.js";
import { fill, h, notice, written } from "./dom.js";
import { interval, number, percent } from "./format.js";

const EXAMPLE = [
  { prompt: "Name a fruit.", first: "An apple.", second: "Fruit is a thing that grows on trees, and there are many kinds of it.", label: "first" },
  { prompt: "What is two plus two?", first: "Five, I think.", second: "Four.", label: "second" },
  { prompt: "Say hello.", first: "Hello!", second: "Hello! Have a lovely day.", label: "tie" },
];

export async function page(box, { signal }) {
  const [form, runs] = await Promise.all([get("/api/form", signal), get("/api/runs", signal)]);
  new JudgePage(box, form.components.judge.filter((one) => !one.broken), runs).layOut();
}

class JudgePage {
  constructor(box, offered, runs) {
    Object.assign(this, { box, offered, runs });
    const kept = JSON.parse(sessionStorage.getItem("prefloop-judges") ?? "{}");
    this.first = this.judge("First judge", kept.first ?? "use: rule\nlength: shorter\n");
    this.second = this.judge("Second judge, or nothing", kept.second ?? "");
    this.pairs = h("textarea.yaml", { rows: 9, "aria-label": "Pairs as JSON Lines", value: kept.pairs ?? `${EXAMPLE.map((row) => JSON.stringify(row)).join("\n")}\n` });
    this.run = h("select", { "aria-label": "Pairs of a run", onchange: () => { this.pairs.disabled = Boolean(this.run.value); } },
      h("option", { value: "" }, "the pairs below"), runs.map((run) => h("option", { value: run.run }, `those of ${run.run}`)));
    this.file = h("input", { type: "file", accept: ".jsonl,.json", "aria-label": "Upload pairs", onchange: async () => { if (this.file.files[0]) this.pairs.value = await this.file.files[0].text(); } });
    this.found = h("div", { "aria-live": "polite" });
    this.go = h("button.primary", { onclick: () => this.ask() }, "Judge");
  }

  judge(title, text) {
    const area = h("textarea.yaml", { rows: 6, spellcheck: "false", "aria-label": title, value: text });
    const choose = h("select", { "aria-label": `${title}: kind`, onchange: () => { area.value = choose.value ? this.template(choose.value) : ""; } },
      h("option", { value: "" }, "choose …"), this.offered.map((one) => h("option", { value: one.name }, one.name)));
    const use = h("button", { type: "button", onclick: () => this.use(area.value) }, "Use in a run");
    return { area, box: h("section.card", {}, h("h2", {}, title), choose, area, h("div.row.end", {}, use)) };
  }

  template(name) {
    const lines = this.offered.find((one) => one.name === name).options
      .map((option) => (option.required ? `${option.name}: ` : `# ${option.name}: ${JSON.stringify(option.default ?? null)}    ${option.help}`));
    return `use: ${name}\n${lines.join("\n")}\n`;
  }

  layOut() {
    fill(this.box, h("h1", {}, "Judge"), h("p.quiet", {}, "How far can a judge be trusted, before it teaches anything? Give it pairs whose answer you know."),
      h("div.sides", {}, this.first.box, this.second.box),
      h("section.card", {}, h("h2", {}, "Pairs"), h("div.row", {}, this.run, this.file),
        h("p.quiet.small", {}, "A line each: prompt, first, second and perhaps label (first, second or tie); or prompt, chosen and rejected."), this.pairs, h("div.row.end", {}, this.go)),
      this.found);
  }

  async ask() {
    const body = { first: this.first.area.value, second: this.second.area.value.trim(), pairs: this.pairs.value, run: this.run.value };
    sessionStorage.setItem("prefloop-judges", JSON.stringify(body));
    this.go.disabled = true;
    fill(this.found, h("p", {}, "Judging …"));
    try {
      this.show(await post("/api/judge", body));
    } catch (error) {
      fill(this.found, (error.problems ?? [error.message]).map((text) => h("p.problem", {}, text)));
    } finally {
      this.go.disabled = false;
    }
  }

  show({ judges, between, verdicts }) {
    const row = (title, of) => h("tr", {}, h("th", {}, title), judges.map((judge) => h("td", {}, of(judge))));
    const table = h("table", {}, h("tr", {}, h("th", {}, ""), judges.map((judge) => h("th", {}, `${judge.config}: ${judge.judge}`))),
      row("agrees with the labels", (j) => (j.agreement ? `${interval(j.agreement)} of ${j.agreement.pairs}` : "no labels")),
      row("consistent in both orders", (j) => (j.position ? interval(j.position.consistency) : "asked once")),
      row("prefers what is shown first", (j) => (j.position?.first_place == null ? "–" : percent(j.position.first_place))),
      row("gap between the orders", (j) => (j.position ? number(j.position.gap) : "–")),
      row("prefers the longer answer", (j) => (j.length ? interval(j.length.longer_wins) : "–")),
      row("ties, abstentions, errors", (j) => [j.ties, j.abstentions, j.errors].map(percent).join(", ")),
      row("calibration error", (j) => (j.calibration ? number(j.calibration.ece) : "–")),
      row("pairs a second", (j) => number(j.pairs_per_second)),
      row("errors", (j) => Object.keys(j.error_reasons ?? {}).join("; ") || "–"));
    fill(this.found, h("section.card", {}, h("h2", {}, "What they came to"), h("div.scroll", {}, table),
      between ? h("p", {}, `The two agree on ${between.agreement ? interval(between.agreement) : "–"} of the pairs${between.kappa == null ? "" : `, kappa ${number(between.kappa)}`}.`) : null),
    h("section.card", {}, h("h2", {}, "Pair by pair"), this.pairByPair(verdicts)));
  }

  pairByPair(verdicts) {
    const pairs = Map.groupBy(verdicts, (row) => JSON.stringify([row.prompt, ...[row.first.text, row.second.text].sort()]));
    const says = (row, exchanged) => `${row.status === "ok" ? `${exchanged ? "" : "the first is better with "}${percent(exchanged ? 1 - row.probability : row.probability)}` : row.status}${row.orders ? ` (shown first ${percent(row.orders[0])}, shown second ${percent(row.orders[1])})` : ""}${row.reason ? `, ${row.reason}` : ""}`;
    return [...pairs.values()].map((rows) => {
      const [{ prompt, first, second }] = rows;
      const judges = Map.groupBy(rows, (row) => row.by); // one that is asked once is asked about both orders
      const line = ([by, found]) => `${by} judge: ${found.map((row) => (row.first.text === first.text ? says(row, false) : `answers exchanged, ${says(row, true)}`)).join("; ")}`;
      return h("article.judged", {}, written(prompt),
        h("div.pair", {}, [first, second].map((answer) => h("div.answer", {}, written(answer.text, "div.written.clip")))),
        [...judges].map((judge) => h("p.small.quiet", {}, line(judge))));
    });
  }

  /** Put a judge into the draft of the train page. */
  async use(text) {
    const { written: read } = await post("/api/drafts/read", { text: `judge:\n${text.split("\n").map((line) => `  ${line}`).join("\n")}` });
    if (!read?.judge) { notice("This judge is no YAML that can be read.", { bad: true }); return; }
    const draft = sessionStorage.getItem("prefloop-draft") ?? "model: embedded:policy\nprompts: embedded:prompts\n";
    const { text: edited } = await post("/api/drafts/edit", { text: draft, path: ["judge"], value: read.judge });
    sessionStorage.setItem("prefloop-draft", edited);
    location.hash = "#/train";
  }
}
