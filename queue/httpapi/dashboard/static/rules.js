// Rules: what the operator has suspended or has bounced, and new ones.
import { admin, get, post, remove } from "./api.js";
import { openDialog, toast } from "./dialog.js";
import { draw as redraw, h, uid } from "./dom.js";
import { num, number, plural, time } from "./format.js";
import { button, empty, name, panel, table } from "./parts.js";

export const every = 4;

export const load = (params, signal) => get(admin("rules"), {}, signal);

// matchText says which queues a rule is for.
export function matchText(m) {
  if (m.queue_names_total > 0) return m.queue_names_total === 1 ? m.queue_names[0] : `${m.queue_names[0]} and ${plural(m.queue_names_total - 1, "other")}`;
  const parts = [["campaign", m.campaign], ["tenant", m.tenant], ["domain", m.domain], ["routing domain", m.routing_domain]].filter(([, v]) => v !== null && v !== undefined);
  return parts.length ? parts.map(([k, v]) => `${k} ${v || "“”"}`).join(", ") : "Every queue";
}

const everything = (m) => m && m.queue_names_total === 0 && [m.campaign, m.tenant, m.domain, m.routing_domain].every((v) => v === null);

const kinds = {
  bounce: { path: admin("bounce"), list: "bounces", title: "Bounces", one: "bounce", done: "The bounce is in force", none: "Nothing is being bounced" },
  suspend: { path: admin("suspend"), list: "suspensions", title: "Suspended scheduled queues", one: "suspension", done: "The suspension is in force", none: "No scheduled queue is suspended" },
  "suspend-ready-q": { path: admin("suspend-ready-q"), list: "ready_suspensions", title: "Suspended ready queues", one: "suspension", done: "The suspension is in force", none: "No ready queue is suspended" },
};

async function cancel(kind, rule, e) {
  e.target.disabled = true;
  try {
    await remove(kinds[kind].path, { id: rule.id });
    toast(`The ${kinds[kind].one} of ${rule.name ?? matchText(rule.match)} has ended`);
    dispatchEvent(new Event("changed"));
  } catch (error) {
    e.target.disabled = false;
    toast(`Not cancelled: ${error.message}`, true);
  }
}

function listing(kind, rows) {
  const what = kinds[kind];
  return panel(what.title, { actions: button("New", () => newRule(kind), "small", { "aria-label": `New ${what.one}` }), note: rows.length ? number(rows.length) : null }, rows.length ? table({
    caption: what.title, rows, key: (r) => r.id, columns: [
      { label: "For", cell: (r) => [h("span", { class: everything(r.match) ? "strong" : null }, name(r.name ?? matchText(r.match))), r.match?.queue_names_total > 1 && h("details", null, h("summary", null, "Names"), h("ul", { class: "plain" }, r.match.queue_names.map((n) => h("li", null, n))))] },
      { label: "Reason", cls: "grow", cell: (r) => r.reason },
      kind === "bounce" && { label: "Bounced", num: true, cell: (r) => num(r.total_bounced) },
      kind === "bounce" && { label: "Records", wide: 2, cell: (r) => r.suppress_logging ? "none" : "AdminBounce" },
      { label: "Ends", num: true, wide: 1, cell: (r) => time(r.expires) },
      { label: h("span", { class: "sr" }, "Actions"), num: true, cell: (r) => button("Cancel", (e) => cancel(kind, r, e), "small", { "aria-label": `Cancel the ${what.one} of ${r.name ?? matchText(r.match)}` }) },
    ].filter(Boolean) }) : empty(what.none, null, "slim"));
}

export function draw(data) {
  return [h("h1", { class: "sr" }, "Rules"), Object.keys(kinds).map((kind) => listing(kind, data[kinds[kind].list]))];
}

function field(label, input, hint) {
  const id = (input.id ||= uid());
  const described = hint && uid();
  if (described) input.setAttribute("aria-describedby", described);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, hint && h("p", { class: "hint", id: described }, hint));
}

const text = (name, value, props) => h("input", { type: "text", name, value: value ?? "", autocomplete: "off", spellcheck: "false", ...props });

const durations = ["5m", "15m", "1h", "4h", "1day", "7days"];

// newRule asks for a rule. given is what is known of it: name of a queue.
export function newRule(kind, given = {}) {
  const what = kinds[kind];
  const isReady = kind === "suspend-ready-q";
  const bounces = kind === "bounce";
  const form = h("form", { method: "dialog", class: "form" });
  const problem = h("p", { class: "error", role: "alert" });
  const all = h("input", { type: "checkbox", name: "all", id: uid() });
  const allRow = h("div", { class: "check" }, all, h("label", { for: all.id }, bounces ? "Every message of every queue is to be bounced" : "Every queue is to be suspended"));
  const named = given.name !== undefined;
  const criteria = isReady
    ? [field("Ready queue", text("name", given.name, { required: true, placeholder: "source->site@smtp_client" }))]
    : named ? [field("Queue", text("queue", given.name, { required: true }), "Exactly this scheduled queue")]
      : [h("fieldset", null, h("legend", null, "Queues with all of"), field("Domain", text("domain", given.domain)), field("Campaign", text("campaign")), field("Tenant", text("tenant")), bounces && field("Routing domain", text("routing_domain")),
        field("Names of queues", h("textarea", { name: "names", rows: "2", spellcheck: "false", placeholder: "One a line" }), "If there are any, nothing else counts")), allRow];
  const submit = h("button", { type: "submit", class: bounces ? "btn danger" : "btn primary" }, bounces ? "Bounce" : "Suspend");
  redraw(form, criteria, field("Reason", text("reason", "", { required: true, maxlength: "500", placeholder: bounces ? "Goes into every record" : "For those who look at it later" })),
    field("For", h("select", { name: "duration" }, durations.map((d) => h("option", { value: d }, d)))),
    bounces && h("div", { class: "check" }, h("input", { type: "checkbox", name: "suppress", id: "suppress" }), h("label", { for: "suppress" }, "Write no AdminBounce records")),
    bounces && h("p", { class: "callout bad" }, "Bounced messages are gone. Those that come until the rule ends are bounced, too."),
    problem, h("div", { class: "buttons" }, submit));
  const close = openDialog(bounces ? "Bounce messages" : isReady ? "Suspend a ready queue" : "Suspend scheduled queues", form);
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const v = Object.fromEntries([...new FormData(form)].map(([k, x]) => [k, x.trim()]));
    const body = { reason: v.reason, duration: v.duration };
    if (isReady) body.name = v.name;
    else {
      const names = named ? [v.queue] : v.names.split("\n").map((s) => s.trim()).filter(Boolean);
      if (names.length) body.queue_names = names;
      else for (const k of ["domain", "campaign", "tenant", "routing_domain"]) if (v[k]) body[k] = v[k];
      const some = names.length || body.domain || body.campaign || body.tenant || body.routing_domain;
      if (!some && !v.all) {
        problem.textContent = "Say which queues, or that it is for every queue.";
        all.focus();
        return;
      }
      if (some && v.all) {
        problem.textContent = "Either which queues, or every queue.";
        return;
      }
    }
    if (bounces) body.suppress_logging = v.suppress === "on";
    submit.disabled = true;
    problem.textContent = "";
    try {
      await post(what.path, body);
      close();
      toast(what.done);
      dispatchEvent(new Event("changed"));
    } catch (error) {
      problem.textContent = error.kind === "denied" ? `Not permitted: ${error.message}` : error.message;
      submit.disabled = false;
    }
  });
  form.querySelector(named ? "[name=reason]" : "input")?.focus();
}
