// Dialogs, and the short messages about what was done.
import { draw, h, uid } from "./dom.js";

let dialog;

// openDialog shows a modal dialog; the focus is inside until it is closed, and returns then. It returns what closes it.
export function openDialog(title, ...body) {
  const id = uid();
  const el = h("dialog", { class: "modal", "aria-labelledby": id, on: {
    close: () => el.remove(),
    click: (e) => e.target === el && el.close(),
  } }, h("header", null, h("h2", { id }, title), h("button", { type: "button", class: "close", "aria-label": "Close", on: { click: () => el.close() } }, "×")), h("div", { class: "body" }, body));
  document.body.append(el);
  el.showModal();
  dialog = el;
  return () => el.close();
}

export function wireDialogs() {
  addEventListener("hashchange", () => dialog?.isConnected && dialog.close());
}

let toastTimer;

// toast says what was done.
export function toast(text, bad) {
  const el = document.getElementById("toast");
  clearTimeout(toastTimer);
  draw(el, h("span", { class: bad ? "bad" : "" }, text));
  el.classList.add("on");
  toastTimer = setTimeout(() => el.classList.remove("on"), bad ? 12000 : 5000);
}
