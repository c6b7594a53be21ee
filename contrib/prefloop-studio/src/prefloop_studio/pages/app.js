// The frame around the pages: navigation, theme, and which page the address names.

import { takeToken } from "./api.js";
import { fill, h, notice } from "./dom.js";

const PAGES = {
  train: ["Train", () => import("./train.js")],
  runs: ["Runs", () => import("./runs.js")],
  label: ["Label", () => import("./label.js")],
  arena: ["Arena", () => import("./arena.js")],
  judge: ["Judge", () => import("./judge.js")],
};
const HIDDEN = { run: () => import("./run.js"), compare: () => import("./compare.js") };
const THEMES = ["auto", "light", "dark"];
let leaving = null;

function bar() {
  const links = Object.entries(PAGES).map(([name, [title]]) => h("a", { href: `#/${name}`, "data-page": name }, title));
  fill(document.getElementById("bar"),
    h("a.brand", { href: "#/runs", "aria-label": "prefloop studio" }, h("img", { src: "/pages/icon.svg", alt: "", width: 24, height: 24 }), h("span", {}, "prefloop")),
    h("nav", { "aria-label": "Pages" }, links),
    h("button.plain.theme", { onclick: nextTheme, "aria-label": "Light or dark" }));
  showTheme();
}

function nextTheme() {
  const now = THEMES.indexOf(localStorage.getItem("prefloop-theme") ?? "auto");
  localStorage.setItem("prefloop-theme", THEMES[(now + 1) % THEMES.length]);
  showTheme();
  document.dispatchEvent(new Event("theme"));
}

function showTheme() {
  const theme = localStorage.getItem("prefloop-theme") ?? "auto";
  document.documentElement.dataset.theme = theme;
  const button = document.querySelector(".theme");
  if (button) fill(button, { auto: "◐", light: "☀", dark: "☾" }[theme]);
}

/** Show the page in the address: `#/run/NAME` is the module run.js, given NAME. */
async function show() {
  takeToken();
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/").map(decodeURIComponent);
  const page = name || "runs";
  const load = PAGES[page]?.[1] ?? HIDDEN[page];
  const main = document.getElementById("main");
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.page === page || (link.dataset.page === "runs" && page in HIDDEN);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!load) {
    fill(main, h("h1", {}, "There is no such page"), h("a", { href: "#/runs" }, "To the runs"));
    return;
  }
  const box = h("div.page", {}, h("p.quiet.late", {}, "Reading …"));
  fill(main, box);
  const query = new URLSearchParams(location.hash.split("?")[1] ?? "");
  try {
    const { page: draw } = await load();
    await draw(box, { rest, query, signal });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    fill(box, h("h1", {}, "This page cannot be shown"), h("p.problem", {}, error.message));
    if (!error.status && error.status !== 0) console.error(error);
  }
}

window.addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name !== "AbortError") notice(event.reason?.message ?? String(event.reason), { bad: true });
});
window.addEventListener("hashchange", () => show());
bar();
show();
