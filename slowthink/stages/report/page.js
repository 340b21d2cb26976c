"use strict";
// Transcripts: read from the page's own JSON, filtered, and built as text nodes only.
(() => {
  const PAGE = 20;
  const FORCED = { wait: "forced wait", closing: "forced end of thinking" };
  const VERDICTS = {
    correct: "✓ correct", wrong: "✗ wrong", no_answer: "✗ no answer", truncated: "✗ truncated",
    ungradable: "? ungradable", grader_error: "! grader error",
  };
  const rows = JSON.parse(document.getElementById("data").textContent);
  for (const row of rows) row.set = [row.benchmark, row.protocol].filter(Boolean).join(" · ");
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const more = document.getElementById("more");
  let matching = rows;

  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const value = (row, name) => row[name] ?? "unknown";
  const label = (name, option) => (name === "verdict" ? VERDICTS[option] ?? option : option);
  const haystack = (row) => [row.question, row.gold, row.extracted, ...row.segments.map((part) => part[1])]
    .join("\n").toLocaleLowerCase();

  function fillSelect(select) {
    const tally = new Map();
    for (const row of rows) {
      const option = value(row, select.name);
      tally.set(option, (tally.get(option) ?? 0) + 1);
    }
    const names = [...tally.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    select.append(new Option("all", ""));
    for (const option of names) select.append(new Option(`${label(select.name, option)} (${tally.get(option)})`, option));
  }

  function matches(row) {
    const selects = [...form.querySelectorAll("select")].filter((select) => select.value);
    if (!selects.every((select) => value(row, select.name) === select.value)) return false;
    const words = form.elements.text.value.trim().toLocaleLowerCase();
    return !words || haystack(row).includes(words);
  }

  function transcript(parts) {
    const text = make("p", "text");
    for (const [kind, content] of parts) {
      const shown = text.childNodes.length ? content : content.trimStart();
      if (!(kind in FORCED)) {
        text.append(shown);
        continue;
      }
      if (!shown) continue;
      const mark = make("mark", "forced", shown);
      mark.title = FORCED[kind];
      mark.prepend(make("span", "hidden", `[${FORCED[kind]}: `));
      mark.append(make("span", "hidden", "]"));
      text.append(mark);
    }
    return text;
  }

  function part(body, heading, node) {
    body.append(make("h4", "", heading), node);
  }

  function fillBody(body, row) {
    part(body, "Question", make("p", "text", row.question));
    const answerAt = row.segments.findIndex(([kind]) => kind === "answer");
    const end = answerAt < 0 ? row.segments.length : answerAt;
    const thinking = row.segments.slice(0, end);
    const closing = thinking.length && thinking[thinking.length - 1][0] === "closing" ? [thinking.pop()] : [];
    if (thinking.length) part(body, `Thinking (${row.num_thinking_tokens} tokens, end: ${row.thinking_end})`, transcript(thinking));
    const answer = [...closing, ...row.segments.slice(end)];
    if (answer.length) part(body, `Answer (${row.num_answer_tokens} tokens, end: ${row.answer_end})`, transcript(answer));
    const grading = `extracted ${row.extracted ?? "nothing"}, expected ${row.gold ?? "nothing"}` + (row.method ? `, by ${row.method}` : "");
    part(body, "Grading", make("p", "text", grading));
    for (const text of row.violations ?? []) body.append(make("p", "violation", `Budget violation: ${text}`));
    body.append(make("code", "note", row.id));
  }

  function item(row) {
    const details = make("details", "item");
    const summary = make("summary");
    summary.append(make("span", `verdict ${row.verdict}`, VERDICTS[row.verdict] ?? row.verdict));
    summary.append(make("span", "preview", row.question));
    const facts = [form.elements.set && row.set, row.arm, row.point, row.domain, `${row.num_thinking_tokens} thinking tokens`];
    if (row.num_waits_used) facts.push(`${row.num_waits_used} wait${row.num_waits_used > 1 ? "s" : ""} used`);
    summary.append(make("span", "meta", facts.filter(Boolean).join(" · ")));
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.children.length > 1) return;
      const body = make("div", "body");
      fillBody(body, row);
      details.append(body);
    });
    return details;
  }

  function showMore() {
    const shown = list.children.length;
    list.append(...matching.slice(shown, shown + PAGE).map(item));
    more.hidden = list.children.length >= matching.length;
    return list.children[shown];
  }

  function apply() {
    matching = rows.filter(matches);
    list.replaceChildren();
    showMore();
    document.getElementById("tally").textContent = `${matching.length} of ${rows.length} transcripts`;
  }

  form.querySelectorAll("select").forEach(fillSelect);
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => showMore()?.querySelector("summary").focus());
  apply();
})();
