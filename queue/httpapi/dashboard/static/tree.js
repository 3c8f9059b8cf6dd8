// Any JSON as nested lists of names and values.
import { h } from "./dom.js";
import { fullTime, words } from "./format.js";

const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

function scalar(v) {
  if (v === null) return h("span", { class: "none" }, "–");
  if (typeof v === "boolean") return v ? "yes" : "no";
  if (typeof v === "string" && isTime.test(v)) return h("time", { datetime: v, title: v }, fullTime(v));
  return v === "" ? h("span", { class: "none" }, "“”") : h("span", { class: "value" }, String(v));
}

const flat = (v) => v === null || typeof v !== "object";

// tree draws v; skip are keys at its top that are not shown.
export function tree(v, skip = [], depth = 0) {
  if (flat(v)) return scalar(v);
  if (depth > 12) return "…";
  if (Array.isArray(v)) {
    if (!v.length) return h("span", { class: "none" }, "none");
    if (v.every(flat)) return h("span", { class: "value" }, v.map((x, i) => [i ? ", " : "", scalar(x)]));
    return h("ol", { class: "tree" }, v.slice(0, 500).map((x) => h("li", null, tree(x, [], depth + 1))), v.length > 500 && h("li", null, `and ${v.length - 500} more`));
  }
  const entries = Object.entries(v).filter(([k]) => !skip.includes(k));
  if (!entries.length) return h("span", { class: "none" }, "none");
  return h("dl", { class: "tree" }, entries.map(([k, x]) => h("div", { class: flat(x) || Array.isArray(x) && x.every(flat) ? "leaf" : "branch" }, h("dt", { title: k }, words(k)), h("dd", null, tree(x, [], depth + 1)))));
}
