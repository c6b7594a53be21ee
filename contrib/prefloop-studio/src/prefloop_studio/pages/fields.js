// Fields for options. Each shows what is written in the configuration, and as a hint what holds where nothing is.

import { h } from "./dom.js";

let count = 0;

/**
 * A field for `option` at the key path `path`. `now.written` is what the configuration says, `now.resolved` what
 * comes of it; `change(path, value)` writes, with undefined for "as by default".
 */
export function field(option, path, now, change, { list = null } = {}) {
  const id = `field-${(count += 1)}`;
  const hint = now.resolved ?? option.default;
  const input = control(option, id, now.written, hint, (value) => change(path, value), list);
  input.setAttribute("aria-describedby", `${id}-help`);
  input.dataset.path = path.join(".");
  const tall = option.type === "boolean";
  return h("label.field", { for: id }, tall ? h("span.row", {}, input, h("span.label", {}, title(option))) : [h("span.label", {}, title(option)), input],
    h("span.help", { id: `${id}-help` }, option.help, range(option)), h("span.problem.small", { hidden: true, "data-problem": path.join("."), role: "alert" }));
}

const title = (option) => `${option.name.replaceAll("_", " ")}${option.required ? " *" : ""}`;

function range({ least, most, above, below }) {
  const parts = [least !== undefined && `at least ${least}`, above !== undefined && `above ${above}`, most !== undefined && `at most ${most}`, below !== undefined && `below ${below}`].filter(Boolean);
  return parts.length ? ` (${parts.join(", ")})` : "";
}

const shown = (value) => (value === undefined ? "" : value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value));

function control(option, id, written, hint, change, list) {
  if (option.type === "boolean") {
    return h("input", { type: "checkbox", id, checked: written ?? hint ?? false, onchange: (event) => change(event.target.checked) });
  }
  if (option.choices) {
    const blank = `default: ${shown(hint)}`;
    return h("select", { id, onchange: (event) => change(event.target.value === "" ? undefined : typed(option, event.target.value)) },
      h("option", { value: "" }, blank), option.choices.map((choice) => h("option", { value: choice, selected: written === choice }, String(choice))));
  }
  const long = option.type === "text" && /prompt|rubric|template|system/.test(option.name) && option.name !== "prompts" && option.name !== "system_column";
  if (long) {
    return h("textarea", { id, rows: 3, placeholder: shown(hint), value: written ?? "", onchange: (event) => change(event.target.value === "" ? undefined : event.target.value) });
  }
  const numeric = option.type === "integer" || option.type === "number";
  return h("input", {
    id, type: "text", inputmode: numeric ? "decimal" : "text", value: shown(written), placeholder: shown(hint), autocomplete: "off", spellcheck: "false", list,
    onchange: (event) => { const text = event.target.value.trim(); change(text === "" ? undefined : typed(option, text)); },
  });
}

/** A text from a field as the value that it is meant to be; what cannot be read is passed on, for the server to refuse. */
export function typed(option, text) {
  if (text === "none" || text === "null") return option.nullable ? null : text;
  if (option.type === "text") return text;
  if (option.type === "integer" || option.type === "number") return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : text;
  if (option.type === "list" && !text.startsWith("[")) return text.split(",").map((part) => part.trim()).filter(Boolean);
  try {
    return JSON.parse(text);
  } catch {
    return /^[\d\s.,eE+-]+$/.test(text) && text.includes(",") ? text.split(",").map(Number) : text;
  }
}
