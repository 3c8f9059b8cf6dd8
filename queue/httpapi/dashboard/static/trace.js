// Trace: what is said on outbound connections, as it is said.
import { admin } from "./api.js";
import { draw, h, own, uid } from "./dom.js";
import { clock, fullTime, number, plural } from "./format.js";

const fields = [["ready_queue", "Ready queue"], ["domain", "Domain"], ["mx_host", "Host"], ["egress_source", "Source"], ["mail_from", "Sender"], ["rcpt_to", "Recipient"]];
const kept = 2000; // lines

let view;

export function enter(main, params) {
  view = new Trace(main, params);
  return () => view.leave();
}

export function update(params) {
  view.fill(params);
}

class Trace {
  constructor(main, params) {
    this.inputs = Object.fromEntries(fields.map(([name, label]) => [name, h("input", { type: "text", id: uid(), autocomplete: "off", spellcheck: "false", placeholder: "any", on: { keydown: (e) => e.key === "Enter" && this.toggle() } })]));
    this.terse = h("input", { type: "checkbox", id: uid(), checked: true });
    this.button = h("button", { type: "button", class: "btn primary", on: { click: () => this.toggle() } }, "Start");
    this.state = h("p", { class: "note", role: "status" }, "Not connected");
    this.log = own(h("ol", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "What is said" }), "log");
    this.follow = true;
    this.log.addEventListener("scroll", () => (this.follow = this.log.scrollTop + this.log.clientHeight > this.log.scrollHeight - 40));
    this.pending = [];
    this.sessions = new Map();
    this.events = 0;
    draw(main, h("h1", { class: "sr" }, "Trace"), h("section", { class: "panel trace", "aria-label": "Live trace" },
      h("header", null, h("h2", null, "Live trace"), this.state, h("div", { class: "actions" }, h("button", { type: "button", class: "btn", on: { click: () => this.clear() } }, "Clear"), this.button)),
      h("div", { class: "filters" }, fields.map(([name, label]) => h("div", { class: "field" }, h("label", { for: this.inputs[name].id }, label), this.inputs[name])),
        h("div", { class: "check" }, this.terse, h("label", { for: this.terse.id }, "Shorten messages"))),
      this.log));
    this.clear();
    this.fill(params);
    if (this.filled) this.start();
    else this.button.focus();
  }

  fill(params) {
    this.filled = false;
    for (const [name] of fields) {
      const v = params.get(name);
      if (v !== null) this.inputs[name].value = v;
      this.filled ||= !!v;
    }
  }

  toggle() {
    if (this.socket) this.stop("Stopped");
    else this.start();
  }

  start() {
    const request = { terse: this.terse.checked };
    for (const [name] of fields) {
      const v = this.inputs[name].value.trim();
      if (v) request[name] = name === "ready_queue" ? [v] : v.split(/[\s,]+(?=[^\s,])/).filter(Boolean); // its name may have both
    }
    const url = new URL(admin("trace-smtp-client"), location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(url));
    this.say("Connecting");
    this.button.textContent = "Stop";
    this.button.classList.remove("primary");
    socket.onopen = () => {
      socket.send(JSON.stringify(request));
      this.open = true;
      this.say("Listening: what is said from now on is shown");
      this.placeholder();
    };
    socket.onmessage = (e) => this.take(e.data);
    socket.onclose = () => this.socket === socket && this.lost();
  }

  stop(why) {
    const { socket } = this;
    this.socket = null;
    this.open = false;
    if (socket) socket.close();
    this.button.textContent = "Start";
    this.button.classList.add("primary");
    this.say(why);
  }

  // lost finds out why, which a browser does not tell of websockets.
  async lost() {
    if (this.open) return this.stop("The server has ended the trace");
    this.stop("Not connected");
    let why = "The server does not answer";
    try {
      const { status } = await fetch(admin("trace-smtp-client"), { cache: "no-store" });
      why = status === 404 ? "This server has no endpoint for traces" : status === 401 || status === 403 ? "You are not permitted to trace" : "The connection could not be upgraded";
    } catch { /* it does not */ }
    this.say(why, true);
  }

  say(text, bad) {
    this.state.textContent = text;
    this.state.classList.toggle("bad", !!bad);
  }

  leave() {
    if (this.socket) this.stop("");
    cancelAnimationFrame(this.frame);
  }

  clear() {
    this.pending.length = 0;
    this.lines = 0;
    this.log.replaceChildren();
    this.placeholder();
  }

  placeholder() {
    if (!this.lines) this.log.replaceChildren(h("li", { class: "hint" }, this.open ? "Nothing has been said yet." : "Choose what to see, or leave all empty for everything, and start. Mail is not slowed by it."));
  }

  take(data) {
    let e;
    try {
      e = JSON.parse(data);
    } catch {
      return;
    }
    this.events++;
    this.pending.push(e);
    if (this.pending.length > kept) this.pending.splice(0, this.pending.length - kept);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.flush();
    });
  }

  flush() {
    if (!this.pending.length) return;
    if (!this.lines) this.log.replaceChildren();
    const out = document.createDocumentFragment();
    for (const e of this.pending) for (const line of this.linesOf(e)) out.append(line);
    this.pending.length = 0;
    this.lines += out.childElementCount;
    this.log.append(out);
    for (; this.lines > kept; this.lines--) this.log.firstChild.remove();
    if (this.follow) this.log.scrollTop = this.log.scrollHeight;
    this.say(`Listening: ${plural(this.events, "event")} of ${plural(this.sessions.size, "connection")}`);
  }

  linesOf({ conn_meta: m, payload, when }) {
    const id = m?.id ?? m?.received_from ?? "";
    let s = this.sessions.get(id);
    if (!s) {
      if (this.sessions.size > 10000) this.sessions.clear();
      s = { first: Date.parse(when), hue: this.sessions.size % 8 };
      this.sessions.set(id, s);
    }
    const [kind, value] = typeof payload === "string" ? [payload, null] : Object.entries(payload)[0];
    const texts = this.texts(kind, value, m ?? {});
    return texts.map(([cls, sign, text], i) => h("li", { class: `${cls} s${s.hue}` },
      h("time", { title: fullTime(when), datetime: when }, i ? "" : clock(when)), h("span", { class: "after" }, i ? "" : `+${((Date.parse(when) - s.first) / 1000).toFixed(2)}`),
      h("span", { class: "session", title: [m?.ready_queue_name, m?.mx_host, id].filter(Boolean).join("\n") }, i ? "" : id.slice(0, 4)), h("span", { class: "sign" }, sign), h("span", { class: "said" }, text)));
  }

  // texts are the lines of an event: class, sign, text.
  texts(kind, v, m) {
    switch (kind) {
      case "Read": return lines(v).map((l) => [`read c${/^[245]/.test(l) ? l[0] : ""}`, "←", l]);
      case "Write": return lines(v).map((l) => ["write", "→", l]);
      case "AbbreviatedRead": case "AbbreviatedWrite": return [[kind === "AbbreviatedRead" ? "read" : "write", kind === "AbbreviatedRead" ? "←" : "→", `${v.snippet} … ${number(v.len)} bytes`]];
      case "Diagnostic": return [[`diag ${v.level.toLowerCase()}`, "·", v.message]];
      case "BeginSession": return [["step", "●", `session for ${m.ready_queue_name ?? "?"}`]];
      case "Connected": return [["step", "●", ["connected", m.mx_host && ` to ${m.mx_host}`, m.mx_address && ` (${m.mx_address})`, m.source_address && ` from ${m.source_address}`].filter(Boolean).join("")]];
      case "MessageObtained": return [["step", "✉", `${m.message_id ?? ""} from <${m.sender ?? ""}> to ${[m.recipient ?? []].flat().join(", ")}, queue ${m.queue_name ?? "?"}`]];
      case "Closed": return [["step", "○", "closed"]];
      default: return [["diag", "·", `${kind} ${v === null ? "" : JSON.stringify(v)}`]];
    }
  }
}

const lines = (s) => s.replace(/\r?\n$/, "").split(/\r?\n/);
