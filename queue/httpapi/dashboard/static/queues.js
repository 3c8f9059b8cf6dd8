// Queues: the ones that come first in the order that is chosen, by search.
import { admin, get } from "./api.js";
import { h } from "./dom.js";
import { num, plural, time } from "./format.js";
import { empty, holdBadge, meter, more, name, panel, table } from "./parts.js";
import { detail, set } from "./route.js";

export const every = 4;
const first = 50;
const most = 1000;

export async function load(params, signal) {
  const kind = params.get("kind") === "ready" ? "ready" : "scheduled";
  return get(admin("queues"), { kind, sort: params.get("sort"), search: params.get("q"), limit: params.get("limit") ?? first }, signal);
}

const scheduled = (largest) => [
  { label: "Queue", cell: (q) => h("a", { href: detail("scheduled", q.name) }, name(q.name)) },
  { label: "Held by", cell: (q) => holdBadge(q.hold, q.due ? "moving" : q.waiting ? "not due" : q.in_flight ? "in flight" : "") },
  { label: "Messages", num: true, sort: "messages", cls: "metered", title: "All messages of the queue, wherever they are", cell: (q) => [meter(q.messages, largest), num(q.messages)] },
  { label: "Waiting", num: true, sort: "waiting", wide: 1, title: "Messages that wait in the scheduled queue", cell: (q) => num(q.waiting) },
  { label: "Due", num: true, sort: "due", wide: 1, title: "Messages whose time has come", cell: (q) => num(q.due) },
  { label: "In flight", num: true, sort: "in_flight", wide: 2, title: "Messages in ready queues and on connections", cell: (q) => num(q.in_flight) },
  { label: "Held back", num: true, sort: "delayed", wide: 3, title: "How often mail was held back by a rate, by policy or for lack of room", cell: (q) => num(q.delayed.rate + q.delayed.ready + q.delayed.full) },
  { label: "Changed", num: true, sort: "changed", wide: 2, cell: (q) => time(q.changed) },
];

const ready = () => [
  { label: "Ready queue", cell: (q) => [h("a", { href: detail("ready", q.name) }, name(q.site || q.name)), h("span", { class: "sub" }, [q.source, q.protocol !== "smtp_client" && q.protocol, q.provider].filter(Boolean).join(" · "))] },
  { label: "Held by", cell: (q) => holdBadge(q.hold, q.messages || q.connections ? "moving" : "idle") },
  { label: "Messages", num: true, sort: "messages", cls: "metered", cell: (q) => [meter(q.messages, q.max_ready, "limit"), num(q.messages)] },
  { label: "Connections", num: true, sort: "connections", wide: 1, cell: (q) => [num(q.connections), h("span", { class: "of" }, ` / ${q.connection_limit}`)] },
  { label: "Delivered", num: true, sort: "delivered", wide: 2, cell: (q) => num(q.delivered) },
  { label: "Deferred", num: true, sort: "deferred", wide: 2, cell: (q) => num(q.deferred) },
  { label: "Failed", num: true, sort: "failed", wide: 2, cell: (q) => num(q.failed) },
  { label: "Full", num: true, sort: "full", wide: 3, title: "How often there was no room", cell: (q) => num(q.full) },
];

let typing;

function search(params) {
  return h("input", { type: "search", class: "search", placeholder: "Part of a name", "aria-label": "Search queues", value: params.get("q") ?? "", spellcheck: "false", autocomplete: "off",
    on: { input: (e) => {
      clearTimeout(typing);
      typing = setTimeout(() => set({ q: e.target.value.trim(), limit: "" }, true), 180);
    } } });
}

export function draw(data, params) {
  const isReady = data.kind === "ready";
  const rows = data.queues;
  const kinds = h("div", { class: "seg", role: "group", "aria-label": "Kind of queues" }, [["scheduled", "Scheduled"], ["ready", "Ready"]].map(([k, label]) =>
    h("button", { type: "button", "aria-pressed": String(k === data.kind), on: { click: () => set({ kind: k === "ready" ? k : "", sort: "", limit: "" }) } }, label)));
  const q = params.get("q");
  return [
    h("h1", { class: "sr" }, "Queues"),
    panel(isReady ? "Ready queues" : "Scheduled queues", { actions: [search(params), kinds], note: plural(data.matched, q ? "match" : "queue", q ? "matches" : "queues") },
      rows.length ? [table({ caption: isReady ? "Ready queues" : "Scheduled queues", columns: isReady ? ready() : scheduled(Math.max(...rows.map((r) => r.messages))), rows, key: (r) => r.name,
        sort: params.get("sort") || "messages", onSort: (sort) => set({ sort: sort === "messages" ? "" : sort, limit: "" }, true) }),
      more(rows.length, data.matched, () => set({ limit: Math.min(rows.length * 4, most) }, true), most)]
        : q ? empty(`No queue has “${q}” in its name`) : empty(isReady ? "There is no ready queue" : "There is no scheduled queue", "Queues appear with the first message.")),
  ];
}
