// Overview: what comes in and goes out, what waits, and what is wrong.
import { admin, attempt, get } from "./api.js";
import { buckets, Chart, spark } from "./chart.js";
import { h, own } from "./dom.js";
import { bytes, num, plural, rate, span, time } from "./format.js";
import { empty, holdBadge, kindBadge, meter, name, panel, problem, table } from "./parts.js";
import { detail, link, set } from "./route.js";
import { classKey, classLink, className } from "./failures.js";
import { matchText } from "./rules.js";

export const every = 2;

export const series = [
  { name: "received", label: "Received" }, { name: "delivered", label: "Delivered", area: true },
  { name: "deferred", label: "Deferred" }, { name: "bounced", label: "Bounced" }, { name: "rejected", label: "Rejected" },
];
const names = series.map((s) => s.name);
const spans = { "10m": "10 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "48h": "48 h" };

let chart;

export async function load(params, signal) {
  const want = spans[params.get("span")] ? params.get("span") : "10m";
  const ask = (name, query) => attempt(admin(name), query, signal);
  const [summary, recent, history, scheduled, ready, failures, rules] = await Promise.all([
    get(admin("summary"), {}, signal), ask("history", { span: "10m" }), want === "10m" ? null : ask("history", { span: want }),
    ask("queues", { kind: "scheduled", limit: 8 }), ask("queues", { kind: "ready", limit: 8, sort: "connections" }), ask("failures", { limit: 1 }), ask("rules", { limit: 20 }),
  ]);
  return { summary, recent, history: history ?? recent, scheduled, ready, failures, rules, want };
}

function tile(label, value, unit, extra, cls) {
  return h("div", { class: `tile ${cls ?? ""}` }, h("dt", null, label), h("dd", null, h("span", { class: "big" }, value, unit && h("small", null, unit)), extra));
}

// lately is the rate over the last so many seconds, that of the step that has not ended left out.
function lately(history, name, seconds) {
  const n = Math.min(Math.ceil(seconds / history.step_seconds), history[name].length - 1);
  return history[name].slice(-n - 1, -1).reduce((a, b) => a + b, 0) / (n * history.step_seconds);
}

function tiles({ summary: s, recent }) {
  const r = recent.data;
  const points = r ? buckets(r, names, 60, Date.parse(s.since) / 1000) : [];
  return h("dl", { class: "tiles", "aria-label": "Now" },
    r && series.slice(0, 4).map(({ name, label }) => tile(label, rate(lately(r, name, 30)), "/s",
      spark(points.map((p) => p.rate[name]), name), name)),
    tile("Waiting", num(s.waiting), null, h("span", { class: "sub" }, plural(s.scheduled_queues, "queue"))),
    tile("Ready", num(s.ready), null, h("span", { class: "sub" }, plural(s.ready_queues, "queue"))),
    tile("Connections", num(s.connections), null, h("span", { class: "sub" }, "outbound")));
}

function traffic({ summary, history, want }) {
  const choose = h("div", { class: "seg", role: "group", "aria-label": "Span" }, Object.entries(spans).map(([v, label]) =>
    h("button", { type: "button", "aria-pressed": String(v === want), on: { click: () => set({ span: v === "10m" ? "" : v }, true) } }, label)));
  if (history.error) return panel("Traffic", { cls: "wide" }, problem(history.error, "history"));
  chart ??= new Chart(series);
  chart.set(buckets(history.data, names, 180, Date.parse(summary.since) / 1000));
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Lines" }, series.map((s) =>
    h("button", { type: "button", "aria-pressed": String(!chart.hidden.has(s.name)), on: { click: () => { chart.toggle(s.name); dispatchEvent(new Event("pageview")); } } },
      h("i", { class: `swatch ${s.name}`, "aria-hidden": "true" }), s.label)));
  return panel("Traffic", { cls: "wide", note: "recipients per second", actions: [legend, choose] }, own(h("div", { class: "slot" }), "chart"));
}

function largest({ scheduled: { data, error } }) {
  const all = h("a", { class: "btn small", href: link("queues") }, "All queues");
  if (error) return panel("Largest scheduled queues", {}, problem(error, "queues"));
  const most = Math.max(...data.queues.map((q) => q.messages), 1);
  return panel("Largest scheduled queues", { actions: all }, data.queues.some((q) => q.messages) ? table({
    caption: "Largest scheduled queues", rows: data.queues.filter((q) => q.messages), key: (q) => q.name, columns: [
      { label: "Queue", cell: (q) => h("a", { href: detail("scheduled", q.name) }, name(q.name)) },
      { label: "Held by", wide: 1, cell: (q) => holdBadge(q.hold, q.due ? "moving" : q.waiting ? "not due" : "in flight") },
      { label: "Due", num: true, wide: 1, title: "Messages whose time has come", cell: (q) => num(q.due) },
      { label: "Messages", num: true, cls: "metered", cell: (q) => [meter(q.messages, most), num(q.messages)] },
    ] }) : empty("Nothing waits", "Every message that was accepted has been delivered or has bounced."));
}

function busiest({ ready: { data, error } }) {
  if (error) return panel("Busiest ready queues", {}, problem(error, "ready queues"));
  const rows = data.queues.filter((q) => q.connections || q.messages || q.hold);
  return panel("Busiest ready queues", { actions: h("a", { class: "btn small", href: link("queues", { kind: "ready", sort: "connections" }) }, "All ready queues") }, rows.length ? table({
    caption: "Busiest ready queues", rows, key: (q) => q.name, columns: [
      { label: "Site", cell: (q) => [h("a", { href: detail("ready", q.name) }, name(q.site)), h("span", { class: "sub" }, q.source)] },
      { label: "Held by", wide: 1, cell: (q) => holdBadge(q.hold, "moving") },
      { label: "Messages", num: true, cell: (q) => num(q.messages) },
      { label: "Connections", num: true, cls: "metered", cell: (q) => [meter(q.connections, q.connection_limit, "limit"), h("span", null, num(q.connections), h("span", { class: "of" }, ` / ${q.connection_limit}`))] },
    ] }) : empty("No connection is open"));
}

function failing({ failures: { data, error } }) {
  if (error) return panel("Failures in the last hour", {}, problem(error, "failures"));
  const rows = data.classes.slice(0, 8);
  const most = Math.max(...rows.map((c) => c.count), 1);
  return panel("Failures in the last hour", { actions: h("a", { class: "btn small", href: link("failures") }, "All failures") }, rows.length ? table({
    caption: "Failures in the last hour", rows, key: classKey, columns: [
      { label: "Class", cell: (c) => h("a", { href: classLink(c) }, className(c)) },
      { label: "Kind", cell: (c) => kindBadge(c.kind) },
      { label: "Trend", wide: 1, cell: (c) => spark(c.trend, "plain", `Trend over the last hour: ${c.trend.at(-1)} in the last minute`) },
      { label: "Recipients", num: true, cls: "metered", cell: (c) => [meter(c.count, most, c.kind === "TransientFailure" ? "warn" : "bad"), num(c.count)] },
    ] }) : empty("No failures", "Nothing was deferred or bounced in the last hour."));
}

function inForce({ rules: { data, error } }) {
  if (error) return panel("Rules in force", {}, problem(error, "rules"));
  const rows = [...data.bounces.map((r) => [r, "Bounce", "bad"]), ...data.suspensions.map((r) => [r, "Suspend", "warn"]), ...data.ready_suspensions.map((r) => [r, "Suspend", "warn"])];
  return panel("Rules in force", { actions: h("a", { class: "btn small", href: link("rules") }, "Manage") }, rows.length ? table({
    caption: "Rules in force", rows, key: ([r]) => r.id, columns: [
      { label: "Rule", cell: ([, label, tone]) => h("span", { class: `badge ${tone}` }, label) },
      { label: "For", cell: ([r]) => [name(r.name ?? matchText(r.match)), h("span", { class: "sub" }, r.reason)] },
      { label: "Ends", num: true, cell: ([r]) => time(r.expires) },
    ] }) : empty("No rule is in force", "Nothing is suspended or bounced by the operator."));
}

function status(s) {
  return [
    s.trouble.length > 0 && h("div", { class: "callout bad", role: "alert" }, h("strong", null, "No mail is taken"), `: ${s.trouble.join(", ")}.`),
    !s.recovered && h("div", { class: "callout" }, h("strong", null, "Starting"), `: the spool is being read, ${plural(s.from_spool, "message")} so far.`),
  ];
}

// drawn puts the chart into its place. It stays there from one drawing to the next, so that the crosshair does.
export function drawn(main) {
  const slot = main.querySelector(".slot");
  if (slot && chart && chart.el.parentNode !== slot) slot.replaceChildren(chart.el);
}

export function draw(data) {
  const s = data.summary;
  const up = (Date.parse(s.now) - Date.parse(s.since)) / 1000;
  return [
    h("h1", { class: "sr" }, "Overview"), status(s), tiles(data), traffic(data),
    h("div", { class: "grid2" }, largest(data), busiest(data), failing(data), inForce(data)),
    h("p", { class: "foot" }, `Up ${span(up)} · accepted ${plural(s.accepted, "message")}, found ${plural(s.from_spool, "message")} in the spool, finished ${plural(s.done, "message")} · ${bytes(s.resident_bytes)} of messages in memory`),
  ];
}
