// Detail: one queue, why its mail waits, and what can be done about it.
import { admin, attempt } from "./api.js";
import { draw, h } from "./dom.js";
import { brief, num, plural, span, time, words } from "./format.js";
import { button, facts, holdBadge, holdSentence, kindBadge, meter, name, panel, problem, reply, site as siteOf, skeleton, table } from "./parts.js";
import { detail, link, set } from "./route.js";
import { explained } from "./explained.js";
import { newRule } from "./rules.js";
import { tree } from "./tree.js";

const every = 3;
let shown; // {kind, name, el, body, timer, abort}

export function showDetail(open) {
  const at = open.indexOf(":");
  const [kind, queue] = [open.slice(0, at), open.slice(at + 1)];
  if (shown?.kind === kind && shown?.name === queue) return;
  if (!shown) {
    const el = h("dialog", { class: "drawer", "aria-labelledby": "detail-title", on: {
      close: () => shown?.el === el && (stop(), set({ open: "" })),
      click: (e) => e.target === el && el.close(),
    } }, h("header", null, h("div", { id: "detail-head" }), h("button", { type: "button", class: "close", "aria-label": "Close", on: { click: () => el.close() } }, "×")), h("div", { class: "body", tabindex: "-1" }));
    document.body.append(el);
    shown = { el, body: el.querySelector(".body"), from: document.activeElement };
    el.showModal();
    shown.body.focus();
  }
  Object.assign(shown, { kind, name: queue });
  draw(shown.el.querySelector("#detail-head"), h("p", { class: "eyebrow" }, kind === "ready" ? "Ready queue" : "Scheduled queue"), h("h2", { id: "detail-title" }, queue));
  draw(shown.body, skeleton(8));
  shown.body.scrollTop = 0;
  refresh();
}

export function closeDetail() {
  if (!shown) return;
  const { el } = shown;
  stop();
  el.close();
}

function stop() {
  const { el, from, timer, abort } = shown;
  clearTimeout(timer);
  abort?.abort();
  shown = null;
  el.remove();
  if (from?.isConnected) from.focus();
}

addEventListener("changed", () => shown && refresh());

async function refresh() {
  const now = shown;
  clearTimeout(now.timer);
  now.abort?.abort();
  const abort = (now.abort = new AbortController());
  try {
    const nodes = await (now.kind === "ready" ? ready : scheduled)(now.name, abort.signal);
    if (shown === now && !abort.signal.aborted) draw(now.body, nodes);
  } catch (e) {
    if (!abort.signal.aborted) console.error(e);
  }
  if (shown !== now || abort.signal.aborted) return;
  now.timer = setTimeout(() => (document.hidden ? (now.timer = setTimeout(refresh, 1000)) : refresh()), every * 1000);
}

function gone(error, what) {
  if (error.status !== 404 || error.kind === "missing") return problem(error, what);
  return h("div", { class: "empty" }, h("p", null, "There is no such queue at the moment"), h("p", { class: "hint" }, "Queues without messages are forgotten after a while."));
}

// why is the answer to the first question.
function why(q, hold, moving) {
  if (hold) return h("div", { class: `callout ${["bounced", "settings", "source", "connect_failing"].includes(hold.reason) ? "bad" : "warn"}` }, holdSentence(hold));
  return h("div", { class: "callout" }, moving);
}

function scheduledWhy(q) {
  if (!q.messages) return "It has no messages.";
  if (q.due) return [h("strong", null, "Moving"), ": ", plural(q.due, "message"), q.due === 1 ? " is" : " are", " due and on the way into a ready queue."];
  if (q.waiting) return [h("strong", null, "Not due"), ": nothing holds the queue; ", plural(q.waiting, "message"), q.waiting === 1 ? " waits for its time" : " wait for their time", ", after a failure or as scheduled."];
  return [h("strong", null, "In flight"), ": all of its mail is in ready queues or on connections."];
}

function messages({ data, error }) {
  if (error) return error.kind === "refused" ? null : panel("Messages", { level: 3 }, problem(error, "messages"));
  const rows = [...data.messages].sort((a, b) => Date.parse(a.due ?? data.now) - Date.parse(b.due ?? data.now));
  if (!rows.length) return null;
  const to = (m) => [m.message.recipient ?? []].flat();
  return panel("Messages", { level: 3, note: `${rows.length} of ${plural(data.num_scheduled, "message")}` }, table({
    caption: "Messages", rows, key: (m) => m.id, columns: [
      { label: "Recipient", cell: (m) => [h("a", { href: link("explain", { id: m.id }), title: `Explain ${m.id}` }, name(to(m)[0] ?? "–")), h("span", { class: "sub" }, `from ${m.message.sender || "<>"}`)] },
      { label: "Tries", num: true, cell: (m) => num(m.num_attempts ?? 0) },
      { label: "Due", num: true, cell: (m) => (m.due ? time(m.due) : "now") },
    ] }));
}

function failures({ data, error }) {
  if (error) return panel("Latest failures", { level: 3 }, problem(error, "failures"));
  return panel("Latest failures", { level: 3 }, data.recent.length ? h("ol", { class: "events" }, data.recent.slice(0, 12).map((f) =>
    h("li", { key: `${f.time}${f.id}` }, h("div", null, time(f.time), kindBadge(f.kind), h("span", { class: "sub" }, f.recipient)), reply(f.response)))) : h("p", { class: "hint pad" }, "None is known."));
}

const times = (n) => [num(n), h("span", { class: "of" }, n === 1 ? " time" : " times")];

async function scheduled(queue, signal) {
  const ask = (what, query) => attempt(admin(what), query, signal);
  const [list, sample, failed, explanation] = await Promise.all([
    ask("queues", { kind: "scheduled", name: queue }), ask("inspect-sched-q", { queue_name: queue, limit: 10 }), ask("failures", { queue, limit: 12 }), ask("explain", { queue }),
  ]);
  if (list.error) return [gone(list.error, "this queue"), failures(failed)];
  const q = list.data.queues[0];
  const domain = queue.replace(/^[^@]*@/, "").replace(/!.*$/, "");
  const targets = await Promise.all(q.ready_queues.slice(0, 8).map((r) => ask("queues", { kind: "ready", name: r })));
  return [
    why(q, q.hold, scheduledWhy(q)),
    h("div", { class: "buttons" }, button("Suspend…", () => newRule("suspend", { name: queue })), button("Bounce…", () => newRule("bounce", { name: queue }), "danger"),
      h("a", { class: "btn", href: link("trace", { domain }) }, "Trace"), h("a", { class: "btn", href: link("explain", { queue }) }, "Explain")),
    facts(["Messages", num(q.messages)], ["Waiting", num(q.waiting)], ["Due", num(q.due)], ["In flight", num(q.in_flight)], ["Changed", time(q.changed)],
      ["Held by its rate", times(q.delayed.rate)], ["Held by policy", times(q.delayed.ready)], ["Held for room", times(q.delayed.full)]),
    q.ready_queues.length > 0 && panel("Where its mail goes", { level: 3 }, table({ caption: "Ready queues", rows: targets.map((t, i) => t.data?.queues[0] ?? { name: q.ready_queues[i], gone: true }), key: (r) => r.name, columns: [
      { label: "Site", cell: (r) => [h("a", { href: detail("ready", r.name) }, name(siteOf(r.name).site, r.name)), h("span", { class: "sub" }, siteOf(r.name).source)] },
      { label: "Held by", cell: (r) => (r.gone ? h("span", { class: "quiet" }, "gone") : holdBadge(r.hold, "moving")) },
      { label: "Messages", num: true, cls: "metered", cell: (r) => (r.gone ? "–" : [meter(r.messages, r.max_ready, "limit"), num(r.messages)]) },
      { label: "Connections", num: true, cell: (r) => (r.gone ? "–" : [num(r.connections), h("span", { class: "of" }, ` / ${r.connection_limit}`)]) },
    ] })),
    failures(failed), messages(sample),
    explanation.data && explained(explanation.data, true),
  ];
}

const phase = (p) => (typeof p === "string" ? words(p.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase()) : Object.entries(p).map(([k, v]) => `${phase(k)} ${Object.values(v).join(" / ")}`).join());

function connections({ data, error }, queue) {
  if (error) return panel("Connections", { level: 3 }, problem(error, "connections"));
  if (!data.dispatchers.length) return null;
  return panel("Connections", { level: 3, note: plural(data.dispatchers.length, "connection") }, table({
    caption: "Connections", rows: data.dispatchers.slice(0, 50), key: (d) => d.session_id, columns: [
      { label: "Phase", cell: (d) => [phase(d.phase), d.detail && h("span", { class: "sub" }, d.detail)] },
      { label: "For", num: true, cell: (d) => brief(d.time_in_current_phase) },
      { label: "Age", num: true, cell: (d) => span((Date.parse(data.now) - Date.parse(d.started_at)) / 1000) },
      { label: "Delivered", num: true, cell: (d) => num(d.messages_delivered) },
      { label: "Deferred", num: true, wide: 1, cell: (d) => num(d.messages_transfailed) },
      { label: "Failed", num: true, wide: 1, cell: (d) => num(d.messages_failed) },
    ] }));
}

async function ready(queue, signal) {
  const ask = (what, query) => attempt(admin(what), query, signal);
  const [list, inspected, failed] = await Promise.all([
    ask("queues", { kind: "ready", name: queue }), ask("inspect-ready-q", { queue_name: queue, include_scheduled_queues: true }), ask("failures", { site: queue, limit: 12 }),
  ]);
  if (list.error) return [gone(list.error, "this queue"), failures(failed)];
  const q = list.data.queues[0];
  const i = inspected.data;
  return [
    why(q, q.hold, q.messages || q.connections ? [h("strong", null, "Moving"), ": nothing holds it up."] : [h("strong", null, "Idle"), ": it has no messages and no connections."]),
    h("div", { class: "buttons" }, button("Suspend…", () => newRule("suspend-ready-q", { name: queue })), h("a", { class: "btn", href: link("trace", { ready_queue: queue }) }, "Trace")),
    facts(["Messages", num(q.messages), h("span", { class: "of" }, ` / ${q.max_ready}`)], ["Connections", num(q.connections), h("span", { class: "of" }, ` / ${q.connection_limit}`)], ["Fed by", plural(q.feeders, "queue")],
      ["Source", q.source], q.provider && ["Provider", q.provider], ["Delivered", num(q.delivered)], ["Deferred", num(q.deferred)], ["Failed", num(q.failed)], ["Found full", times(q.full)], q.connect_failures > 0 && ["Can't connect", times(q.connect_failures)]),
    failures(failed), connections(inspected, queue),
    i?.constraints && panel("Limits", { level: 3 }, h("dl", { class: "facts" }, Object.entries(i.constraints).filter(([, c]) => c && typeof c === "object").map(([k, c]) =>
      h("div", null, h("dt", null, words(k)), h("dd", null, c.display, c.source.kind !== "primary" && h("span", { class: "of" }, ` by ${c.source.name ?? words(c.source.kind)}`)))))),
    i?.scheduled_queue_names?.length > 0 && panel("Scheduled queues that feed it", { level: 3, note: plural(i.scheduled_queue_names.length, "queue") },
      h("ul", { class: "plain" }, i.scheduled_queue_names.slice(0, 100).map((n) => h("li", null, h("a", { href: detail("scheduled", n) }, name(n)))))),
    i?.mx && panel("Hosts", { level: 3 }, tree(i.mx)),
    i?.path_config && panel("Path settings", { level: 3 }, h("details", null, h("summary", null, "All settings"), tree(i.path_config))),
  ];
}
