// The frame: which view is shown, when it is asked for anew, and what is the matter with the server.
import { admin, attempt, health } from "./api.js";
import { closeDetail, showDetail } from "./detail.js";
import { draw, h } from "./dom.js";
import { clock, span } from "./format.js";
import { problem, skeleton } from "./parts.js";
import { go, parse, route } from "./route.js";
import { openDialog, wireDialogs } from "./dialog.js";
import * as overview from "./overview.js";
import * as queues from "./queues.js";
import * as failures from "./failures.js";
import * as rules from "./rules.js";
import * as sources from "./sources.js";
import * as trace from "./trace.js";
import * as explain from "./explain.js";

// A view has load(params, signal), which asks the server, draw(data, params), which makes nodes of the answer, every, the seconds between two, and perhaps
// drawn(main). One that has enter(main, params) instead does all by itself, is told of other parameters by update(params), and returns what ends it.
const views = [
  ["overview", "Overview", overview], ["queues", "Queues", queues], ["failures", "Failures", failures], ["rules", "Rules", rules],
  ["sources", "Sources", sources], ["trace", "Trace", trace], ["explain", "Explain", explain],
];

const $ = (id) => document.getElementById(id);
const main = $("main");
let shown; // {name, view, data, error, stop, timer, abort}
let paused = false;
let wantSearch = false; // the search of the next view is to get the focus

function nav() {
  draw($("nav"), views.map(([name, label], i) => h("a", { href: `#/${name}`, key: name, "aria-current": shown?.name === name ? "page" : null, title: `${label} (${i + 1})` }, label)));
  $("nav").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone there is not room for all
}

function navigate() {
  parse();
  const [name, label, view] = views.find((v) => v[0] === route.view) ?? views[0];
  if (shown?.name !== name) {
    leave();
    shown = { name, view };
    document.title = `${label} · ${$("host").textContent}`;
    main.dataset.view = name;
    draw(main, view.enter ? null : skeleton(8));
    scrollTo(0, 0);
    if (view.enter) shown.stop = view.enter(main, route.params);
  } else if (view.enter) {
    view.update?.(route.params);
  }
  nav();
  paint();
  if (!shown.view.enter) refresh();
  const open = route.params.get("open");
  if (open) showDetail(open);
  else closeDetail();
}

function leave() {
  if (!shown) return;
  shown.abort?.abort();
  clearTimeout(shown.timer);
  shown.stop?.();
}

// refresh asks for the data of the view that is shown, and again after a while.
async function refresh() {
  const now = shown;
  now.abort?.abort();
  clearTimeout(now.timer);
  const abort = (now.abort = new AbortController());
  try {
    now.data = await now.view.load(route.params, abort.signal);
    now.error = null;
    now.fails = 0;
  } catch (e) {
    if (abort.signal.aborted) return;
    now.error = e;
    now.fails = (now.fails ?? 0) + 1;
    if (e.kind === undefined) console.error(e);
  }
  if (now !== shown || abort.signal.aborted) return;
  paint();
  if (paused || document.hidden) return;
  const wait = now.error ? Math.min(2 ** now.fails, 15) : now.view.every;
  now.timer = setTimeout(refresh, wait * 1000);
}

function paint() {
  const { view, data, error } = shown;
  if (view.enter) return;
  if (data) {
    const old = error && error.kind !== "away"; // there is a banner for that
    draw(main, old && h("div", { class: "callout bad", role: "alert", key: "old" }, h("strong", null, "Not refreshed"), `: ${error.message}`), view.draw(data, route.params));
    view.drawn?.(main);
    if (wantSearch) main.querySelector("input[type=search]")?.focus();
    wantSearch = false;
  }
  else if (error) draw(main, problem(error, "what this view shows"), h("p", { class: "center" }, h("button", { type: "button", class: "btn", on: { click: refresh } }, "Try again")));
}

// What was changed here is to be seen at once.
addEventListener("changed", () => shown && !shown.view.enter && refresh());

function pulse() {
  const el = $("pulse");
  const away = health.awaySince !== 0;
  const seen = health.seen ? span((Date.now() - health.seen) / 1000) : "";
  el.className = `pulse ${away ? "bad" : paused ? "idle" : health.seen ? "good" : ""}`;
  draw(el, h("i", { "aria-hidden": "true" }), h("span", null, away ? "No answer" : paused ? "Paused" : health.seen ? "Live" : "Connecting"));
  el.title = seen ? `Last answer ${seen} ago` : "";
  document.body.classList.toggle("stale", away);
  const banner = $("banner");
  banner.hidden = !away;
  if (away) {
    draw(banner, h("strong", null, "The server does not answer"), ` (${health.why}). `,
      health.seen ? `What you see is from ${clock(health.seen)}. ` : "", "It is asked again every few seconds.");
  }
}

function pause(to = !paused) {
  paused = to;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  pulse();
  if (!paused && !shown.view.enter) refresh();
  if (paused) clearTimeout(shown.timer);
}

const themes = ["auto", "light", "dark"];
function theme(next) {
  const root = document.documentElement;
  let at = root.dataset.theme ?? "auto";
  if (next) {
    at = themes[(themes.indexOf(at) + 1) % themes.length];
    if (at === "auto") delete root.dataset.theme;
    else root.dataset.theme = at;
    try {
      localStorage.setItem("theme", at);
    } catch { /* it holds until the page is closed, then */ }
  }
  $("theme").textContent = at[0].toUpperCase() + at.slice(1);
  $("theme").title = at === "auto" ? "Colours: as the system has them" : `Colours: ${at}`;
}

function help() {
  const keys = [["1 – 7", "Views"], ["/", "Search"], ["j, k or ↓, ↑", "Next and previous row"], ["Enter", "Open the row"], ["Esc", "Close, or leave the search"],
    ["← →", "Read the chart, when it has the focus"], ["p", "Pause and resume"], ["t", "Colours"], ["?", "This"]];
  openDialog("Keys", h("dl", { class: "keys" }, keys.map(([k, what]) => h("div", null, h("dt", null, h("kbd", null, k)), h("dd", null, what)))));
}

function search() {
  const input = main.querySelector("input[type=search]");
  wantSearch = !input;
  if (input) input.focus();
  else go("queues");
}

function rows(step) {
  const links = [...(document.querySelector("dialog[open]") ?? main).querySelectorAll(".scroll tbody a")];
  if (!links.length) return;
  const row = document.activeElement?.closest?.("tr");
  const firsts = links.filter((a, i) => links.findIndex((b) => b.closest("tr") === a.closest("tr")) === i);
  const at = firsts.findIndex((a) => a.closest("tr") === row);
  const to = firsts[Math.max(0, Math.min(firsts.length - 1, at < 0 ? (step > 0 ? 0 : firsts.length - 1) : at + step))];
  to.focus();
  to.scrollIntoView({ block: "nearest" });
}

addEventListener("keydown", (e) => {
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = e.target.closest?.("input, textarea, select");
  if (typing) {
    if (e.key === "Escape" && typing.type === "search") typing.blur();
    return;
  }
  const modal = document.querySelector("dialog[open]");
  const acts = { j: () => rows(1), k: () => rows(-1), ArrowDown: () => rows(1), ArrowUp: () => rows(-1), "?": help };
  if (!modal) {
    Object.assign(acts, { "/": search, p: () => pause(), t: () => theme(true) });
    views.forEach(([name], i) => (acts[String(i + 1)] = () => go(name)));
  }
  if ((e.key === "ArrowDown" || e.key === "ArrowUp") && !document.activeElement?.closest("tbody")) return;
  if (!acts[e.key]) return;
  e.preventDefault();
  acts[e.key]();
});

health.listeners.add(pulse);
setInterval(pulse, 1000);
addEventListener("hashchange", navigate);
addEventListener("pageview", () => navigate());
document.addEventListener("visibilitychange", () => document.hidden || paused || shown.view.enter || refresh());
$("pause").addEventListener("click", () => pause());
$("theme").addEventListener("click", () => theme(true));
$("keys").addEventListener("click", help);
wireDialogs();
theme();
navigate();
attempt(admin("summary")).then(({ data }) => {
  if (!data) return;
  $("host").textContent = data.hostname;
  document.title = document.title.replace(/ · .*/, ` · ${data.hostname}`);
});
