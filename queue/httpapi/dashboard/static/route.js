// Where we are: the view and its parameters, in the fragment of the address, so that every state has a link.

export const route = { view: "overview", params: new URLSearchParams() };

export function parse() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  route.view = path || "overview";
  route.params = new URLSearchParams(query ?? "");
}

export function link(view, params = {}) {
  const p = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v !== undefined && v !== null && v !== "") p.set(k, v);
  return `#/${view}${p.size ? `?${p}` : ""}`;
}

export function go(view, params) {
  location.hash = link(view, params);
}

// set changes parameters of the view that is shown; replace makes no step in the browser's history.
export function set(changes, replace = false) {
  parse(); // it may have changed since it was last looked at
  const to = link(route.view, { ...Object.fromEntries(route.params), ...changes });
  if (to === location.hash) return;
  if (!replace) {
    location.hash = to;
    return;
  }
  history.replaceState(null, "", to);
  dispatchEvent(new Event("pageview"));
}

// detail is the link that opens a queue beside the view that is shown.
export const detail = (kind, name) => link(route.view, { ...Object.fromEntries(route.params), open: `${kind}:${name}` });
