// Sources: by which addresses mail leaves, and how that goes.
import { admin, get } from "./api.js";
import { h } from "./dom.js";
import { num, number, plural, relative } from "./format.js";
import { empty, meter, name, panel, table } from "./parts.js";
import { link } from "./route.js";

export const every = 5;

export const load = (params, signal) => get(admin("sources"), {}, signal);

// share is how what was answered divides.
function share(s) {
  const all = s.delivered + s.deferred + s.failed;
  if (!all) return h("span", { class: "none" }, "–");
  const part = (n) => `${((n / all) * 100).toFixed(n && n / all < 0.1 ? 1 : 0)}%`;
  return h("span", { class: "stack", role: "img", "aria-label": `${part(s.delivered)} delivered, ${part(s.deferred)} deferred, ${part(s.failed)} failed`, title: `${part(s.delivered)} delivered, ${part(s.deferred)} deferred, ${part(s.failed)} failed` },
    [["delivered", s.delivered], ["deferred", s.deferred], ["bounced", s.failed]].map(([c, n]) => h("i", { class: c, style: { "flex-grow": n } })));
}

export function draw(data) {
  const most = Math.max(...data.sources.map((s) => s.connections), 1);
  return [
    h("h1", { class: "sr" }, "Sources"),
    panel("Egress sources", { note: data.total > data.sources.length ? `the first ${number(data.sources.length)} of ${number(data.total)}` : plural(data.total, "source") + " in use" }, data.sources.length ? table({
      caption: "Egress sources", rows: data.sources, key: (s) => s.name, columns: [
        { label: "Source", cell: (s) => [h("a", { href: link("queues", { kind: "ready", sort: "connections", q: `${s.name}->` }) }, name(s.name)), h("span", { class: "sub" }, s.address ?? "default address", s.proxy && ` by ${s.proxy}`)] },
        { label: "State", cell: (s) => s.suspended_until ? h("span", { class: "badge bad", title: "Connecting from it failed too often" }, `Suspended, ends ${relative(s.suspended_until)}`) : h("span", { class: "badge good" }, "Healthy") },
        { label: "Connections", num: true, cls: "metered", cell: (s) => [meter(s.connections, most), num(s.connections)] },
        { label: "Messages", num: true, wide: 2, title: "In its ready queues", cell: (s) => num(s.messages) },
        { label: "Ready queues", num: true, wide: 2, cell: (s) => num(s.ready_queues) },
        { label: "Delivered", num: true, wide: 1, cell: (s) => num(s.delivered) },
        { label: "Deferred", num: true, wide: 1, cell: (s) => num(s.deferred) },
        { label: "Failed", num: true, wide: 1, cell: (s) => num(s.failed) },
        { label: "Outcome", cls: "metered", cell: share },
      ] }) : empty("No source is in use", "Sources appear with the first message that is due.")),
    h("p", { class: "foot" }, "Counted are recipients, by the ready queues that are in memory."),
  ];
}
