// Talk with a run, alone or with another model beside it; where there are two answers, pick the better one.

import { get, post, Refused, say, url } from "./api.js";
import { fill, h, notice, written } from "./dom.js";
import { number } from "./format.js";
import { rich } from "./markdown.js";

const SOURCES = { policy: "as it is now", start: "as it began", reference: "its reference" };

export async function page(box, { rest: [name], signal }) {
  const runs = (await get("/api/runs", signal)).filter((run) => run.status !== "damaged");
  if (!runs.length) {
    fill(box, h("h1", {}, "Arena"), h("div.empty", {}, h("p", {}, "There is no run to talk with yet."), h("a.button.primary", { href: "#/train" }, "Start one")));
    return;
  }
  new ArenaPage(box, signal, runs, name ?? runs[0].run).layOut();
}

class ArenaPage {
  constructor(box, signal, runs, name) {
    Object.assign(this, { box, signal, runs, messages: [], asking: null, drafts: null });
    this.left = this.chooser("First model", name, "policy");
    this.mode = h("select", { "aria-label": "Second answer", onchange: () => this.showMode() },
      h("option", { value: "one" }, "one answer"), h("option", { value: "two" }, "two drafts of the same model"), h("option", { value: "other" }, "another model beside it"));
    this.right = this.chooser("Second model", name, "start");
    document.addEventListener("keydown", (event) => this.key(event), { signal });
    signal.addEventListener("abort", () => this.asking?.abort());
  }

  chooser(label, name, source) {
    const run = h("select", { "aria-label": label }, this.runs.map((one) => h("option", { value: one.run, selected: one.run === name }, one.run)));
    const as = h("select", { "aria-label": `${label}: which state` }, Object.entries(SOURCES).map(([value, title]) => h("option", { value, selected: value === source }, title)));
    return { run, as, box: h("span.row.chooser", {}, run, as) };
  }

  layOut() {
    this.system = h("textarea", { rows: 2, placeholder: "none", "aria-label": "System prompt" });
    const setting = (label, value) => { const input = h("input", { value, inputmode: "decimal", "aria-label": label }); return { input, box: h("label.field", {}, h("span.label", {}, label), input) }; };
    this.settings = { temperature: setting("temperature", "0.8"), top_p: setting("top p", "0.95"), max_tokens: setting("longest answer, tokens", "256") };
    this.talk = h("div.talk", { "aria-live": "polite" });
    this.input = h("textarea", { rows: 2, placeholder: "Say something …", "aria-label": "Message", onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); this.send(); } } });
    this.button = h("button.primary", { onclick: () => (this.asking ? this.asking.abort() : this.send()) }, "Send");
    this.picked = h("span.quiet.small");
    fill(this.box, h("div.head", {}, h("h1", {}, "Arena"), h("div.row", {}, this.picked, h("button", { onclick: () => this.clear() }, "New conversation"))),
      h("section.card", {}, h("div.row", {}, this.left.box, this.mode, this.right.box),
        h("details", {}, h("summary", {}, "Settings"), h("label.field", {}, h("span.label", {}, "System prompt"), this.system), h("div.fields", {}, Object.values(this.settings).map(({ box }) => box)))),
      this.talk, h("div.say", {}, this.input, this.button));
    this.showMode();
    this.input.focus();
  }

  showMode() { this.right.box.hidden = this.mode.value !== "other"; }

  clear() {
    this.asking?.abort();
    Object.assign(this, { messages: [], drafts: null });
    fill(this.talk);
  }

  sides() {
    const of = ({ run, as }) => ({ run: run.value, source: as.value });
    if (this.mode.value === "one") return [of(this.left)];
    return [of(this.left), this.mode.value === "two" ? of(this.left) : of(this.right)];
  }

  async send() {
    const text = this.input.value.trim();
    if (!text || this.asking) return;
    if (this.drafts) this.keep(0);
    this.input.value = "";
    this.messages.push({ role: "user", content: text });
    this.talk.append(turn("you", written(text)));
    const sides = this.sides();
    const blind = sides.length === 2 && Math.random() < 0.5; // which of them is shown first is chance
    const shown = blind ? sides.toReversed() : sides;
    const boxes = shown.map(() => h("div.written"));
    const about = shown.map(() => h("div.who", {}, "…"));
    this.answers = h(`div.${sides.length === 2 ? "pair" : "alone"}`, {}, shown.map((_, place) => h("div.answer.big", {}, about[place], boxes[place])));
    this.talk.append(this.answers);
    this.asking = new AbortController();
    fill(this.button, "Stop");
    const texts = [];
    const steps = [];
    try {
      // One after the other: two at once would only share the same processor.
      for (const [place, side] of shown.entries()) [texts[place], steps[place]] = await this.hear(side, boxes[place], about[place], place);
      if (sides.length === 1) this.messages.push({ role: "assistant", content: texts[0] });
      else this.offer({ shown, texts, steps, about });
    } catch (error) {
      if (error.name !== "AbortError") about.forEach((one) => fill(one, h("span.problem", {}, error.message)));
      this.messages.pop();
    } finally {
      this.asking = null;
      fill(this.button, "Send");
      this.answers.scrollIntoView({ block: "nearest" });
    }
  }

  async hear(side, box, about, place) {
    let text = "";
    let how = null;
    const settings = Object.fromEntries(Object.entries(this.settings).map(([name, { input }]) => [name, Number(input.value)]));
    const system = this.system.value.trim();
    const body = { ...settings, source: side.source, seed: Math.floor(Math.random() * 2 ** 31), messages: [...(system ? [{ role: "system", content: system }] : []), ...this.messages] };
    fill(about, "loading …");
    await say(url("runs", side.run, "talk"), body, (record) => {
      if (record.error) throw new Refused(0, { error: record.error });
      if (record.text !== undefined) { text += record.text; fill(box, rich(text)); fill(about, this.mode.value === "one" ? `${side.run}, ${SOURCES[side.source]}` : `${place + 1}`); }
      if (record.done) how = record;
    }, this.asking.signal);
    if (how) about.append(` · ${how.tokens} tokens, ${number(how.tokens / how.seconds)} a second${how.stopped ? "" : " · cut at the limit"}`);
    return [text, how?.step ?? 0];
  }

  /** Two answers are there: wait for a pick. */
  offer(drafts) {
    this.drafts = drafts;
    this.buttons = h("div.keys", { role: "group", "aria-label": "Which is better" },
      [["1", "First is better"], ["2", "Second is better"], ["t", "Tie"]].map(([key, title]) => h(`button${key === "t" ? "" : ".primary"}`, { onclick: (event) => this.pick(key, event.shiftKey) }, h("kbd", {}, key), title)));
    this.talk.append(this.buttons);
  }

  key(event) {
    if (!this.drafts || event.ctrlKey || event.metaKey || /^(input|textarea|select)$/i.test(event.target.tagName) && event.target.value) return;
    const digit = /^(Digit|Numpad)([12])$/.exec(event.code);
    const key = digit ? digit[2] : event.key;
    if (!["1", "2", "t"].includes(key)) return;
    event.preventDefault();
    this.pick(key, event.shiftKey);
  }

  async pick(choice, much) {
    const { shown, texts, steps, about } = this.drafts;
    const system = this.system.value.trim();
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...this.messages];
    const { picks } = await post(url("runs", this.left.run.value, "picks"), { messages, first: texts[0], second: texts[1], choice, much, step: steps[0] });
    shown.forEach((side, place) => about[place].append(` · ${side.run}, ${SOURCES[side.source]}`));
    fill(this.picked, `${picks} picks · `, h("a", { href: "#", onclick: (event) => { event.preventDefault(); this.export(); } }, "export"));
    this.keep(choice === "2" ? 1 : 0);
  }

  /** Go on with one of the two drafts. */
  keep(place) {
    this.messages.push({ role: "assistant", content: this.drafts.texts[place] });
    this.answers.children[place].classList.add("won");
    this.buttons.remove();
    this.drafts = null;
    this.input.focus();
  }

  async export() {
    const rows = await get(url("runs", this.left.run.value, "picks"));
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
    const link = h("a", { href: `data:application/jsonl;charset=utf-8,${encodeURIComponent(lines)}`, download: `${this.left.run.value}-picks.jsonl` });
    link.click();
    notice(`${rows.length} pairs, which prefloop trains on with algorithm: offline_dpo. The same: prefloop export pairs RUN/picks`);
  }
}

const turn = (who, text) => h("div.turn.said", {}, h("div.who", {}, who), text);
