r"""`slowthink check`: prove the keys of a recipe, or of files, before anything is spent on them.

Every key is put to the grader as an answer to its own question, boxed and after "Final Answer:";
what it does not accept is listed. One real row of `refused`:

    {"set": "exam", "row": "exam.jsonl:7", "gold": "\\{", "verdict": "wrong", "method": "empty", …}
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.load import BenchmarkRows, read_benchmark
from slowthink.data.problems import LocatedProblem
from slowthink.data.rows import READERS
from slowthink.errors import DataError
from slowthink.grading import GradeItem, Grader, check_dependencies
from slowthink.grading.answers.choice import parse_choice
from slowthink.grading.answers.compare import AnswerContext, compare
from slowthink.pipeline import run_folder
from slowthink.pipeline.run import stage_module
from slowthink.recipe import BenchmarkConfig, FileSource, Recipe
from slowthink.records import Dropped, Grade, Problem, Verdict

FORMS = ("\\boxed{%s}", "Final Answer: %s")
"""How a model would write an answer; a key must be accepted in both."""
MAX_LINES = 20
"""Rows of one kind that are printed; the JSON has all."""


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """Problems whose keys are proven together."""

    name: str
    place: dict[str, str]
    """path or hub_id: where they lie."""
    items: Sequence[LocatedProblem]
    unreadable: Sequence[Dropped] = ()


def is_files(source: str) -> bool:
    """Whether the argument names files of problems, not a recipe."""
    path = Path(source)
    if path.is_dir():
        return not (path / "recipe.yaml").is_file()
    return path.suffix.lower() in READERS


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Load the recipe's sources and benchmarks, and have the grader judge every key against itself.

    Raises what loading raises, and GraderError where the parser is broken.
    """
    return _judge([*_pool_sets(recipe), *_benchmark_sets(recipe)])


def check_files(path: Path) -> dict[str, Any]:
    """The same for a file of problems, or for each JSONL file of a folder.

    Raises DataError where there is none, or one cannot be read as a whole.
    """
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not paths:
        raise DataError(
            f"{path}: holds no .jsonl file; expected sets of problems, or a recipe. "
            "Name another folder, a file, or a recipe: slowthink check RECIPE"
        )
    return _judge([_file_set(one) for one in paths])


def text_of(data: Mapping[str, Any]) -> str:
    """What was found, for people: a line a set, and the rows that stand out."""
    lines = [
        f"{one['name']}: {one['accepted']} of {one['num_keys']} keys accepted"
        + "".join(
            f", {one[key]} {what}"
            for key, what in (
                ("num_without_key", "without a key"),
                ("num_unreadable", "unreadable"),
            )
            if one[key]
        )
        for one in data["sets"]
    ]
    for kind in ("refused", "ungradable", "doubtful", "unreadable"):
        rows = data[kind]
        lines += [f"  {kind}: {_line(row)}" for row in rows[:MAX_LINES]]
        if len(rows) > MAX_LINES:
            lines.append(f"  {kind}: {len(rows) - MAX_LINES} more, see --json")
    lines.append("ok" if data["ok"] else "not ok: mend or drop the refused rows")
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    gold = f": {row['gold']!r}" if "gold" in row else ""
    return f"{row['set']} {row['row']}{gold} ({row.get('reason') or row['method']})"


# --- what is proven -------------------------------------------------------------------------------


def _file_set(path: Path) -> KeySet:
    config = BenchmarkConfig(name=path.stem, path=str(path))
    return _key_set(path.stem, read_benchmark(config, seed=0, setting="evaluate.benchmarks.0"))


def _benchmark_sets(recipe: Recipe) -> Iterator[KeySet]:
    benchmarks = recipe.evaluate.benchmarks if recipe.evaluate else ()
    for number, config in enumerate(benchmarks):
        found = read_benchmark(config, seed=recipe.seed, setting=f"evaluate.benchmarks.{number}")
        yield _key_set(found.published.name, found)


def _key_set(name: str, benchmark: BenchmarkRows) -> KeySet:
    rows = benchmark.rows
    place = {key: str(value) for key, value in rows.facts.items() if key in ("path", "hub_id")}
    return KeySet(name=name, place=place, items=rows.items, unreadable=rows.dropped)


def _pool_sets(recipe: Recipe) -> Iterator[KeySet]:
    """What the recipe's pool gathers, by source, made in a folder that is thrown away."""
    if recipe.pool is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        context = run_folder.make_context(recipe, Path(folder), "pool", notify=lambda _: None)
        result = stage_module("pool").run(context)
    places = {
        source.name or Path(source.path).stem: {"path": source.path}
        for source in recipe.pool.sources
        if isinstance(source, FileSource)
    }
    items: dict[str, list[LocatedProblem]] = defaultdict(list)
    for problem in result.records:
        items[problem.source].append(
            LocatedProblem(f"{problem.source}:{problem.source_row}", problem)
        )
    for name, found in sorted(items.items()):
        yield KeySet(name=name, place=places.get(name, {}), items=found)


# --- proving --------------------------------------------------------------------------------------


def _judge(sets: Sequence[KeySet]) -> dict[str, Any]:
    """Every key graded as its own answer; counts by set, and the rows that stand out."""
    check_dependencies()
    pairs = [(one, item) for one in sets for item in one.items]
    refused = _refused(pairs)
    rows = [_counts(one, refused) for one in sets]
    keys = [
        {"source": row["name"], "keys": row["num_keys"], "accepted": row["accepted"]}
        for row in rows
    ]
    return {
        "ok": not refused,
        "num_problems": len(pairs),
        "num_without_key": sum(row["num_without_key"] for row in rows),
        "keys": keys,
        "sets": rows,
        "refused": refused,
        "ungradable": [
            _row(one, item) | {"reason": "no key"} for one, item in pairs if not item.problem.answer
        ],
        "doubtful": [
            _row(one, item) | {"gold": item.problem.answer, "reason": reason}
            for one, item in pairs
            if (reason := _doubt(item.problem))
        ],
        "unreadable": [
            {"set": one.name, "row": drop.id, "reason": drop.reason}
            for one in sets
            for drop in one.unreadable
        ],
    }


def _refused(pairs: Sequence[tuple[KeySet, LocatedProblem]]) -> list[dict[str, Any]]:
    """The rows whose key is not accepted in every form, with the first verdict against it."""
    keyed = [(one, item) for one, item in pairs if item.problem.answer]
    refused = []
    for (one, item), grades in zip(keyed, _grades([i.problem for _, i in keyed]), strict=True):
        wrong = next((grade for grade in grades if grade.verdict is not Verdict.CORRECT), None)
        if wrong:
            refused.append(_row(one, item) | _shown(wrong))
    return refused


def _grades(problems: Sequence[Problem]) -> list[list[Grade]]:
    """The verdicts on each problem's own key, one a form."""
    items = [GradeItem(problem=p, answer_text=form % p.answer) for p in problems for form in FORMS]
    with Grader(num_workers=2) as grader:
        grades = grader.grade_many(items)
    return [grades[start : start + len(FORMS)] for start in range(0, len(grades), len(FORMS))]


def _row(one: KeySet, item: LocatedProblem) -> dict[str, Any]:
    return {"set": one.name, "row": item.address, "id": item.problem.id}


def _shown(grade: Grade) -> dict[str, Any]:
    return {
        "gold": grade.gold,
        "extracted": grade.extracted,
        "verdict": grade.verdict.value,
        "method": grade.method,
    }


def _counts(one: KeySet, refused: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    num_keys = sum(bool(item.problem.answer) for item in one.items)
    rows = {(row["set"], row["row"]) for row in refused}
    num_refused = sum((one.name, item.address) in rows for item in one.items)
    return {
        "name": one.name,
        **one.place,
        "num_problems": len(one.items),
        "num_keys": num_keys,
        "accepted": num_keys - num_refused,
        "num_without_key": len(one.items) - num_keys,
        "num_unreadable": len(one.unreadable),
    }


def _doubt(problem: Problem) -> str | None:
    """Why a key given twice, as text and as letter, says two things; None where it does not."""
    context = AnswerContext.from_problem(problem)
    if not context.letter or not problem.answer:
        return None
    given = parse_choice(problem.answer)
    if given.letters and given.letters != frozenset(context.letter):
        return f"its letter is {context.letter}"
    text = context.options().get(context.letter)
    if text is None or (given.letters and not given.text):
        return None
    same = compare(given.text or problem.answer, text, context=AnswerContext()).equal
    return None if same is not False else f"option {context.letter} is {text!r}"
