// How a run stands, in a word and a colour.

import { h } from "./dom.js";

const WORDS = {
  running: "running",
  finished: "finished",
  stopped: "stopped",
  failed: "failed",
  interrupted: "interrupted",
  damaged: "damaged",
  gone: "gone",
};

export function badge(status) {
  return h(`span.badge.${WORDS[status] ? status : "unknown"}`, {}, WORDS[status] ?? status);
}

/** How many steps a run has taken: `12 of 24`. */
export function steps(state) {
  const taken = Math.max(state.summary?.steps ?? 0, state.step ?? 0);
  return `${taken.toLocaleString("en")} of ${(state.planned ?? 0).toLocaleString("en")}`;
}

/** The evaluation that counts: after training, else before. */
export const rateOf = (state) => state.summary?.win_rate?.after ?? null;
