"use strict";
// Transcripts: read from the page's own JSON, filtered, and built as text nodes only.
(() => {
  const PAGE_SIZE = 20;
  const FORCED_LABELS = { wait: "forced wait", closing: "forced end of thinking" };
  const VERDICT_LABELS = {
    correct: "✓ correct", wrong: "✗ wrong", no_answer: "✗ no answer", truncated: "✗ truncated",
    ungradable: "? ungradable", grader_error: "! grader error",
  };
  const rows = JSON.parse(document.getElementById("data").textContent);
  for (const row of rows) row.set = [row.benchmark, row.protocol].filter(Boolean).join(" · ");
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const more = document.getElementById("more");
  let matching = rows;

  const makeElement = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const value = (row, name) => row[name] ?? "unknown";
  const label = (name, option) => (name === "verdict" ? VERDICT_LABELS[option] ?? option : option);
  const searchableText = (row) => [row.question, row.gold, row.extracted, ...row.segments.map((segment) => segment[1])]
    .join("\n").toLocaleLowerCase();

  function fillSelect(select) {
    const counts = new Map();
    for (const row of rows) {
      const option = value(row, select.name);
      counts.set(option, (counts.get(option) ?? 0) + 1);
    }
    const names = [...counts.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    select.append(new Option("all", ""));
    for (const option of names) select.append(new Option(`${label(select.name, option)} (${counts.get(option)})`, option));
  }

  function matches(row) {
    const selects = [...form.querySelectorAll("select")].filter((select) => select.value);
    if (!selects.every((select) => value(row, select.name) === select.value)) return false;
    const words = form.elements.text.value.trim().toLocaleLowerCase();
    return !words || searchableText(row).includes(words);
  }

  function transcriptText(segments) {
    const text = makeElement("p", "text");
    for (const [kind, content] of segments) {
      const shown = text.childNodes.length ? content : content.trimStart();
      if (!(kind in FORCED_LABELS)) {
        text.append(shown);
        continue;
      }
      if (!shown) continue;
      const mark = makeElement("mark", "forced", shown);
      mark.title = FORCED_LABELS[kind];
      mark.prepend(makeElement("span", "hidden", `[${FORCED_LABELS[kind]}: `));
      mark.append(makeElement("span", "hidden", "]"));
      text.append(mark);
    }
    return text;
  }

  function addPart(body, heading, node) {
    body.append(makeElement("h4", "", heading), node);
  }

  function fillBody(body, row) {
    addPart(body, "Question", makeElement("p", "text", row.question));
    const answerAt = row.segments.findIndex(([kind]) => kind === "answer");
    const thinkingEnd = answerAt < 0 ? row.segments.length : answerAt;
    const thinking = row.segments.slice(0, thinkingEnd);
    const closing = thinking.length && thinking[thinking.length - 1][0] === "closing" ? [thinking.pop()] : [];
    if (thinking.length) addPart(body, `Thinking (${row.num_thinking_tokens} tokens, end: ${row.thinking_end})`, transcriptText(thinking));
    const answer = [...closing, ...row.segments.slice(thinkingEnd)];
    if (answer.length) addPart(body, `Answer (${row.num_answer_tokens} tokens, end: ${row.answer_end})`, transcriptText(answer));
    const grading = `extracted ${row.extracted ?? "nothing"}, expected ${row.gold ?? "nothing"}` + (row.method ? `, by ${row.method}` : "");
    addPart(body, "Grading", makeElement("p", "text", grading));
    for (const text of row.violations ?? []) body.append(makeElement("p", "violation", `Budget violation: ${text}`));
    body.append(makeElement("code", "note", row.id));
  }

  function listItem(row) {
    const details = makeElement("details", "item");
    const summary = makeElement("summary");
    summary.append(makeElement("span", `verdict ${row.verdict}`, VERDICT_LABELS[row.verdict] ?? row.verdict));
    summary.append(makeElement("span", "preview", row.question));
    const facts = [form.elements.set && row.set, row.arm, row.point, row.domain, `${row.num_thinking_tokens} thinking tokens`];
    if (row.num_waits_used) facts.push(`${row.num_waits_used} wait${row.num_waits_used > 1 ? "s" : ""} used`);
    summary.append(makeElement("span", "meta", facts.filter(Boolean).join(" · ")));
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.children.length > 1) return;
      const body = makeElement("div", "body");
      fillBody(body, row);
      details.append(body);
    });
    return details;
  }

  function showMore() {
    const shown = list.children.length;
    list.append(...matching.slice(shown, shown + PAGE_SIZE).map(listItem));
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
