// Label pairs: two answers, blind, and keys. What is answered is written down by the server before it is ticked off.

import { get, post, url } from "./api.js";
import { fill, h, notice, written } from "./dom.js";
import { duration, percent } from "./format.js";
import { rich } from "./markdown.js";

const CHOICES = [
  ["1", "First is better", "Shift: much better"],
  ["2", "Second is better", "Shift: much better"],
  ["t", "Tie", ""],
  ["b", "Both bad", ""],
  ["s", "Skip", ""],
  ["u", "Undo", ""],
];
const EVERY = 1500;

/** Who answers on this browser: two people get different pairs. */
function me() {
  let who = localStorage.getItem("prefloop-who");
  if (!who) {
    who = `browser ${crypto.randomUUID().slice(0, 8)}`;
    localStorage.setItem("prefloop-who", who);
  }
  return who;
}

export async function page(box, { rest: [name], signal }) {
  if (!name) {
    await choose(box, signal);
    return;
  }
  const view = new LabelPage(box, name, signal);
  await view.start();
}

async function choose(box, signal) {
  const found = await get("/api/labels", signal);
  if (found.length === 1 && found[0].waiting) {
    location.replace(`#/label/${encodeURIComponent(found[0].run)}`);
    return;
  }
  const row = (run) => h("tr", {}, h("td", {}, h("a", { href: `#/label/${encodeURIComponent(run.run)}` }, run.run)),
    h("td", {}, run.alive ? "running" : "not running"), h("td.number", {}, run.waiting));
  fill(box, h("h1", {}, "Label"),
    found.length ? h("div.card", {}, h("table", {}, h("tr", {}, h("th", {}, "run"), h("th", {}, ""), h("th.number", {}, "pairs that wait")), found.map(row)))
      : h("div.empty", {}, h("p", {}, "No run waits for labels. Start one whose judge is ", h("em", {}, "web"), ", and its pairs come here."), h("a.button.primary", { href: "#/train?judge=web" }, "New run")));
}

class LabelPage {
  constructor(box, name, signal) {
    Object.assign(this, { box, name, signal, question: null, again: false, last: null, busy: false });
    this.markdown = localStorage.getItem("prefloop-markdown") === "yes";
    document.addEventListener("keydown", (event) => this.key(event), { signal });
    this.timer = setInterval(() => { if (!document.hidden) this.look(); }, EVERY);
    signal.addEventListener("abort", () => clearInterval(this.timer));
  }

  async start() {
    this.status = h("p.quiet", { role: "status" });
    this.body = h("div", { "aria-busy": "false" });
    const toggle = h("input", { type: "checkbox", checked: this.markdown, onchange: (event) => { this.markdown = event.target.checked; localStorage.setItem("prefloop-markdown", this.markdown ? "yes" : "no"); this.show(); } });
    fill(this.box, h("div.head", {}, h("div", {}, h("h1", {}, "Label"), h("a", { href: `#/run/${encodeURIComponent(this.name)}` }, this.name)),
      h("label.row.small", {}, toggle, "Markdown")), this.status, this.body);
    await this.next();
  }

  async next() {
    const found = await post(url("runs", this.name, "labels", "next"), { who: me() });
    this.question = found.question;
    this.again = found.again;
    this.show();
    await this.standing();
  }

  /** Look whether there is a pair now, where there was none; with one in view only the numbers are fetched. */
  async look() {
    if (this.busy) return;
    try {
      if (this.question) await this.standing();
      else await this.next();
    } catch (error) {
      fill(this.status, h("span.problem", {}, error.message));
    }
  }

  async standing() {
    const now = await get(url("runs", this.name, "labels"), this.signal);
    const parts = [`${now.answered} answered`, `${now.waiting} waiting`];
    if (now.seconds) parts.push(`${duration(now.seconds)} each`);
    if (now.second_looks) parts.push(`you agree with yourself on ${now.agree} of ${now.second_looks} second looks`);
    if (now.beside) parts.push(`the judge beside you agrees on ${now.beside_agrees} of ${now.beside}`);
    if (!now.alive) parts.push("the run is not going on: answers are kept for when it is resumed");
    fill(this.status, parts.join(" · "));
  }

  show() {
    const { question } = this;
    if (!question) {
      fill(this.body, h("div.empty", {}, h("p", {}, "No pair waits now. The next ones appear here by themselves."), this.undoButton()));
      return;
    }
    const turns = question.messages.length ? question.messages : [{ role: "user", content: question.prompt }];
    const text = (content) => (this.markdown ? rich(content) : written(content));
    fill(this.body,
      h("section.card.prompt", { "aria-label": "Prompt" }, turns.map((turn) => h("div.turn", {}, h("div.who", {}, turn.role), text(content(turn))))),
      this.again ? h("p.quiet.small", {}, "A second look at a pair that you have answered before; it is not learnt from.") : null,
      h("div.pair.choices", {}, question.answers.map((answer, place) => h("section.answer.big", { "aria-label": `Answer ${place + 1}` }, h("div.who", {}, `${place + 1}`), text(answer)))),
      h("div.keys", { role: "group", "aria-label": "Your answer" }, CHOICES.map(([key, title, more]) => h(`button${key < "3" ? ".primary" : ""}`, {
        title: more, disabled: key === "u" && !this.last, onclick: (event) => this.answer(key, event.shiftKey), "data-key": key,
      }, h("kbd", {}, key), title))),
      h("p.quiet.small", {}, "Shift with 1 or 2: much better. Which answer is shown first is chance."));
  }

  undoButton() {
    return this.last ? h("button", { onclick: () => this.answer("u") }, h("kbd", {}, "u"), "Undo the last answer") : null;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(input|textarea|select)$/i.test(event.target.tagName)) return;
    const digit = /^(Digit|Numpad)([12])$/.exec(event.code);
    const key = digit ? digit[2] : event.key.toLowerCase();
    if (!CHOICES.some(([known]) => known === key)) return;
    event.preventDefault();
    this.answer(key, event.shiftKey && Boolean(digit));
  }

  setBusy(busy) {
    this.busy = busy;
    this.body.setAttribute("aria-busy", String(busy));
  }

  async answer(choice, much = false) {
    if (this.busy || (choice === "u" ? !this.last : !this.question)) return;
    this.setBusy(true); // a key that comes before the next pair is shown counts for nothing
    try {
      const about = choice === "u" ? this.last : { id: this.question.id, swapped: this.question.swapped, again: this.again };
      await post(url("runs", this.name, "labels"), { ...about, choice, much, who: me() });
      this.last = choice === "u" || this.again ? null : about;
      await this.next();
    } catch (error) {
      notice(error.message, { bad: true });
      if (choice === "u") this.last = null;
      await this.next().catch(() => {});
    } finally {
      this.setBusy(false);
    }
  }
}

/** The text of a turn, whose content may be a list of parts. */
function content(turn) {
  if (typeof turn.content === "string") return turn.content;
  return Array.isArray(turn.content) ? turn.content.map((part) => part?.text ?? "").join("\n") : String(turn.content ?? "");
}
