// Elements from data. Everything that comes from outside is set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const svgTags = new Set(["svg", "g", "path", "line", "rect", "text", "circle"]);

// h makes an element. props: class, data-*, aria-* and other attributes; on: handlers by event; key: its identity among its siblings when the
// page is drawn again. Children are nodes, texts, numbers or lists of them; null and false are nothing.
export function h(tag, props, ...children) {
  const el = svgTags.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") listen(el, value);
    else if (name === "key") el.key = String(value);
    else if (name === "value") el.value = value;
    else if (name === "style") Object.entries(value).forEach(([k, v]) => el.style.setProperty(k, v));
    else el.setAttribute(name, value === true ? "" : String(value));
  }
  append(el, children);
  return el;
}

function append(el, children) {
  for (const c of children) {
    if (Array.isArray(c)) append(el, c);
    else if (c instanceof Node) el.append(c);
    else if (c !== null && c !== undefined && c !== false) el.append(document.createTextNode(String(c)));
  }
}

// Handlers are kept in a table on the element, so that drawing again can replace them.
function listen(el, handlers) {
  el.handlers = handlers;
  for (const type of Object.keys(handlers)) hook(el, type);
}

function hook(el, type) {
  el.hooked ??= new Set();
  if (el.hooked.has(type)) return;
  el.hooked.add(type);
  el.addEventListener(type, (e) => el.handlers?.[type]?.(e));
}

// draw makes the children of parent what they are in nodes, and keeps the elements that are there already: focus, selection and scroll
// positions stay.
export function draw(parent, ...nodes) {
  const next = document.createDocumentFragment();
  append(next, nodes);
  const focused = document.activeElement;
  children(parent, next);
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true }); // it was moved
}

function children(old, next) {
  const keyed = new Map();
  for (const c of old.childNodes) if (c.key !== undefined) keyed.set(c.key, c);
  const stays = new Set();
  for (const n of next.childNodes) if (n.key !== undefined) stays.add(n.key);
  for (const [key, c] of keyed) if (!stays.has(key)) c.remove();
  let at = old.firstChild;
  for (const n of [...next.childNodes]) {
    let o = n.key !== undefined ? keyed.get(n.key) : at;
    if (o && n.key === undefined && o.key !== undefined) o = null;
    if (o && same(o, n)) {
      if (o === at) at = at.nextSibling;
      else old.insertBefore(o, at);
      patch(o, n);
    } else {
      old.insertBefore(n, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

const same = (o, n) => o.nodeType === n.nodeType && o.nodeName === n.nodeName && o.key === n.key && o.own === n.own;

function patch(o, n) {
  if (o.nodeType === Node.TEXT_NODE) {
    if (o.data !== n.data) o.data = n.data;
    return;
  }
  for (const a of [...o.attributes]) if (!n.hasAttribute(a.name) && !(o.nodeName === "DETAILS" && a.name === "open")) o.removeAttribute(a.name);
  for (const a of n.attributes) {
    if (o.getAttribute(a.name) === a.value) continue;
    if (a.name === "style") o.style.cssText = n.style.cssText; // the policy forbids the attribute
    else o.setAttribute(a.name, a.value);
  }
  o.handlers = n.handlers;
  for (const type of Object.keys(n.handlers ?? {})) hook(o, type);
  if (o.nodeName === "SELECT" || o.nodeName === "INPUT" || o.nodeName === "TEXTAREA") {
    if (o.nodeName === "SELECT") children(o, n);
    if (o !== document.activeElement && o.value !== n.value) o.value = n.value; // what is being put in stays
    return;
  }
  if (!o.own) children(o, n);
}

// own marks an element whose inside is drawn by somebody else.
export function own(el, name) {
  el.own = name;
  return el;
}

let idCount = 0;
export const uid = () => `id${++idCount}`;
