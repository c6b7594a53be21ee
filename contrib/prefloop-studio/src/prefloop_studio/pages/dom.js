// Elements and texts. Whatever a model, a file or a person wrote goes in as a text node, never as HTML.

/** An element: `h("a.button", {href: "#/", onclick}, "Text", child, [more])`. Null and false children are left out. */
export function h(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) setProperty(element, name, value);
  element.append(...flat(children));
  return element;
}

function setProperty(element, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "class") element.className = [element.className, value].filter(Boolean).join(" ");
  else if (name === "value" || name === "checked" || name === "open") element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Put `children` in place of what `element` holds. */
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/** A text that something else wrote: line breaks stay, invisible and direction-changing characters are shown. */
export function written(text, what = "div.written") {
  return h(what, { dir: "auto" }, ...pieces(String(text ?? "")));
}

// Control characters (but for tab and line break) and those that turn the direction of what follows.
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

function pieces(text) {
  const found = [];
  let plain = "";
  for (const character of text.replaceAll("\r\n", "\n")) {
    if (!ODD.test(character)) {
      plain += character;
      continue;
    }
    if (plain) found.push(plain);
    plain = "";
    const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    found.push(h("span.odd", { title: `character U+${code}` }, `U+${code}`));
  }
  return plain || !found.length ? [...found, plain] : found;
}

/** Say something at the edge of the page for a while; `undo` adds a button. */
export function notice(text, { bad = false, undo = null } = {}) {
  const box = h(`div.notice${bad ? ".bad" : ""}`, {}, h("span", {}, text));
  const close = () => box.remove();
  if (undo) box.append(h("button", { onclick: () => { close(); undo(); } }, "Undo"));
  box.append(h("button.plain", { "aria-label": "Close", onclick: close }, "×"));
  document.getElementById("notices").append(box);
  setTimeout(close, bad ? 20000 : undo ? 12000 : 5000);
}

/** Ask in a dialogue; resolves to the text that was entered, true, or null where it was left. */
export function ask(title, { value = null, action = "OK", text = "", danger = false } = {}) {
  return new Promise((resolve) => {
    const input = value === null ? null : h("input", { value, "aria-label": title, autocomplete: "off" });
    const done = (answer) => { dialog.close(); dialog.remove(); resolve(answer); };
    const dialog = h("dialog", { "aria-label": title, oncancel: (event) => { event.preventDefault(); done(null); } },
      h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); done(input ? input.value.trim() : true); } },
        h("h2", {}, title), text && h("p", {}, text), input,
        h("div.row.end", {},
          h("button", { type: "button", onclick: () => done(null) }, "Cancel"),
          h(`button.${danger ? "danger" : "primary"}`, { type: "submit" }, action))));
    document.body.append(dialog);
    dialog.showModal();
    input?.select();
  });
}
