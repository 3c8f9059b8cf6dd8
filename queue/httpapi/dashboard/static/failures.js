// Failures: of the last hour by class, where they happen, and the latest ones.
import { admin, get } from "./api.js";
import { spark } from "./chart.js";
import { h } from "./dom.js";
import { num, number, plural, time } from "./format.js";
import { empty, kindBadge, meter, name, panel, reply, site as siteOf, table } from "./parts.js";
import { detail, link, set } from "./route.js";

export const every = 5;

export async function load(params, signal) {
  return get(admin("failures"), { class: params.get("class"), kind: params.get("kind"), code: params.get("code"), site: params.get("site"), queue: params.get("queue"), limit: 100 }, signal);
}

export const classKey = (c) => `${c.kind} ${c.class} ${c.code}`;
export const classLink = (c) => link("failures", { class: c.class, kind: c.kind, code: c.code || "" });
export const className = (c) => [c.class, c.code ? h("span", { class: "of" }, ` ${c.code}`) : null];

function classes(data, params) {
  if (!data.classes.length) return empty("No failures", "Nothing was deferred, bounced or rejected in the last hour.");
  const most = Math.max(...data.classes.map((c) => c.count));
  const on = (c) => c.class === params.get("class") && c.kind === params.get("kind") && (!c.code || String(c.code) === params.get("code"));
  return table({ caption: "Classes of failures in the last hour", rows: data.classes, key: classKey, columns: [
    { label: "Class", cell: (c) => h("a", { href: on(c) ? link("failures") : classLink(c), class: on(c) ? "chosen" : null, "aria-current": on(c) ? "true" : null }, className(c)) },
    { label: "Kind", cell: (c) => kindBadge(c.kind) },
    { label: "Places", num: true, wide: 2, title: "Sites and codes", cell: (c) => num(c.groups) },
    { label: "Trend", wide: 1, cell: (c) => spark(c.trend, "plain", `Trend over the last hour: ${number(c.trend.at(-1))} in the last minute`) },
    { label: "Recipients", num: true, cls: "metered", cell: (c) => [meter(c.count, most, c.kind === "TransientFailure" ? "warn" : "bad"), num(c.count)] },
  ] });
}

function place(g) {
  if (!g.site && g.kind === "Rejection") return h("span", { class: "none" }, "at reception");
  if (!g.site) return [h("a", { href: detail("scheduled", g.last.queue) }, name(g.last.queue)), h("span", { class: "sub" }, "on the way to a ready queue, the latest")];
  const { source, site } = siteOf(g.site);
  return source ? [h("a", { href: detail("ready", g.site) }, name(site, g.site)), h("span", { class: "sub" }, source)] : name(site);
}

export function latest(rows, caption = "Latest failures") {
  return rows.length ? table({ caption, rows, key: (f) => `${f.time}${f.id ?? ""}${f.recipient}`, columns: [
    { label: "When", cell: (f) => time(f.time) },
    { label: "Kind", wide: 1, cell: (f) => kindBadge(f.kind) },
    { label: "Recipient", cell: (f) => [f.queue ? h("a", { href: detail("scheduled", f.queue) }, name(f.recipient || "–")) : name(f.recipient || "–"), f.recipients > 1 && h("span", { class: "sub" }, `and ${plural(f.recipients - 1, "other")}`)] },
    { label: "Class", wide: 2, cell: (f) => f.class },
    { label: "Tries", num: true, wide: 3, cell: (f) => num(f.num_attempts) },
    { label: "Answer", cls: "grow", cell: (f) => [reply(f.response), h("span", { class: "sub" }, f.peer ?? f.site)] },
  ] }) : empty("None is known", "The last 1,024 failures are kept.");
}

export function draw(data, params) {
  const chosen = ["class", "kind", "code", "site", "queue"].filter((k) => params.get(k));
  return [
    h("h1", { class: "sr" }, "Failures"),
    panel("By class", { note: "recipients in the last hour" }, classes(data, params)),
    chosen.length > 0 && h("p", { class: "chips", "aria-label": "Filters" }, chosen.map((k) =>
      h("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${k} ${params.get(k)}`, on: { click: () => set({ [k]: "" }) } }, h("b", null, k), ` ${params.get(k)}`, h("i", { "aria-hidden": "true" }, "×")))),
    panel("Where", { note: data.groups_total > data.groups.length ? `the first ${data.groups.length} of ${number(data.groups_total)}` : null }, data.groups.length ? table({
      caption: "Where it fails", rows: data.groups, key: (g) => `${g.kind} ${g.class} ${g.code} ${g.site}`, columns: [
        { label: "Site", cell: place },
        { label: "Class", wide: 1, cell: (g) => g.class },
        { label: "Kind", wide: 1, cell: (g) => kindBadge(g.kind) },
        { label: "Latest answer", cls: "grow", wide: 2, cell: (g) => reply(g.last.response) },
        { label: "Last", num: true, wide: 1, cell: (g) => time(g.last.time) },
        { label: "Trend", wide: 3, cell: (g) => spark(g.trend, "plain") },
        { label: "Recipients", num: true, cell: (g) => num(g.count) },
      ] }) : empty("None with these filters")),
    panel("Latest", {}, latest(data.recent)),
  ];
}
