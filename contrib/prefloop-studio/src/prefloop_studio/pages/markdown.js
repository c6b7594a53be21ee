// A little of Markdown as elements: code, lists, headings, emphasis. There are no links and no images, and whatever is
// not understood stays as it was written. Nothing goes through HTML.

import { h, written } from "./dom.js";

export function rich(text) {
  const blocks = [];
  const lines = String(text).replaceAll("\r\n", "\n").split("\n");
  for (let i = 0; i < lines.length; ) {
    const line = lines[i];
    const fence = /^\s*(```+|~~~+)/.exec(line);
    const item = /^\s*([-*+]|\d+[.)])\s+/;
    if (fence) {
      const end = lines.findIndex((other, place) => place > i && other.trim().startsWith(fence[1]));
      const last = end < 0 ? lines.length : end;
      blocks.push(h("pre.code", {}, written(lines.slice(i + 1, last).join("\n"), "code")));
      i = last + 1;
    } else if (item.test(line)) {
      const items = [];
      const ordered = /^\s*\d/.test(line);
      while (i < lines.length && item.test(lines[i])) items.push(h("li", {}, spans(lines[i++].replace(item, ""))));
      blocks.push(h(ordered ? "ol" : "ul", {}, items));
    } else if (/^#{1,6}\s/.test(line)) {
      blocks.push(h("p", {}, h("strong", {}, spans(line.replace(/^#+\s+/, "")))));
      i += 1;
    } else if (!line.trim()) {
      i += 1;
    } else {
      const paragraph = [];
      while (i < lines.length && lines[i].trim() && !/^\s*(```|~~~|#{1,6}\s)/.test(lines[i]) && !(paragraph.length && item.test(lines[i]))) paragraph.push(lines[i++]);
      blocks.push(h("p.lines", {}, spans(paragraph.join("\n"))));
    }
  }
  return h("div.rich", { dir: "auto" }, blocks);
}

const MARKS = /(`[^`]+`)|(\*\*[^*]+\*\*)|(\*[^*\s][^*]*\*)/;

function spans(text) {
  const found = MARKS.exec(text);
  if (!found) return [written(text, "span.inline")];
  const [whole, code, strong] = found;
  const inner = whole.slice(strong ? 2 : 1, strong ? -2 : -1);
  const element = written(inner, code ? "code" : strong ? "strong" : "em");
  return [written(text.slice(0, found.index), "span.inline"), element, ...spans(text.slice(found.index + whole.length))];
}
