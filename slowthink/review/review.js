// Keys, folding, the sign of an open page, and drafts: what is typed is kept in this browser until
// the server has it. All of it works without this script, but for the drafts.
"use strict";

const form = document.getElementById("judge");
const reviewer = document.body.dataset.reviewer;

function show(id, text) {
  const line = document.getElementById(id);
  if (!line) return;
  line.hidden = !text;
  line.textContent = text;
}

// --- keys ---------------------------------------------------------------------------------------

function moveToStep(direction) {
  const steps = [...document.querySelectorAll(".passage > summary")];
  const at = steps.indexOf(document.activeElement);
  const next = steps[Math.min(steps.length - 1, Math.max(0, at + direction))];
  if (!next) return;
  next.focus({ preventScroll: true, focusVisible: true });
  next.parentElement.scrollIntoView({ block: "nearest" });
}

function foldAll() {
  const steps = [...document.querySelectorAll(".passage")];
  const open = !steps.some((step) => step.open);
  for (const step of steps) step.open = open;
  for (const button of document.querySelectorAll(".fold")) button.setAttribute("aria-pressed", String(!open));
}

const actions = { j: () => moveToStep(1), k: () => moveToStep(-1), o: foldAll, n: () => form?.elements.note.focus() };

document.addEventListener("keydown", (event) => {
  const writes = event.target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
  if (writes) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && event.ctrlKey && form) form.requestSubmit();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  const takesEnter = event.target.matches("a, button, summary");
  if (event.key === "Enter" && takesEnter) return;
  const action = actions[event.key] ?? (target && (() => target.click()));
  if (!action) return;
  event.preventDefault();
  action();
});

for (const button of document.querySelectorAll(".fold")) button.addEventListener("click", foldAll);

// Not the attribute autofocus: where somebody was faster, the browser complains that it is blocked.
if (document.activeElement === document.body) document.querySelector(".enter [name=name]")?.focus();

// --- drafts -------------------------------------------------------------------------------------

function valuesOf() {
  const data = new FormData(form);
  return {
    seen: data.get("seen"), level: data.get("level"), preferred: data.get("preferred"),
    flags: data.getAll("flags"), note: data.get("note"),
  };
}

function fill(draft) {
  for (const input of form.querySelectorAll("[name=level], [name=preferred]"))
    input.checked = input.value === draft[input.name];
  for (const input of form.querySelectorAll("[name=flags]")) input.checked = draft.flags.includes(input.value);
  form.elements.note.value = draft.note;
}

function sameAs(draft, other) {
  return ["level", "preferred", "note"].every((name) => draft[name] === other[name])
    && draft.flags.join() === other.flags.join();
}

function keepDrafts() {
  const key = `review ${reviewer} ${form.dataset.item}`;
  const keep = (submitted) => {
    try { localStorage.setItem(key, JSON.stringify({ ...valuesOf(), submitted })); } catch { /* no room */ }
  };
  const saved = valuesOf();
  let draft = null;
  try { draft = JSON.parse(localStorage.getItem(key)); } catch { /* not ours */ }
  if (form.dataset.kept) keep(false);
  else if (draft && (sameAs(draft, saved) || (draft.submitted && draft.seen !== saved.seen))) localStorage.removeItem(key);
  else if (draft) {
    fill(draft);
    const changed = draft.seen !== saved.seen;
    show("draft", changed
      ? "This was judged meanwhile, in another tab. The form has what you had typed here; the saved judgement is below."
      : "What you had typed here is in the form again; it is not saved yet.");
  }
  form.addEventListener("input", () => keep(false));
  form.addEventListener("submit", () => keep(true));
}

if (form) keepDrafts();

// --- the sign of an open page -------------------------------------------------------------------

async function sendSign() {
  try {
    const answer = await fetch("/alive", { method: "POST" });
    show("offline", answer.ok ? "" : "Your session has ended: another browser has your name, or the database is new. Enter again in another tab; what you typed is kept here.");
  } catch {
    show("offline", "The server does not answer. What you type is kept in this browser; save when it runs again.");
  }
}

if (reviewer) setInterval(sendSign, 30_000);
