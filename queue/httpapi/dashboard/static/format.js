// Numbers and times for people, exact on hover.
import { h } from "./dom.js";

const exact = new Intl.NumberFormat("en-US");

// compact is 999, 1.2k, 34k, 5.6M.
export function compact(n) {
  const a = Math.abs(n);
  if (a < 1000) return String(Math.round(n));
  for (const [limit, unit] of [[1e6, "k"], [1e9, "M"], [1e12, "G"]]) {
    if (a >= limit * 0.9995) continue;
    const v = n / (limit / 1000);
    return (Math.abs(v) < 9.95 ? v.toFixed(1).replace(/\.0$/, "") : String(Math.round(v))) + unit;
  }
  return (n / 1e12).toFixed(1) + "T";
}

// rate is a number per second.
export function rate(n) {
  if (n === 0) return "0";
  if (n < 0.095) return n < 0.005 ? "<0.01" : n.toFixed(2);
  return n < 99.5 ? n.toFixed(1) : compact(n);
}

export const number = (n) => exact.format(n);

// num is a number that is exact on hover, and to those who listen.
export function num(n, props) {
  const short = compact(n);
  const full = exact.format(n);
  if (short === full) return h("span", { class: n ? "num" : "num zero", ...props }, short);
  return h("span", { class: "num", title: full, ...props }, h("span", { "aria-hidden": "true" }, short), h("span", { class: "sr" }, full));
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) [n, i] = [n / 1024, i + 1];
  return `${i && n < 9.95 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

// span is a duration in seconds: 4s, 12m, 3h 20m, 5d 4h.
export function span(s) {
  s = Math.max(0, Math.round(s));
  if (s < 60) return `${s}s`;
  const [d, hr, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return hr && d < 10 ? `${d}d ${hr}h` : `${d}d`;
  if (hr) return m && hr < 10 ? `${hr}h ${m}m` : `${hr}h`;
  return s % 60 && m < 10 ? `${m}m ${s % 60}s` : `${m}m`;
}

// brief is a duration as the server writes it, without what is below a second.
export const brief = (d) => d.split(" ").filter((part) => !/[mun]s$/.test(part)).slice(0, 2).join(" ") || "<1s";

// The server's clock: what is relative is relative to that.
let skew = 0;
export function serverTime(now) {
  skew = Date.parse(now) - Date.now();
}
export const serverNow = () => Date.now() + skew;

const absolute = new Intl.DateTimeFormat("en-CA", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short",
});
const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const clockShort = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const fullTime = (t) => absolute.format(new Date(t)).replace(",", "");
export const clock = (t, seconds = true) => (seconds ? clockTime : clockShort).format(new Date(t));

export function relative(t) {
  const s = (new Date(t).getTime() - serverNow()) / 1000;
  if (Math.abs(s) < 1) return "now";
  return s > 0 ? `in ${span(s)}` : `${span(-s)} ago`;
}

// time is a moment, relative, with the absolute one on hover; both: one after the other.
export function time(t, both) {
  if (!t) return h("span", { class: "none" }, "–");
  const full = fullTime(t);
  return h("time", { datetime: t, title: full }, both ? `${relative(t)} · ${full}` : relative(t));
}

// words makes reason_like_this readable.
export const words = (s) => String(s).replaceAll("_", " ");
export const plural = (n, one, many = one + "s") => `${number(n)} ${n === 1 ? one : many}`;
