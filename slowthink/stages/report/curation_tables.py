"""The tables of what was done to the pool: `report.curation`'s data as `Table`s for the page.

A part without data gives no table. Bars are shares of their column, or of what was checked.

    contamination_table(data["contamination"][0]).rows[0][2].text == "131"    copies of MATH-500
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slowthink.stages.report.curation import PASS_RATES
from slowthink.stages.report.tables import Cell, Table, length_table, pass_rate_table, share_cell
from slowthink.stages.report.text import count, decimal, interval, percent

KINDS = {
    "run": "Shared runs",
    "copy": "Copies",
    "paraphrase": "In other words",
    "template": "Templates",
    "similar": "Similar",
}
VERDICTS = {
    "correct": "Right",
    "wrong": "Wrong",
    "no_answer": "No answer",
    "truncated": "Cut off",
    "ungradable": "Not gradable",
    "grader_error": "Grader errors",
}
OUTCOMES = {
    "keep": "Inside the band",
    "solved too often": "Too easy",
    "solved too rarely": "Too hard",
    "no attempt can be graded": "Undecided",
}
PARTS = {
    "exact": "equal after normalisation",
    "near": "nearly equal",
    "semantic": "equal in meaning",
}
QUANTILES = ("min", "p25", "p50", "p75", "max", "mean")


# --- domains and lengths --------------------------------------------------------------------------


def selection_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Training problems by domain after each stage; None where there are none."""
    if not rows:
        return None
    stages = list(rows[0]["counts"])
    totals = {stage: sum(row["counts"][stage] for row in rows) for stage in stages}
    return Table(
        caption="Problems for training by domain, after each stage, with their share of it.",
        head=("Domain", *(f"after {stage}" for stage in stages)),
        rows=(
            *(
                (
                    Cell(text=row["domain"]),
                    *(share_cell(row["counts"][stage], totals[stage]) for stage in stages),
                )
                for row in rows
            ),
            (
                Cell(text="Domains covered"),
                *(Cell(text=count(_num_domains(rows, stage))) for stage in stages),
            ),
        ),
        strong=frozenset({len(rows)}),
    )


def _num_domains(rows: Sequence[Mapping[str, Any]], stage: str) -> int:
    return sum(bool(row["counts"][stage]) and row["domain"] != "unknown" for row in rows)


def labels_note(labels: Mapping[str, Any] | None) -> str:
    """Who named the domains, in a sentence or two; empty where nobody did."""
    if not labels:
        return ""
    first, *others = labels["methods"]
    told = (
        f"Domains of {labels['taxonomy']}, named by {first}: {count(labels['num_labelled'])} "
        f"problems; {count(labels['num_kept'])} kept the one they had."
    )
    agreed = labels.get("agreement")
    if agreed and others and agreed["agreement"] is not None:
        told += (
            f" {first.capitalize()} and {others[0]} agree on {percent(agreed['agreement'])} of "
            f"{count(agreed['n'])} (95 % interval {interval(agreed['agreement_ci95'])})."
        )
    return told


def length_tables(lengths: Sequence[Mapping[str, Any]]) -> list[Table]:
    """One table for each measure: its classes by stage, then the quantiles."""
    measures = list(dict.fromkeys(one["measure"] for one in lengths))
    return [
        _length_table(measure, [one for one in lengths if one["measure"] == measure])
        for measure in measures
    ]


def _length_table(measure: str, found: Sequence[Mapping[str, Any]]) -> Table:
    classes = sorted(
        {name for one in found for name in one["counts"]}, key=lambda name: int(name.split("-")[0])
    )
    quantiles = [
        (Cell(text=name), *(Cell(text=decimal(one["quantiles"].get(name))) for one in found))
        for name in QUANTILES
    ]
    return Table(
        caption=f"{measure.capitalize()} after each stage, in classes that double in width; then "
        "the smallest, the quartiles, the largest and the mean.",
        head=(measure.capitalize(), *(f"after {one['stage']}" for one in found)),
        rows=(
            *(
                (
                    Cell(text=name.replace("-", "–")),
                    *(share_cell(one["counts"].get(name, 0), one["num"]) for one in found),
                )
                for name in classes
            ),
            *quantiles,
        ),
        strong=frozenset(range(len(classes), len(classes) + len(quantiles))),
        label=measure.capitalize(),
    )


# --- difficulty -----------------------------------------------------------------------------------


def pass_rate_classes(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Problems by pass rate, a column for each step and model; None where nothing was tried."""
    if not rows:
        return None
    names = [name for name in PASS_RATES if any(row["pass_rates"][name] for row in rows)]
    return Table(
        caption="Tried problems by the share of attempts that were right. Where attempts stopped "
        "as soon as the decision was sure, shares lean towards the end they stopped at.",
        head=("Attempts right", *(_asked(row) for row in rows)),
        rows=tuple(
            (
                Cell(text=name),
                *(share_cell(row["pass_rates"][name], row["num_problems"]) for row in rows),
            )
            for name in names
        ),
        label="Problems by pass rate",
    )


def attempt_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Attempts and their verdicts, a row for each step and model; None where nothing was tried."""
    if not rows:
        return None
    shown = [name for name in VERDICTS if any(row["verdicts"].get(name) for row in rows)]
    ends = [name for name in OUTCOMES if any(row["outcomes"].get(name) for row in rows)]
    return Table(
        caption="Attempts, each with its verdict: those without an answer and those cut off are "
        "told apart from wrong ones; those that cannot be graded count neither way.",
        head=(
            "Step, model",
            "Problems",
            "Not tried",
            "Attempts",
            "In vain",
            *(VERDICTS[name] for name in shown),
            *(OUTCOMES[name] for name in ends),
        ),
        rows=tuple(
            (
                Cell(text=_asked(row), wrap=True),
                Cell(text=count(row["num_problems"])),
                Cell(text=count(row["num_untested"])),
                _attempts(row),
                Cell(text=count(row["num_wasted"])),
                *(_verdict(row, name) for name in shown),
                *(Cell(text=count(row["outcomes"].get(name, 0))) for name in ends),
            )
            for row in rows
        ),
        label="Attempts and verdicts",
    )


def _asked(row: Mapping[str, Any]) -> str:
    """The step and the model, whose path or owner is left out."""
    step, model = str(row["step"]), str(row["model"]).rpartition("/")[2]
    return ", ".join(part for part in (step.removeprefix("difficulty: "), model) if part)


def _attempts(row: Mapping[str, Any]) -> Cell:
    made = row["num_attempts"]
    made = sum(row["verdicts"].values()) if made is None else made
    possible = row["num_possible"]
    note = f"of {count(possible)}, {percent(made / possible)}" if possible else ""
    return Cell(text=count(made), note=note)


def _verdict(row: Mapping[str, Any], name: str) -> Cell:
    num = row["verdicts"].get(name, 0)
    return Cell(text=count(num), alarm=name == "grader_error" and num > 0)


# --- duplicates and contamination -----------------------------------------------------------------


def duplicate_table(parts: Sequence[Mapping[str, Any]]) -> Table | None:
    """Clusters of each way of being equal; None where nothing was looked for."""
    if not parts:
        return None
    return Table(
        caption="Questions that are the same: of each cluster one stays. Sizes count it, too.",
        head=("Questions", "Clusters", "Dropped", "Largest", "Clusters by size"),
        rows=tuple(
            (
                Cell(text=PARTS.get(part["part"], part["part"]), note=_unread(part)),
                Cell(text=count(part["num_clusters"])),
                Cell(text=count(part["num_dropped"])),
                Cell(text=count(part["largest_cluster"])),
                Cell(text=_sizes(part["sizes"]), wrap=True),
            )
            for part in parts
        ),
    )


def _unread(part: Mapping[str, Any]) -> str:
    num = part.get("num_not_english")
    return f"{count(num)} not in English were not looked at" if num else ""


def _sizes(sizes: Mapping[str, int]) -> str:
    shown = [f"{count(num)} of size {size}" for size, num in list(sizes.items())[:6]]
    return ", ".join(shown + (["more of others"] if len(sizes) > 6 else [])) or "–"


def contamination_table(checked: Mapping[str, Any]) -> Table:
    """One stage's hits, a row for each set that was checked against."""
    hits = {name for one in checked["against"] for name in one["num_hits"]}
    kinds = [name for name in KINDS if name in hits] or _kinds_of(checked["preset"])
    total = checked["num_checked"]
    return Table(
        caption=f"{count(total)} {checked['what']} checked, preset {checked['preset']}: "
        f"{count(checked['num_dropped'])} dropped. {_explained(checked)}{_by_meaning(checked)}",
        head=("Tested on", "Problems there", *(KINDS[name] for name in kinds), "Which rows"),
        rows=tuple(
            (
                Cell(text=one["name"]),
                Cell(text=count(one["num_problems"])),
                *(share_cell(one["num_hits"].get(name, 0), total) for name in kinds),
                Cell(text=_source(one["source"] or {}), wrap=True),
            )
            for one in checked["against"]
        ),
        label=f"Contamination of {checked['what']}",
    )


def _kinds_of(preset: str) -> list[str]:
    return ["run"] if preset == "s1" else ["copy", "template"]


def _explained(checked: Mapping[str, Any]) -> str:
    if checked["preset"] == "s1":
        return "A hit is one run of words that both hold (s1's rule)."
    fate = "were dropped, too" if checked["templates"] == "drop" else "stayed"
    return f"Templates, which are the same but for their numbers, {fate}."


def _by_meaning(checked: Mapping[str, Any]) -> str:
    """What was found by meaning, and what a judge said of it; nothing where it was not looked."""
    found = checked.get("paraphrase")
    if not found:
        return ""
    text = (
        f" {count(found['num_looked_at'])} were also compared by meaning, "
        f"{count(found['num_unread'])} of them not in English and left out: "
        f"{count(found['num_candidates'])} candidates."
    )
    if judge := found["judge"]:
        text += (
            f" {judge['model']} called {count(judge['num_same'])} the same problem and "
            f"{count(judge['num_different'])} different ones; {count(judge['num_no_verdict'])} "
            "have no verdict."
        )
    fate = "were dropped" if checked["similar"] == "drop" else "stayed"
    return f"{text} Similar ones, which nobody judged, {fate}."


def _source(source: Mapping[str, Any]) -> str:
    """Which rows a set's are, in a line."""
    if source.get("stage"):
        return f"the {source['stage']}'s held-out problems"
    names = ("hub_id", "path", "revision", "sha256")
    known = [str(source[name]) for name in names if source.get(name)]
    return " · ".join(one if len(one) < 40 else f"{one[:12]}…" for one in known) or "–"


# --- the papers -----------------------------------------------------------------------------------


def expected_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """The papers' counts beside ours; None where no source is theirs."""
    if not rows:
        return None
    return Table(
        caption="Problems of each source that a paper lists, after its own decontamination, beside "
        "ours after the pool stage.",
        head=("Source", "Paper", "Theirs", "Ours"),
        rows=tuple(
            (
                Cell(text=row["title"], wrap=True),
                Cell(text=row["paper"]),
                Cell(text=count(row["expected"])),
                Cell(text=count(row["ours"])),
            )
            for row in rows
        ),
    )


def funnel_table(
    paper: Mapping[str, Any] | None, funnel: Sequence[Mapping[str, Any]]
) -> Table | None:
    """The paper's funnel beside ours; None where the sources are not its own."""
    if not paper:
        return None
    notebook = any(step.get("notebook") is not None for step in paper["steps"])
    reached = _reached(funnel)
    return Table(
        caption=f"{paper['title']}: {paper['source']}. "
        f"{percent(paper['share_same_sources'])} of our chains are of sources that bear its names.",
        head=("Problems", "Paper", *(["Notebook"] if notebook else []), "Ours"),
        rows=tuple(
            (
                Cell(text=step["step"]),
                Cell(text=count(step.get("paper"))),
                *([Cell(text=count(step.get("notebook")))] if notebook else []),
                Cell(text=count(_first(step.get("ours"), reached.get(step["step"])))),
            )
            for step in paper["steps"]
        ),
        label=f"The funnel of {paper['title']}",
    )


def _reached(funnel: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What was left of ours after the steps that a paper counts, too."""
    found: dict[str, int] = {}
    for step in funnel:
        if step["stage"] == "filter":
            found.setdefault("collected", step["num_in"])
            found[str(step["step"]).partition(":")[0]] = step["num_out"]
    return found


def _first(*numbers: int | None) -> int | None:
    return next((number for number in numbers if number is not None), None)


def phase_table(found: Mapping[str, Any] | None) -> Table | None:
    """What each phase of the selection took; None where the stage did not say."""
    if not found:
        return None
    total = sum(found["phases"].values())
    mode = f", mode {found['mode']}" if found.get("mode") else ""
    asked = "all" if found["num_asked"] is None else count(found["num_asked"])
    wasted = found.get("num_wasted_draws")
    told = f" {count(wasted)} draws gave none." if wasted else ""
    return Table(
        caption=f"Chosen by {found['method']}{mode}; {asked} were asked for.{told}",
        head=("Phase", "Chosen"),
        rows=tuple(
            (Cell(text=phase), share_cell(num, total)) for phase, num in found["phases"].items()
        ),
    )


# --- all of it ------------------------------------------------------------------------------------


def curation_view(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of `data.collect`'s dict, beside its texts."""
    found = data["headline"]["curation"]
    chains = [one for one in found["lengths"] if one["measure"] == "thinking tokens"]
    return {
        "expected": expected_table(found["expected"]),
        "paper": funnel_table(found["paper"], data["headline"]["funnel"]),
        "phases": phase_table(found["selection"]),
        "duplicates": duplicate_table(found["duplicates"]),
        "clusters": [(PARTS.get(one["part"], one["part"]), one) for one in found["duplicates"]],
        "contamination": [(contamination_table(one), one) for one in found["contamination"]],
        "attempts": attempt_table(found["difficulty"]),
        "pass_rates": pass_rate_classes(found["difficulty"]) or pass_rate_table(data["difficulty"]),
        "selection": selection_table(data["domains"]),
        "labels": labels_note(found["domain_labels"]),
        "lengths": length_tables(found["lengths"]),
        "chains": length_table(data["lengths"]) if len(chains) < 2 else None,
    }
