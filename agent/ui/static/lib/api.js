// Our own routes below /x/, found from where this module came from, so that a proxy's prefix is respected.
// A failed call throws Problem with the server's own words; nothing is retried here.

export const BASE = new URL("../../", import.meta.url);

export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function url(path, query = {}) {
  const made = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== "") made.searchParams.set(name, value);
  return made;
}

export function socketUrl(path, query = {}) {
  const made = url(path, query);
  made.protocol = made.protocol === "https:" ? "wss:" : "ws:";
  return made;
}

async function call(method, path, body, query) {
  const sent = { method, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body instanceof FormData) sent.body = body;
  else if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(url(path, query), sent);
  } catch {
    throw new Problem(0, "The server does not answer. It may be restarting; the page tries again by itself.");
  }
  if (answer.status === 401) signIn();
  const told = await answer.text();
  let data = null;
  try {
    data = told ? JSON.parse(told) : null;
  } catch {
    if (answer.ok) throw new Problem(answer.status, "The server sent something that is no answer. Reload the page.");
  }
  if (!answer.ok) throw new Problem(answer.status, data?.error || `The server refused this (${answer.status}).`);
  return data;
}

export function signIn() {
  const here = location.pathname + location.search + location.hash;
  location.assign(new URL(`../login?next=${encodeURIComponent(here)}`, BASE));
}

export const get = (path, query) => call("GET", path, undefined, query);
export const post = (path, body = {}) => call("POST", path, body);
export const patch = (path, body) => call("PATCH", path, body);
export const put = (path, body) => call("PUT", path, body);
export const remove = (path) => call("DELETE", path);

export async function upload(path, file) {
  const form = new FormData();
  form.append("file", file, file.name);
  return call("POST", path, form);
}

/** A streamed answer of JSON lines, each given to `each`. */
export async function lines(path, body, each, signal) {
  const answer = await fetch(url(path), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) {
    const data = await answer.json().catch(() => null);
    throw new Problem(answer.status, data?.error || `The server refused this (${answer.status}).`);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value || "";
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const part of parts) if (part.trim()) each(JSON.parse(part));
    if (done) break;
  }
  if (rest.trim()) each(JSON.parse(rest));
}

export function part(...names) {
  return names.map((name) => encodeURIComponent(name)).join("/");
}
