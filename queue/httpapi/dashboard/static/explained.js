// An explanation, drawn: what happens to the mail, on which way, within which limits, by which settings and what set them.
import { h } from "./dom.js";
import { brief, bytes, num, plural, time, words } from "./format.js";
import { facts, holdBadge, holdSentence, meter, name, panel, site as siteOf, table } from "./parts.js";
import { detail } from "./route.js";
import { tree } from "./tree.js";

const queueLink = (kind, n, text = n) => h("a", { href: detail(kind, n) }, name(text, n));

function verdict(x) {
  if (x.bounce) return h("div", { class: "callout bad" }, h("strong", null, "Bounced by rule"), `: ${x.bounce.reason}. The rule ends `, time(x.bounce.expires), ".");
  const next = x.next_attempt && Date.parse(x.next_attempt) > Date.parse(x.now) + 1000 && h("p", null, "The next attempt is ", time(x.next_attempt, true), " at the earliest.");
  if (x.holds.length) return h("div", { class: "callout warn" }, h("ul", null, x.holds.map((hold) => h("li", null, holdSentence(hold)))), next);
  const errors = [x.settings_error, x.route_error, x.pool_error].filter(Boolean);
  if (errors.length) return h("div", { class: "callout bad" }, h("ul", null, errors.map((e) => h("li", null, e))));
  return h("div", { class: "callout good" }, h("strong", null, "Nothing holds it"), x.chosen_source ? `: the next message leaves by ${x.chosen_source}.` : ".", next);
}

function message(m) {
  return panel("Message", { level: 3, note: words(m.where) }, facts(["From", m.sender || "<>"], ["To", m.recipients.join(", ")], ["Tries", num(m.num_attempts)], ["Due", m.due ? time(m.due) : "now"], ["Expires", time(m.expires)],
    ["Created", time(m.created)], ["Size", bytes(m.size)], m.ahead > 0 && ["Ahead of it", plural(m.ahead, "message")], m.ready_queue && ["In", queueLink("ready", m.ready_queue)]));
}

const place = (p) => (p ? `${p.file}:${p.line}${p.column ? `:${p.column}` : ""}` : null);

// short is a value in a line if it has no more than one level.
function short(v) {
  if (v === null || typeof v !== "object" || Array.isArray(v) || Object.values(v).some((x) => x !== null && typeof x === "object")) return tree(v);
  return Object.entries(v).map(([k, x]) => `${words(k)} ${typeof x === "boolean" ? (x ? "yes" : "no") : x}`).join(", ") || h("span", { class: "none" }, "none");
}

function setBy(s) {
  if (!s.by && !s.place) return h("span", { class: "none" }, "default");
  return [s.by, s.by && s.place && " ", s.place && h("span", { class: "name", title: place(s.place) }, place(s.place))];
}

function settings(title, all) {
  if (!all?.length) return null;
  const rows = (list) => table({ caption: title, rows: list, key: (s) => s.option, columns: [
    { label: "Option", cell: (s) => name(s.option) },
    { label: "Value", cls: "wrap", cell: (s) => [short(s.value), s.next !== undefined && h("span", { class: "sub" }, "soon ", JSON.stringify(s.next))] },
    { label: "Set by", cls: "wrap", cell: setBy },
  ] });
  const [chosen, others] = [all.filter((s) => s.by || s.place), all.filter((s) => !s.by && !s.place)];
  return panel(title, { level: 3, note: chosen.length ? `${plural(chosen.length, "option")} set` : "defaults only" }, chosen.length > 0 && rows(chosen),
    others.length > 0 && h("details", null, h("summary", null, `${plural(others.length, "default")}`), rows(others)));
}

function limits(all, title = "Limits") {
  if (!all?.length) return null;
  return panel(title, { level: 3 }, table({ caption: title, rows: all, key: (l) => `${l.setting} ${l.name}`, columns: [
    { label: "Limit", cell: (l) => [name(l.setting ?? l.name, l.name), l.setting && h("span", { class: "sub", title: l.name }, l.name)] },
    { label: "Allows", cell: (l) => l.limit },
    { label: "In use", num: true, cls: "metered", cell: (l) => (l.used === null ? h("span", { class: "none" }, "not known") : [meter(l.used, l.most, "limit"), h("span", null, num(l.used), h("span", { class: "of" }, ` / ${l.most}`))]) },
    { label: "Next in", num: true, cell: (l) => (l.wait ? brief(l.wait) : h("span", { class: "none" }, "–")) },
  ] }));
}

function sources(x) {
  if (!x.sources.length) return null;
  return panel(`Pool ${x.egress_pool}`, { level: 3, note: plural(x.sources.length, "source") }, table({ caption: "Sources", rows: x.sources, key: (s) => s.name, columns: [
    { label: "Source", cell: (s) => [name(s.name), s.ready_queue && h("span", { class: "sub" }, h("a", { href: detail("ready", s.ready_queue) }, siteOf(s.ready_queue).site))] },
    { label: "State", cls: "wrap", cell: (s) => [s.name === x.chosen_source && h("span", { class: "badge good" }, "Next"), " ", s.error ? h("span", { class: "badge bad", title: s.error }, "Error") : holdBadge(s.hold)] },
    { label: "Share", num: true, title: "Of the mail of the pool, when no source is held up", cell: (s) => `${(s.share * 100).toFixed(s.share && s.share < 0.1 ? 1 : 0)}%` },
    { label: "Weight", num: true, wide: 1, cell: (s) => h("span", { title: place(s.place) }, num(s.weight)) },
    { label: "Messages", num: true, wide: 1, cell: (s) => (s.ready ? num(s.ready.messages) : "–") },
    { label: "Connections", num: true, cell: (s) => (s.ready ? [num(s.ready.connections), h("span", { class: "of" }, ` / ${s.ready.connection_limit}`)] : "–") },
  ] }));
}

function hosts(site) {
  if (!site) return null;
  return panel("Site", { level: 3, note: site.name }, table({ caption: "Hosts", rows: site.hosts, key: (m) => `${m.preference} ${m.name}`, columns: [
    { label: "Host", cell: (m) => [name(m.name), m.secure && h("span", { class: "badge good" }, "DNSSEC")] },
    { label: "Port", num: true, cell: (m) => m.port ?? "–" },
    { label: "Preference", num: true, cell: (m) => m.preference },
  ] }));
}

// explained draws the answer of the explain endpoint. inside is whether it is part of a queue's detail, which tells some of it already.
export function explained(x, inside) {
  const way = x.sources.find((s) => s.name === x.chosen_source) ?? x.sources[0];
  return [
    !inside && verdict(x),
    !inside && h("p", { class: "way" }, queueLink("scheduled", x.queue), x.egress_pool && [h("i", null, "→"), `pool ${x.egress_pool}`], x.chosen_source && [h("i", null, "→"), x.chosen_source],
      x.site && [h("i", null, "→"), x.site.name], x.site?.hosts.length > 0 && [h("i", null, "→"), x.site.hosts.slice(0, 3).map((m) => m.name).join(", "), x.site.hosts.length > 3 && ` and ${x.site.hosts.length - 3} more`]),
    x.message && message(x.message), sources(x), limits(x.limits, "Limits of the queue"), way && limits(way.limits, `Limits by ${way.name}`),
    settings("Settings of the queue", x.settings), way && settings(`Settings of the path by ${way.name}`, way.path), way && settings(`Settings of ${way.name}`, way.settings), !inside && hosts(x.site),
  ];
}
