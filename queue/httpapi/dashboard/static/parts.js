// What several views are made of.
import { h } from "./dom.js";
import { compact, number, plural, relative, time, words } from "./format.js";

const holds = {
  bounced: ["bad", "Bounced by rule"], suspended: ["warn", "Suspended"], settings: ["bad", "No settings"], ready_full: ["warn", "Ready queue full"], rate: ["warn", "Rate used up"],
  not_due: ["", "Not due"], spool: ["bad", "Spool unwell"], route: ["bad", "No route"], no_source: ["bad", "No source"], source: ["bad", "Source suspended"], connection: ["warn", "Connection limit"], connect_failing: ["bad", "Can't connect"],
};

// holdBadge says why a queue does not move.
export function holdBadge(hold, idle) {
  if (!hold) return idle ? h("span", { class: "quiet" }, idle) : null;
  const [tone, label] = holds[hold.reason] ?? ["warn", words(hold.reason)];
  return h("span", { class: `badge ${tone}`, title: hold.until ? `${hold.text}; ${relative(hold.until)} it ends or is looked at again` : hold.text }, label);
}

export function holdSentence(hold) {
  const [, label] = holds[hold.reason] ?? ["", words(hold.reason)];
  return [h("strong", null, label), ": ", hold.text, hold.until && [". Looked at again ", time(hold.until)], "."];
}

// panel is a titled part of a view. level is that of its heading.
export function panel(title, { actions, note, cls, key, level = 2 } = {}, ...body) {
  return h("section", { class: `panel ${cls ?? ""}`, key, "aria-label": title },
    h("header", null, h(`h${level}`, null, title), note && h("span", { class: "note" }, note), actions && h("div", { class: "actions" }, actions)), ...body);
}

export const empty = (text, hint, cls = "") => h("div", { class: `empty ${cls}` }, h("p", null, text), hint && h("p", { class: "hint" }, hint));

// problem says what is wrong in the place of what could not be got.
export function problem(error, what) {
  const text = {
    missing: `This server has no endpoint for ${what}.`,
    denied: `You are not permitted to see ${what}.`,
    away: `The server does not answer, so there is no ${what}.`,
  }[error.kind] ?? `The server could not tell ${what}.`;
  return h("div", { class: `empty problem ${error.kind}` }, h("p", null, text), error.kind !== "missing" && h("p", { class: "hint" }, error.message));
}

export const skeleton = (rows = 5) => h("div", { class: "skeleton", role: "status" }, h("span", { class: "sr" }, "Loading"), Array.from({ length: rows }, () => h("i")));

// table draws rows in columns. A column has label, cell (of a row), and may have num (to the right), sort (the server's name of the order), wide (left out where
// there is little room: 1 on phones, 2 on tablets, 3 on small screens), title.
export function table({ caption, columns, rows, key, sort, onSort }) {
  const seen = new Map(); // of keys, to tell those apart that are alike
  const unique = (k) => {
    seen.set(k, (seen.get(k) ?? 0) + 1);
    return `${k} ${seen.get(k)}`;
  };
  const cls = (c) => [c.num && "r", c.wide && `w${c.wide}`, c.cls].filter(Boolean).join(" ") || null;
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "-1" }, h("table", null,
    h("caption", { class: "sr" }, caption),
    h("thead", null, h("tr", null, columns.map((c) => h("th", { scope: "col", class: cls(c), title: c.title, "aria-sort": c.sort && c.sort === sort ? "descending" : null },
      c.sort ? h("button", { type: "button", class: c.sort === sort ? "sort on" : "sort", on: { click: () => onSort(c.sort) } }, c.sort === sort && h("i", { "aria-hidden": "true" }, "↓"), c.label) : c.label)))),
    h("tbody", null, rows.map((row) => h("tr", { key: unique(key(row)) }, columns.map((c, i) => h(i ? "td" : "th", { class: cls(c), scope: i ? null : "row" }, c.cell(row))))))));
}

// meter is a bar beside a number. Its tone is warn, bad, or limit: warn when it is full.
export function meter(value, of, tone = "") {
  const share = of > 0 ? Math.min(value / of, 1) : 0;
  if (tone === "limit") tone = share === 1 ? "warn" : "";
  return h("i", { class: `meter ${tone}`, "aria-hidden": "true" }, h("b", { style: { width: `${(share * 100).toFixed(1)}%` } }));
}

export const facts = (...pairs) => h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) => h("div", null, h("dt", null, name), h("dd", null, value))));

// name is a queue's name, or another that may be long. Where it is broken into lines, that is after its separators, if possible.
export function name(text, title = text) {
  return h("span", { class: "name", title }, text.split(/(?<=[@:!>])/).map((part, i) => [i > 0 && h("wbr"), part]));
}

// site is a ready queue by the site that it is for, with its source below.
export function site(ready) {
  const [, source, site, proto] = ready.match(/^(.*?)->(.*)@([^@]*)$/s) ?? [null, "", ready, ""];
  return { source: [source, proto !== "smtp_client" && proto].filter(Boolean).join(" · "), site };
}

export function more(shown, matched, onMore, most) {
  if (shown >= matched) return h("p", { class: "foot" }, plural(matched, "queue"));
  return h("p", { class: "foot" }, `The first ${number(shown)} of ${plural(matched, "queue")}`,
    shown < most && [" ", h("button", { type: "button", class: "link", on: { click: onMore } }, `Show ${compact(Math.min(shown * 4, most))}`)]);
}

export const button = (label, click, cls = "", props = {}) => h("button", { type: "button", class: `btn ${cls}`, on: { click }, ...props }, label);

const kinds = { TransientFailure: ["warn", "Deferred"], Bounce: ["bad", "Bounced"], Expiration: ["bad", "Expired"], AdminBounce: ["bad", "Admin bounce"], Rejection: ["quiet", "Rejected"] };

export function kindBadge(kind) {
  const [tone, label] = kinds[kind] ?? ["", kind];
  return h("span", { class: `badge ${tone}` }, label);
}

// reply is an SMTP answer.
export function reply(r) {
  const e = r.enhanced_code;
  return h("span", { class: "reply" }, h("b", null, r.code || "–", e && ` ${e.class}.${e.subject}.${e.detail}`), " ", r.content, r.command && h("span", { class: "cmd" }, ` ← ${r.command.trim()}`));
}
