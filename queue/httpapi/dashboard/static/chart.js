// Charts of what happened over time, as SVG.
import { clock, fullTime, number, rate } from "./format.js";
import { draw, h, own } from "./dom.js";

// nice is a round number of which n fit in max at least.
function nice(max, n) {
  const raw = max / n;
  const unit = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((f) => f * unit).find((s) => s >= raw * 0.999);
}

const tickSeconds = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// buckets makes steps of the history into rates per second, in buckets of so many steps that there are not more than most. They begin at multiples
// of their length, so that the picture does not shimmer as time goes on. What was before since, when there was no server, is left out.
export function buckets(history, names, most, since) {
  const step = history.step_seconds;
  const n = history[names[0]].length;
  const start = Date.parse(history.start) / 1000;
  const now = Date.parse(history.now) / 1000;
  const something = history[names[0]].findIndex((_, i) => names.some((name) => history[name][i] > 0));
  const from = Math.max(0, Math.min(Math.floor((since - start) / step), something < 0 ? n : something, n - 20));
  const per = [1, 2, 5, 10, 15, 20, 30, 60].find((k) => (n - from) / k <= most) ?? Math.ceil(n / most);
  const first = Math.ceil((start / step + from) / per) * per - Math.round(start / step);
  const out = [];
  for (let i = first; i < n; i += per) {
    const from = start + i * step;
    const to = Math.min(from + per * step, now);
    if (to - from < Math.max(1, per * step * 0.5)) break; // too short to say much
    const b = { from: from * 1000, to: to * 1000, count: {}, rate: {} };
    for (const name of names) {
      let sum = 0;
      for (let j = i; j < Math.min(i + per, n); j++) sum += history[name][j];
      b.count[name] = sum;
      b.rate[name] = sum / (to - from);
    }
    out.push(b);
  }
  return out;
}

// spark is a line without axes.
export function spark(values, name, label) {
  const [w, ht] = [100, 24];
  const max = Math.max(...values, 1e-9);
  const x = (i) => ((i / Math.max(values.length - 1, 1)) * w).toFixed(2);
  const y = (v) => (ht - 1.5 - (v / max) * (ht - 3)).toFixed(2);
  const line = values.map((v, i) => `${i ? "L" : "M"}${x(i)} ${y(v)}`).join("");
  return h("svg", { class: `spark ${name}`, viewBox: `0 0 ${w} ${ht}`, preserveAspectRatio: "none", role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" },
    values.length > 1 && h("path", { class: "area", d: `${line}L${w} ${ht}L0 ${ht}Z` }),
    values.length > 1 && h("path", { class: "line", d: line, "vector-effect": "non-scaling-stroke" }));
}

// Chart is lines over time with a crosshair, which follows the pointer and the arrow keys.
export class Chart {
  constructor(series) {
    this.series = series; // {name, label}
    this.hidden = new Set();
    this.points = [];
    this.at = -1;
    this.plot = own(h("div", { class: "plot", tabindex: "0", role: "group", "aria-label": "Traffic over time", "aria-description": "Left and right arrow keys read single points",
      on: {
        pointermove: (e) => this.pointAt(e.clientX),
        pointerdown: (e) => this.pointAt(e.clientX),
        pointerleave: () => this.select(-1),
        keydown: (e) => this.key(e),
        blur: () => this.select(-1),
      } }), "plot");
    this.said = h("p", { class: "sr", "aria-live": "polite" });
    this.el = own(h("div", { class: "chart" }, this.plot, this.said), "chart");
    new ResizeObserver(() => this.paint()).observe(this.plot);
  }

  set(points) {
    const from = this.points[this.at]?.from;
    this.points = points;
    this.at = from === undefined ? -1 : points.findIndex((p) => p.from === from);
    this.paint();
  }

  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.paint();
  }

  get shown() {
    return this.series.filter((s) => !this.hidden.has(s.name));
  }

  pointAt(clientX) {
    const box = this.plot.getBoundingClientRect();
    const { left, width, t0, t1 } = this.scale;
    if (!this.points.length) return;
    const t = t0 + ((clientX - box.left - left) / width) * (t1 - t0);
    let best = 0;
    this.points.forEach((p, i) => {
      if (Math.abs(mid(p) - t) < Math.abs(mid(this.points[best]) - t)) best = i;
    });
    this.select(best);
  }

  key(e) {
    const n = this.points.length;
    const last = this.at < 0 ? n : this.at;
    const to = { ArrowLeft: last - 1, ArrowRight: Math.min(last + 1, n - 1), Home: 0, End: n - 1, Escape: -1 }[e.key];
    if (to === undefined || !n) return;
    if (e.key === "Escape" && this.at < 0) return;
    e.preventDefault();
    e.stopPropagation();
    this.select(Math.max(to, e.key === "Escape" ? -1 : 0));
    const p = this.points[this.at];
    this.said.textContent = p ? `${clock(p.from)}: ${this.shown.map((s) => `${s.label} ${rate(p.rate[s.name])}`).join(", ")} per second` : "";
  }

  select(i) {
    if (i === this.at) return;
    this.at = i;
    this.paint();
  }

  get scale() {
    const left = 44;
    const p = this.points;
    return { left, top: 10, width: Math.max(this.plot.clientWidth - left - 12, 10), height: Math.max(this.plot.clientHeight - 34, 10),
      t0: p.length ? mid(p[0]) : 0, t1: p.length > 1 ? mid(p.at(-1)) : 1 };
  }

  paint() {
    const { left, top, width, height, t0, t1 } = this.scale;
    const [w, ht] = [this.plot.clientWidth, this.plot.clientHeight];
    if (!w || !ht) return;
    const most = Math.max(...this.points.flatMap((p) => this.shown.map((s) => p.rate[s.name])), 0);
    const step = nice(Math.max(most, 0.4) * 1.06, ht < 180 ? 2 : 4);
    const max = Math.ceil((Math.max(most, 0.4) * 1.02) / step) * step;
    const x = (t) => left + ((t - t0) / (t1 - t0 || 1)) * width;
    const y = (v) => top + height - (v / max) * height;
    const parts = [];
    for (let v = 0; v <= max * 1.001; v += step) {
      parts.push(h("line", { class: v ? "grid" : "axis", x1: left, x2: left + width, y1: y(v), y2: y(v) }),
        h("text", { class: "tick", x: left - 8, y: y(v) + 3.5, "text-anchor": "end" }, v === 0 ? "0" : rate(v).replace(/\.0$/, "")));
    }
    const every = tickSeconds.find((s) => ((t1 - t0) / 1000 / s) * 78 <= width) ?? 172800;
    const zone = new Date(t1).getTimezoneOffset() * 60000;
    if (this.points.length > 1) {
      for (let t = Math.ceil((t0 - zone) / 1000 / every) * every * 1000 + zone; t <= t1; t += every * 1000) {
        parts.push(h("line", { class: "grid", x1: x(t), x2: x(t), y1: top, y2: top + height }),
          h("text", { class: "tick", x: x(t), y: top + height + 16, "text-anchor": "middle" }, clock(t, every < 60)));
      }
      for (const s of this.shown) {
        const line = this.points.map((p, i) => `${i ? "L" : "M"}${x(mid(p)).toFixed(1)} ${y(p.rate[s.name]).toFixed(1)}`).join("");
        if (s.area) parts.push(h("path", { class: `area ${s.name}`, d: `${line}L${x(t1)} ${y(0)}L${x(t0)} ${y(0)}Z` }));
        parts.push(h("path", { class: `line ${s.name}`, d: line }));
      }
    }
    const at = this.points[this.at];
    if (at) {
      parts.push(h("line", { class: "cross", x1: x(mid(at)), x2: x(mid(at)), y1: top, y2: top + height }),
        ...this.shown.map((s) => h("circle", { class: `dot ${s.name}`, cx: x(mid(at)), cy: y(at.rate[s.name]), r: 3.2 })));
    }
    const tip = at && h("div", { class: x(mid(at)) > left + width / 2 ? "tip before" : "tip", style: { left: `${x(mid(at))}px` } },
      h("div", { class: "when", title: fullTime(at.from) }, `${clock(at.from)} – ${clock(at.to)}`),
      h("dl", null, this.series.map((s) => h("div", { class: this.hidden.has(s.name) ? "off" : null },
        h("dt", null, h("i", { class: `swatch ${s.name}`, "aria-hidden": "true" }), s.label),
        h("dd", null, `${rate(at.rate[s.name])}/s`, h("small", null, number(at.count[s.name])))))));
    draw(this.plot, h("svg", { viewBox: `0 0 ${w} ${ht}`, width: w, height: ht, role: "img", "aria-label": this.summary() }, parts), tip);
  }

  // summary is the picture in words.
  summary() {
    if (!this.points.length) return "No traffic is known";
    const [a, b] = [this.points[0], this.points.at(-1)];
    return `From ${clock(a.from)} to ${clock(b.to)}. ` + this.shown.map((s) => {
      const r = this.points.map((p) => p.rate[s.name]);
      return `${s.label}: ${rate(r.at(-1))} per second now, ${rate(Math.max(...r))} at most`;
    }).join(". ");
  }
}

const mid = (p) => (p.from + p.to) / 2;
