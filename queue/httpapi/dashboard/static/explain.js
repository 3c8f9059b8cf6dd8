// Explain: for an address, a queue or a message, where it goes, by which settings, and what it waits for.
import { admin, attempt } from "./api.js";
import { draw, h, uid } from "./dom.js";
import { empty, panel, problem, skeleton } from "./parts.js";
import { explained } from "./explained.js";
import { set } from "./route.js";

const kinds = { address: "Address", queue: "Queue", id: "Message" };

let view;

export function enter(main, params) {
  view = new Explain(main, params);
  return () => view.abort?.abort();
}

export function update(params) {
  view.show(params);
}

// kindOf guesses what somebody means.
function kindOf(text) {
  if (/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(text)) return "id";
  return /^[^@:!]+@[^@:!]+$/.test(text) ? "address" : "queue";
}

class Explain {
  constructor(main, params) {
    this.input = h("input", { type: "search", class: "search wide", id: uid(), placeholder: "user@example.com, campaign:tenant@example.com, or the id of a message", spellcheck: "false", autocomplete: "off" });
    this.kind = h("select", { "aria-label": "What it is" }, h("option", { value: "" }, "Find out"), Object.entries(kinds).map(([v, label]) => h("option", { value: v }, label)));
    this.out = h("div", { class: "out", "aria-live": "polite" });
    draw(main, h("h1", { class: "sr" }, "Explain"), panel("Explain", { note: "where mail goes, by which settings, and what it waits for" },
      h("form", { class: "ask", role: "search", on: { submit: (e) => {
        e.preventDefault();
        const text = this.input.value.trim();
        if (text) set({ address: "", queue: "", id: "", [this.kind.value || kindOf(text)]: text });
      } } }, h("label", { class: "sr", for: this.input.id }, "Address, queue or message"), this.input, this.kind, h("button", { type: "submit", class: "btn primary" }, "Explain"))), this.out);
    this.show(params);
    this.input.focus();
  }

  async show(params) {
    const kind = Object.keys(kinds).find((k) => params.get(k));
    this.abort?.abort();
    if (!kind) {
      draw(this.out, null);
      return;
    }
    const text = params.get(kind);
    this.input.value = text;
    this.kind.value = kind;
    this.abort = new AbortController();
    const { signal } = this.abort;
    draw(this.out, skeleton(10));
    try {
      const { data, error } = await attempt(admin("explain"), { [kind]: text }, signal);
      if (signal.aborted) return;
      draw(this.out, error ? error.kind === "refused" ? empty(`Nothing is known of this ${kinds[kind].toLowerCase()}`, error.message) : problem(error, "explanations")
        : [h("h2", { class: "subject" }, h("span", { class: "eyebrow" }, kinds[kind]), text), explained(data)]);
    } catch (e) {
      if (!signal.aborted) throw e;
    }
  }
}
