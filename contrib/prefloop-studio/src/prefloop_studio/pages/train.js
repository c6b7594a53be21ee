// Make a run: a form and the YAML that it writes, which follow each other; then the plan, and the start.

import { get, post, url } from "./api.js";
import { Chart } from "./charts.js";
import { fill, h, notice } from "./dom.js";
import { bytes } from "./format.js";
import { field } from "./fields.js";

// Which keys stand in which block. A key that is not named here, such as a new section, goes into the last one.
const BLOCKS = [
  ["Model & data", ["model", "prompts"]],
  ["Fine-tune", ["adapter", "reference"]],
  ["Online preference", ["algorithm", "sampler", "judge", "bonuses"]],
  ["Loss", ["loss"]],
  ["Training", ["training", "judging"]],
  ["Evaluation", ["evaluation"]],
  ["Output", ["output", "observers", "plugins"]],
];
// What most runs set. The other options of a section are behind "More".
const MAIN = {
  model: ["path", "quantize"], prompts: ["path", "column", "system"], adapter: ["type", "rank", "scale", "dropout", "layers"],
  training: ["iters", "epochs", "batch_size", "learning_rate", "evaluate_every", "save_every", "seed"], judging: ["ties"],
  evaluation: ["held_out", "judge", "answer_column"], output: ["report"],
};
const WAIT = 500;
const START = "model: embedded:policy\nprompts: embedded:prompts\njudge: {use: rule, length: shorter}\nsampler: {max_completion_length: 24}\ntraining: {iters: 40, batch_size: 8, learning_rate: 5.0e-4, evaluate_every: 20}\n";

export async function page(box, { query, signal }) {
  const view = new TrainPage(box, signal);
  await view.start(query);
}

class TrainPage {
  constructor(box, signal) {
    Object.assign(this, { box, signal, text: "", written: {}, resolved: null, problems: [], charts: [] });
    signal.addEventListener("abort", () => this.charts.forEach((chart) => chart.destroy()));
  }

  async start(query) {
    [this.form, this.sources] = await Promise.all([get("/api/form", this.signal), get("/api/sources", this.signal)]);
    this.layOut();
    const from = query.get("from");
    const kept = sessionStorage.getItem("prefloop-draft");
    let text = kept ?? START;
    if (from) text = withoutOutput((await get(url("runs", from), this.signal)).config);
    await this.read(text);
    if (query.get("judge")) await this.change(["judge"], query.get("judge"));
  }

  layOut() {
    this.lists = h("div", {}, choices("models", this.sources.models), choices("data", this.sources.data));
    this.blocks = h("div");
    this.name = h("input", { placeholder: "a name of its own", "aria-label": "Name of the run", autocomplete: "off" });
    this.yaml = h("textarea.yaml", { rows: 26, spellcheck: "false", "aria-label": "Configuration as YAML", oninput: () => this.typed() });
    this.trouble = h("div", { role: "alert" });
    this.planned = h("div");
    const machine = this.sources.machine;
    this.go = h("button.primary", { onclick: () => this.launch() }, "Start");
    fill(this.box, h("h1", {}, "Train"), this.lists,
      h("div.two", {}, this.blocks,
        h("aside.beside", {},
          h("section.card", {}, h("h2", {}, "Start"), h("label.field", {}, h("span.label", {}, "Name"), this.name),
            h("div.row", {}, this.go, h("button", { onclick: () => this.plan() }, "Try it out")),
            h("p.quiet.small", {}, "It runs by itself: closing this page changes nothing. If another run is going on, this one waits."), this.trouble),
          h("section.card", {}, h("h2", {}, "Plan"), h("p.quiet.small", {}, `This machine has ${bytes(machine.memory)} of memory, ${bytes(machine.free)} of it free.`), this.planned),
          h("section.card", {}, h("h2", {}, "Configuration"), this.yaml,
            h("p.quiet.small", {}, "The form writes here, and follows what you write. ", h("code", {}, "prefloop train FILE"), " runs the same.")))));
  }

  // What is written, in both directions

  async read(text) {
    await this.take({ text, ...(await post("/api/drafts/read", { text })) });
  }

  async change(path, value) {
    const body = { text: this.yaml.value, path };
    if (value !== undefined) body.value = value;
    await this.take(await post("/api/drafts/edit", body));
  }

  async take(found) {
    Object.assign(this, found);
    if (this.resolved) this.known = this.resolved;
    if (this.yaml.value !== this.text) this.yaml.value = this.text;
    sessionStorage.setItem("prefloop-draft", this.text);
    this.showForm();
    this.showProblems();
  }

  typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(this.yaml.value), WAIT);
  }

  // The form

  showForm() {
    const focused = document.activeElement?.dataset?.path;
    const open = new Set([...this.blocks.querySelectorAll("details[open]")].map((element) => element.dataset.key));
    this.charts.forEach((chart) => chart.destroy());
    this.charts = [];
    const named = new Set(BLOCKS.flatMap(([, keys]) => keys));
    const options = new Map(this.form.options.map((option) => [option.name, option]));
    const others = this.form.options.map((option) => option.name).filter((name) => !named.has(name));
    fill(this.blocks, BLOCKS.map(([title, keys], place) => h("section.card", { "aria-label": title }, h("h2", {}, title),
      [...keys, ...(place === BLOCKS.length - 1 ? others : [])].filter((key) => options.has(key)).map((key) => this.part(options.get(key))))));
    for (const element of this.blocks.querySelectorAll("details")) element.open = open.has(element.dataset.key);
    if (focused) this.blocks.querySelector(`[data-path="${CSS.escape(focused)}"]`)?.focus();
  }

  /** What belongs to one key of the configuration. */
  part(option) {
    const written = this.written?.[option.name];
    const resolved = this.known?.[option.name];
    if (option.type === "section") return this.section(option, [option.name], asMapping(option.name, written), resolved ?? {});
    if (option.type === "component") return this.component(option, [option.name], written, resolved);
    if (option.type === "components") return this.list(option, [option.name], written, resolved);
    return this.field(option, [option.name], written, resolved);
  }

  field(option, path, written, resolved) {
    const key = path.join(".");
    const list = { "model.path": "models", "judge.model": "models", "reference": "models", "prompts.path": "data", "evaluation.prompts": "data" }[key] ?? null;
    const made = field(option, path, { written, resolved }, (where, value) => this.change(where, value), { list });
    return key === "prompts.path" ? [h("div", {}, made, h("button.small-button", { type: "button", onclick: () => this.preview() }, "Show its first rows")), (this.rows ??= h("div.wide"))] : made;
  }

  section(option, path, written, resolved) {
    if (Array.isArray(written)) return h("fieldset", {}, legend(option.name, path), h("p.quiet.small", {}, option.help),
      h("ul.small", {}, written.map((one) => h("li", {}, described(one)))), h("p.quiet.small", {}, "A list is edited in the file."),
      h("span.problem.small", { hidden: true, "data-problem": path.join("."), role: "alert" }));
    const main = MAIN[option.name] ?? [];
    const of = (inner) => (inner.type === "component" ? this.component(inner, [...path, inner.name], written?.[inner.name], resolved?.[inner.name])
      : inner.type === "section" ? this.section(inner, [...path, inner.name], written?.[inner.name], resolved?.[inner.name] ?? {})
        : this.field(inner, [...path, inner.name], written?.[inner.name], resolved?.[inner.name]));
    const [first, rest] = [option.options.filter((o) => main.includes(o.name)), option.options.filter((o) => !main.includes(o.name))];
    return h("fieldset", {}, legend(option.name, path), h("p.quiet.small", {}, option.help), h("div.fields", {}, first.map(of)),
      rest.length ? h("details", { "data-key": path.join(".") }, h("summary", {}, "More"), h("div.fields", {}, rest.map(of))) : null);
  }

  component(option, path, written, resolved) {
    const offered = this.form.components[option.kind];
    const use = used(written) ?? null;
    const now = use ?? used(resolved);
    const chosen = offered.find((found) => found.name === short(now) || `${found.distribution}:${found.name}` === now);
    const select = h("select", { "data-path": path.join("."), "aria-label": option.name, onchange: (event) => this.change(path, event.target.value || undefined) },
      h("option", { value: "" }, option.required || resolved ? `as the algorithm has it: ${short(used(resolved)) ?? "none"}` : "none"),
      offered.map((found) => h("option", { value: found.name, selected: use !== null && found === chosen, disabled: Boolean(found.broken) }, LABELS[`${option.kind}:${found.name}`] ?? found.name)));
    const given = written && typeof written === "object" ? written : {};
    const shortForm = typeof written === "string" && !chosen;
    const options = chosen?.options ?? [];
    if (Array.isArray(written)) return h("fieldset", {}, legend(option.name, path), h("p.quiet.small", {}, option.help),
      h("p.small", {}, `A list of ${written.length}: ${written.map((one) => short(used(one))).join(", ")}. Edit it in the file.`));
    return h("fieldset", {}, legend(option.name, path), h("p.quiet.small", {}, chosen?.help || option.help), select,
      h("span.problem.small", { hidden: true, "data-problem": path.join("."), role: "alert" }),
      shortForm ? h("p.small", {}, `Written as ${written}.`) : null,
      h("div.fields", {}, options.map((inner) => this.inner(inner, [...path, inner.name], given[inner.name], resolved?.[inner.name]))),
      option.name === "algorithm" ? this.schedule(given, resolved) : null);
  }

  inner(option, path, written, resolved) {
    if (option.type === "components") return this.list(option, path, written, resolved);
    if (option.type === "component") return this.component(option, path, written, resolved);
    if (option.type === "section") return this.section(option, path, written, resolved ?? {});
    return this.field(option, path, written, resolved);
  }

  /** Several components, such as bonuses or the members of a committee. */
  list(option, path, written, resolved) {
    const items = Array.isArray(written) ? written : Array.isArray(resolved) ? resolved : [];
    const mine = Array.isArray(written);
    const offered = this.form.components[option.kind];
    const add = h("select", { "aria-label": `Add to ${option.name}`, onchange: (event) => event.target.value && this.change(path, [...(mine ? items : []), { use: event.target.value }]) },
      h("option", { value: "" }, "add …"), offered.map((found) => h("option", { value: found.name, disabled: Boolean(found.broken) }, found.name)));
    const row = (item, place) => h("div.item", {}, mine
      ? [this.component({ ...option, name: `${option.name} ${place + 1}`, type: "component", required: true }, [...path, String(place)], item, resolved?.[place]),
        h("button.plain", { type: "button", onclick: () => this.change(path, items.filter((_, other) => other !== place)) }, "Remove")]
      : h("span.badge", {}, `${short(used(item))}, from the algorithm`));
    return h("fieldset", {}, h("legend", {}, option.name), h("p.quiet.small", {}, option.help), items.map(row), add);
  }

  /** The weight of the exploration bonus over the run, as a picture. */
  schedule(given, resolved) {
    const alpha = given.alpha ?? resolved?.alpha;
    if (alpha === undefined || alpha === null) return null;
    const values = Array.isArray(alpha) ? alpha : [alpha];
    const epochs = Math.max(values.length, Math.ceil(this.known?.training?.epochs ?? 1), 1);
    const box = h("div.schedule");
    const chart = new Chart(box, ["alpha"], { height: 130, step: true });
    const at = [...Array(epochs).keys()].flatMap((epoch) => [epoch, epoch + 0.999]);
    chart.set(at, [at.map((epoch) => Number(values[Math.min(Math.floor(epoch), values.length - 1)]))]);
    this.charts.push(chart);
    return h("div", {}, h("p.quiet.small", {}, "alpha by epoch; the last value stays"), box);
  }

  showProblems() {
    for (const place of this.box.querySelectorAll("[data-problem]")) place.hidden = true;
    for (const input of this.box.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    for (const { path, text } of this.problems) {
      const at = this.box.querySelector(`[data-problem="${CSS.escape(path)}"]`);
      if (!at) continue;
      at.hidden = false;
      at.textContent = text;
      this.box.querySelector(`[data-path="${CSS.escape(path)}"]`)?.setAttribute("aria-invalid", "true");
    }
    fill(this.trouble, this.problems.map(({ line, path, text }) => h("p.problem.small", {}, [line && `line ${line}`, path, text].filter(Boolean).join(": "))));
    this.go.disabled = this.problems.length > 0;
  }

  async preview() {
    const { path, name, split, column } = this.known?.prompts ?? {};
    const { columns, rows } = await get(`/api/preview?${new URLSearchParams({ path, name: name ?? "", split: split ?? "train" })}`);
    const choose = (name) => h("button.plain", { onclick: () => this.change(["prompts", "column"], name), title: `Take the prompts from ${name}`, "aria-pressed": String(column === name) }, name);
    fill(this.rows, h("div.scroll", {}, h("table", {}, h("tr", {}, columns.map((name) => h("th", {}, choose(name)))), rows.map((row) => h("tr", {}, columns.map((name) => h("td.small", {}, row[name] ?? "")))))));
  }

  // Trying and starting

  async plan() {
    fill(this.planned, h("p", {}, "Loading the model and trying one micro-batch …"));
    try {
      const found = await post("/api/drafts/plan", { text: this.yaml.value });
      const rows = found.lines.map((line) => h("tr", {}, h("th", {}, line.slice(0, 8).trim()), h("td.small", {}, line.slice(9))));
      fill(this.planned, h("p", {}, found.ready ? "It can learn." : "It cannot start."), found.said ? h("p.problem.small", {}, found.said) : null, h("table", {}, rows));
    } catch (error) {
      fill(this.planned, h("p.problem", {}, error.message));
    }
  }

  async launch() {
    this.go.disabled = true;
    try {
      const entry = await post("/api/runs", { config: this.yaml.value, name: this.name.value.trim() || null });
      notice(`${entry.run} starts as soon as nothing else runs.`);
      await this.follow(entry);
    } catch (error) {
      fill(this.trouble, (error.problems ?? [error.message]).map((text) => h("p.problem.small", {}, text)));
    } finally {
      this.go.disabled = false;
    }
  }

  /** Wait until the run has a folder, and go to its page; or say why it has none. */
  async follow(entry) {
    fill(this.trouble, h("p.quiet", {}, `${entry.run} is being started …`));
    while (!this.signal.aborted) {
      const mine = (await get("/api/queue", this.signal)).find((other) => other.id === entry.id);
      if (!mine) {
        location.hash = `#/run/${encodeURIComponent(entry.run)}`;
        return;
      }
      if (mine.state === "failed") {
        fill(this.trouble, h("p.problem", {}, mine.said));
        return;
      }
      if (mine.state === "waiting") fill(this.trouble, h("p.quiet", {}, `${entry.run} waits for the run before it. `, h("a", { href: "#/runs" }, "To the runs")));
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
  }
}

const LABELS = { "judge:llm": "LLM", "judge:web": "User, in the browser", "judge:human": "User, in a terminal" };

function choices(id, found) {
  return h("datalist", { id }, found.map((one) => h("option", { value: one.path }, `${one.where}, ${bytes(one.bytes)}`)));
}

/** The name of a part; one that its block says already is only read out. */
const legend = (name, path) => h(`legend${path.length === 1 && BLOCKS.some(([title]) => title.toLowerCase() === name) ? ".unseen" : ""}`, {}, name.replaceAll("_", " "));

const used = (value) => (typeof value === "string" ? value : value?.use);
const short = (name) => name?.split(":").at(-1);

/** One of several sources of prompts, in words. */
function described(source) {
  if (typeof source !== "object" || source === null) return String(source);
  const judge = source.judge ? `, judged by ${short(used(source.judge))}` : "";
  return `${source.path ?? "?"}, weight ${source.weight ?? 1}${judge}`;
}

/** A section whose bare value is its path: `model: X` is `{path: X}`. */
function asMapping(name, written) {
  return typeof written === "string" && ["model", "prompts", "output"].includes(name) ? { path: written } : written;
}

/** The configuration of a run, without its folder, as the draft of another. */
function withoutOutput(text) {
  return text.split("\n").filter((line) => !line.startsWith("# sha256")).join("\n").replace(/^output:\n {2}path: .*\n/m, "output:\n");
}
