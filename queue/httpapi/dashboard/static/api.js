// Requests to the server. Errors say whether the server is away, does not know the endpoint, or does not let us.
import { serverTime } from "./format.js";

export class ApiError extends Error {
  // kind: away, missing, denied, refused or broken.
  constructor(kind, status, message) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

// health is when the server last answered, and since when it does not.
export const health = { seen: 0, awaySince: 0, why: "", listeners: new Set() };

function answered() {
  const news = !health.seen || health.awaySince;
  health.seen = Date.now();
  health.awaySince = 0;
  if (news) health.listeners.forEach((f) => f());
}

function away(why) {
  if (!health.awaySince) health.awaySince = Date.now();
  health.why = why;
  health.listeners.forEach((f) => f());
}

async function call(method, path, { query, body, signal, timeout = 15000 } = {}) {
  const params = new URLSearchParams();
  for (const [k, v] of Object.entries(query ?? {})) if (v !== undefined && v !== null && v !== "") params.set(k, v);
  const url = params.size ? `${path}?${params}` : path;
  const limit = AbortSignal.timeout(timeout);
  const init = { method, signal: signal ? AbortSignal.any([signal, limit]) : limit, cache: "no-store" };
  if (body !== undefined) Object.assign(init, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  let response, text;
  try {
    response = await fetch(url, init);
    text = await response.text();
  } catch (e) {
    if (signal?.aborted) throw e;
    const why = limit.aborted ? `no answer within ${timeout / 1000} s` : "no connection";
    away(why);
    throw new ApiError("away", 0, why);
  }
  answered();
  if (response.ok) return text;
  const message = text.trim().replace(/^Error: /, "") || response.statusText || `status ${response.status}`;
  const kind = response.status === 401 || response.status === 403 ? "denied"
    : (response.status === 404 && text === "") || response.status === 405 ? "missing"
    : response.status < 500 ? "refused" : "broken";
  throw new ApiError(kind, response.status, message);
}

export async function get(path, query, signal) {
  const v = JSON.parse(await call("GET", path, { query, signal }));
  if (v && typeof v.now === "string") serverTime(v.now);
  return v;
}

export const post = async (path, body) => JSON.parse((await call("POST", path, { body })) || "null");
export const remove = (path, body) => call("DELETE", path, { body });

const missing = new Map(); // errors of endpoints that the server does not have, which are not asked for again

// attempt is the answer, or the error in its place, for what a view can do without.
export async function attempt(path, query, signal) {
  if (missing.has(path)) return { error: missing.get(path) };
  try {
    return { data: await get(path, query, signal) };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.kind === "missing") missing.set(path, error);
    return { error };
  }
}

export const admin = (name) => `/api/admin/${name}/v1`;
