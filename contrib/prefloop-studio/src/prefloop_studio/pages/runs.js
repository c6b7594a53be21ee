// All runs: cards to find, compare, rename and delete them; what waits for its turn; the trash.

import { del, get, post, url } from "./api.js";
import { sparkline } from "./charts.js";
import { ask, fill, h, notice } from "./dom.js";
import { ago, interval, number } from "./format.js";
import { badge, rateOf, steps } from "./state.js";

const MOST = 5; // runs in one comparison
const ORDERS = {
  newest: (a, b) => 0,
  "win rate": (a, b) => (rateOf(b)?.rate ?? -1) - (rateOf(a)?.rate ?? -1),
  name: (a, b) => a.run.localeCompare(b.run),
};
const EVERY = 3000;

export async function page(box, { signal }) {
  const view = new RunsPage(box, signal);
  await view.refresh();
  const timer = setInterval(() => { if (!document.hidden) view.refresh().catch(() => {}); }, EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));
}

class RunsPage {
  constructor(box, signal) {
    Object.assign(this, { box, signal, chosen: new Set(), seen: "" });
    this.search = h("input", { type: "search", placeholder: "Filter by name, model, judge …", "aria-label": "Filter runs", oninput: () => this.show() });
    this.order = h("select", { "aria-label": "Order", onchange: () => this.show() }, Object.keys(ORDERS).map((name) => h("option", { value: name }, name)));
    this.compare = h("a.button", { hidden: true });
    this.queue = h("div");
    this.cards = h("div.grid");
    this.trash = h("button.plain", { onclick: () => this.openTrash() }, "Trash");
    fill(box, h("div.head", {}, h("h1", {}, "Runs"), h("div.row", {}, this.trash, this.compare, h("a.button.primary", { href: "#/train" }, "New run"))),
      h("div.row.filters", {}, this.search, this.order), this.queue, this.cards);
  }

  async refresh() {
    const [runs, queue] = await Promise.all([get("/api/runs", this.signal), get("/api/queue", this.signal)]);
    const now = JSON.stringify([runs, queue]);
    if (now === this.seen) return; // nothing moves under the pointer unless something changed
    Object.assign(this, { runs, waiting: queue, seen: now });
    this.show();
  }

  show() {
    const wanted = this.search.value.trim().toLowerCase();
    const has = (run) => [run.run, run.status, run.model, run.judge, run.loss, run.algorithm].join(" ").toLowerCase().includes(wanted);
    const found = this.runs.filter(has).sort(ORDERS[this.order.value]);
    fill(this.queue, this.waiting.map((entry) => this.entry(entry)));
    if (found.length) fill(this.cards, found.map((run) => this.card(run)));
    else fill(this.cards, h("div.empty", {}, this.runs.length ? "No run fits this filter." : h("div", {}, h("p", {}, "There are no runs in this folder yet."), h("a.button.primary", { href: "#/train" }, "Start the first one"))));
    this.showCompare();
  }

  showCompare() {
    const names = [...this.chosen].filter((name) => this.runs.some((run) => run.run === name));
    this.compare.hidden = names.length < 2;
    this.compare.setAttribute("href", `#/compare/${names.map(encodeURIComponent).join("/")}`);
    fill(this.compare, `Compare ${names.length}`);
  }

  card(run) {
    const link = `#/run/${encodeURIComponent(run.run)}`;
    const rate = rateOf(run);
    const box = h("input", { type: "checkbox", "aria-label": `Compare ${run.run}`, checked: this.chosen.has(run.run), onchange: (event) => this.choose(run.run, event.target) });
    return h("article.card", {},
      h("div.row.apart", {}, h("h2", {}, h("a", { href: link }, run.run)), badge(run.status)),
      run.spark ? sparkline(run.spark.win_rate.length > 2 ? run.spark.win_rate : run.spark.loss, run.spark.win_rate.length > 2 ? "win rate" : "loss") : null,
      run.status === "damaged" ? h("p.problem", {}, run.reason) : h("table", {},
        line("steps", steps(run)), line("win rate", rate ? interval(rate) : "–"),
        line("loss", number(run.latest_loss)),
        line("made with", [run.algorithm, run.judge, run.loss].filter(Boolean).map(shortName).join(", ")), line("model", run.model ?? "–")),
      h("div.row.apart", {}, h("label.row.small", {}, box, "compare"), h("span.quiet.small", {}, run.started ? ago(run.started) : ""),
        h("div.row", {}, h("button.plain", { onclick: () => this.rename(run.run) }, "Rename"), h("button.plain", { onclick: () => this.remove(run.run), disabled: run.alive }, "Delete"))));
  }

  choose(name, box) {
    if (box.checked && this.chosen.size >= MOST) {
      box.checked = false;
      notice(`${MOST} runs fit into one comparison.`);
    } else if (box.checked) this.chosen.add(name);
    else this.chosen.delete(name);
    this.showCompare();
  }

  entry(entry) {
    const drop = () => h("button", { onclick: async () => { await del(url("queue", entry.id)); await this.refresh(); } }, entry.state === "failed" ? "Dismiss" : "Take back");
    return h("div.card", {}, h("div.row.apart", {},
      h("div", {}, h("strong", {}, entry.run), ` ${entry.resume ? "goes on" : "starts"} `, badge(entry.state === "failed" ? "failed" : "stopped"), ` ${entry.state}`),
      entry.state === "starting" ? null : drop()), entry.said ? h("pre.problem", {}, entry.said) : null);
  }

  async rename(name) {
    const wanted = await ask(`Rename ${name}`, { value: name, action: "Rename" });
    if (!wanted || wanted === name) return;
    await post(url("runs", name, "rename"), { name: wanted });
    await this.refresh();
  }

  async remove(name) {
    const { id } = await del(url("runs", name));
    this.chosen.delete(name);
    notice(`${name} is in the trash.`, { undo: async () => { await post(url("trash", id)); await this.refresh(); } });
    await this.refresh();
  }

  async openTrash() {
    const found = await get("/api/trash");
    const restore = async (kept) => { await post(url("trash", kept.id)); await this.refresh(); dialog.close(); };
    const dialog = h("dialog", { "aria-label": "Trash", onclose: () => dialog.remove() }, h("h2", {}, "Trash"),
      found.length ? h("table", {}, found.map((kept) => h("tr", {}, h("td", {}, kept.run), h("td.number", {}, h("button", { onclick: () => restore(kept) }, "Restore"))))) : h("p.quiet", {}, "It is empty."),
      h("div.row.end", {},
        found.length ? h("button.danger", { onclick: async () => { if (await ask(`Remove ${found.length} for good?`, { action: "Remove", danger: true })) { await del("/api/trash"); dialog.close(); } } }, "Empty") : null,
        h("button", { onclick: () => dialog.close() }, "Close")));
    document.body.append(dialog);
    dialog.showModal();
  }
}

const line = (title, text) => h("tr", {}, h("th", {}, title), h("td", {}, text));
const shortName = (name) => name.replace(/^prefloop:/, "");
