// Requests to the server, with the token that the address brought.

const KEEP = "prefloop-token";

/** Take the token out of the address, so that it is not copied along with it. */
export function takeToken() {
  const found = /^#token=([\w-]+)/.exec(location.hash);
  if (!found) return;
  localStorage.setItem(KEEP, found[1]);
  history.replaceState(null, "", `${location.pathname}#/`);
}

const headers = () => ({ "x-prefloop-token": localStorage.getItem(KEEP) ?? "" });

/** An answer that is an error, in the server's words; `problems` holds one line for each. */
export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error ?? `the server answered ${status}`);
    this.status = status;
    this.problems = answer?.problems ?? [this.message];
    this.answer = answer;
  }
}

async function request(method, path, body, signal) {
  const options = { method, headers: headers(), signal };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { error: "the studio does not answer: is prefloop studio still running?" });
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export const get = (path, signal) => request("GET", path, undefined, signal);
export const post = (path, body = {}) => request("POST", path, body);
export const del = (path) => request("DELETE", path);
export const url = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

/**
 * Server-sent events from `path()`, which is asked for again after each loss of the connection, so that it can hold
 * fresh cursors. `handlers` has a function for each event. Ends when `signal` is aborted.
 */
export async function stream(path, handlers, signal) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      const response = await fetch(path(), { headers: headers(), signal });
      if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
      handlers.connected?.(true);
      wait = 500;
      await readEvents(response.body.getReader(), handlers);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 404) { handlers.gone?.(error); return; }
    }
    handlers.connected?.(false);
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(2 * wait, 8000);
  }
}

/** Send `body`, and hear what comes back piece by piece. Raises `Refused` where the server does not listen. */
export async function say(path, body, heard, signal) {
  const options = { method: "POST", headers: { ...headers(), "content-type": "application/json" }, body: JSON.stringify(body), signal };
  const response = await fetch(path, options);
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
  await readEvents(response.body.getReader(), { said: heard });
}

async function readEvents(reader, handlers) {
  const decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (held + decoder.decode(value, { stream: true })).split("\n\n");
    held = events.pop();
    for (const event of events) {
      const found = /^event: (.*)\ndata: (.*)$/.exec(event);
      if (found) handlers[found[1]]?.(JSON.parse(found[2]));
    }
  }
}
