"""The comparison as an HTML page styled like the report, without scripts.

write_page(open_pair(Path("runs/one"), Path("runs/two")), Path("compare.html"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from slowthink.analysis.scores import largest_budget_figures
from slowthink.errors import DataError
from slowthink.records import Verdict, item_seed
from slowthink.serialise import write_atomic
from slowthink.stages.report import charts
from slowthink.stages.report.compare import ComparedArms, RunArm, rows_path
from slowthink.stages.report.excerpts import (
    MAX_QUESTION_CHARACTERS,
    MAX_SEGMENT_CHARACTERS,
    read_answers,
    read_segments,
)
from slowthink.stages.report.page import render
from slowthink.stages.report.sets import set_title
from slowthink.stages.report.tables import Json
from slowthink.stages.report.text import count, decimal, shorten

PAGE_TITLE = b"slowthink comparison</title>"
MAX_SHOWN = 20
"""Questions shown in full in each of a set's two lists; the data has all of them."""
FORCED_LABELS = {"wait": "forced wait", "closing": "forced end of thinking"}


def write_page(
    pair: ComparedArms, data: Json, path: Path, *, max_shown: int = MAX_SHOWN, seed: int = 0
) -> Path:
    """Write the page of `compare(pair)`'s figures; the seed selects the questions shown in full.

    Raises DataError if the file exists and is not such a page.
    """
    _check_replaceable(path)
    names = {"a": _arm_name(pair, pair.a), "b": _arm_name(pair, pair.b)}
    sample = partial(_changed_questions, pair, max_shown=max_shown, seed=seed)
    views = [_set_view(compared_set, names, sample) for compared_set in data["sets"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    html = render("compare.html", data=data, names=names, sets=views, forced=FORCED_LABELS)
    write_atomic(path, html)
    return path


def _check_replaceable(path: Path) -> None:
    if path.exists() and not (path.is_file() and PAGE_TITLE in path.read_bytes()[:100_000]):
        raise DataError(
            f"{path}: exists, and is no comparison that slowthink wrote; expected a new file. "
            "Name another: --out PAGE.html, or move the old file away."
        )


def _arm_name(pair: ComparedArms, arm: RunArm) -> str:
    """An arm's name; with its run's name if the runs differ."""
    if pair.a.run.resolve() == pair.b.run.resolve():
        return arm.arm
    return f"{arm.run.resolve().name} · {arm.arm}"


def _set_view(
    compared_set: Json, names: Mapping[str, str], sample: Callable[..., list[dict[str, Any]]]
) -> dict[str, Any]:
    main = largest_budget_figures(compared_set["points"])
    changes = (("Won", names["b"], main["won"]), ("Lost", names["a"], main["lost"]))
    return {
        "data": compared_set,
        "title": set_title(compared_set),
        "main": main,
        "curves": charts.responsive_chart(charts.curve_svg, _as_arms(compared_set, names)),
        "points": [
            point
            | {key: _a_and_b(point, key) for key in ("mean_thinking_tokens", "mean_answer_tokens")}
            | {
                "num_won": len(point["won"]),
                "num_lost": len(point["lost"]),
                "only_in_one": f"{count(point['num_only_a'])} / {count(point['num_only_b'])}",
            }
            for point in compared_set["points"]
        ],
        "lists": [
            {"title": title, "better": better, "shown": sample(changed), "num": len(changed)}
            for title, better, changed in changes
        ],
    }


def _as_arms(compared_set: Json, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Both arms as `charts.curve_svg` expects them, on the shared problems only."""
    return [
        {
            "name": name,
            "points": [
                {key: point[key] for key in ("max_thinking_tokens", "waits", "forced", "n")}
                | point[arm]
                for point in compared_set["points"]
            ],
        }
        for arm, name in names.items()
    ]


def _a_and_b(point: Json, key: str) -> str:
    return f"{decimal(point['a'][key])} / {decimal(point['b'][key])}"


def _changed_questions(
    pair: ComparedArms, changes: Sequence[Json], *, max_shown: int, seed: int
) -> list[dict[str, Any]]:
    """A random sample (seeded) of the changed questions, each with an answer of both arms."""
    sampled = sorted(changes, key=lambda change: item_seed(seed, change["problem_id"]))[:max_shown]
    rows_a = read_answers(rows_path(pair.a.run), [change["a_id"] for change in sampled])
    rows_b = read_answers(rows_path(pair.b.run), [change["b_id"] for change in sampled])
    return [
        {
            **change,
            "question": shorten(a["question"], limit=MAX_QUESTION_CHARACTERS),
            "gold": a.get("gold"),
            "domain": a.get("domain"),
            "answers": {"a": _answer_view(a), "b": _answer_view(b)},
        }
        for change, a, b in zip(sampled, rows_a, rows_b, strict=True)
    ]


def _answer_view(row: Json) -> dict[str, Any]:
    return {
        "id": row["id"],
        "correct": row["verdict"] == Verdict.CORRECT.value,
        "verdict": row["verdict"].replace("_", " "),
        "extracted": row.get("extracted"),
        "num_thinking_tokens": row["num_thinking_tokens"],
        "segments": read_segments(row, limit=MAX_SEGMENT_CHARACTERS),
    }
