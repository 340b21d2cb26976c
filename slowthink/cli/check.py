r"""`slowthink check`: whether the grader accepts every reference answer of a recipe, or of files.

Each reference answer is graded as an answer to its own problem, boxed and after "Final Answer:".
One real row of `refused`:

    {"set": "exam", "row": "exam.jsonl:7", "gold": "\\{", "verdict": "wrong", "method": "empty", …}
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli.options import Json, Set, print_result
from slowthink.cli.run import open_recipe
from slowthink.errors import ConfigError, DataError
from slowthink.records import Dropped, Grade, Problem, Verdict, group_by

if TYPE_CHECKING:
    from slowthink.data.problems import LocatedProblem, SourceProblems
    from slowthink.grading import Grader
    from slowthink.recipe import Recipe

FORMS = ("\\boxed{%s}", "Final Answer: %s")
"""How a model writes an answer; a reference answer must be accepted in both forms."""
KINDS = ("refused", "ungradable", "doubtful", "unreadable")
"""Kinds of rows that need attention; only refused ones fail the check."""
MAX_LINES = 20
"""Rows of one kind that are printed; the JSON has all."""


def check(
    source: Annotated[
        str, typer.Argument(help="A recipe, or a file of problems, or a folder of JSONL files.")
    ],
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Check that the grader accepts every reference answer.

    Example: slowthink check quickstart
    """
    if not _is_problem_file(source):
        data = check_recipe(open_recipe(source, overrides=set_)[0])
    elif set_:
        raise ConfigError(f"check {source}: --set changes a recipe, not files. Leave it out.")
    else:
        data = check_files(Path(source))
    print_result(result_text(data), data, as_json=json_)
    if not data["ok"]:
        raise typer.Exit(1)


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Load the recipe's sources and benchmarks, and grade every reference answer as an answer.

    Raises DataError if a source cannot be loaded, and GraderError if the parser is broken.
    """
    return _check([*_pool_sets(recipe), *_benchmark_sets(recipe)])


def check_files(path: Path) -> dict[str, Any]:
    """The same for a file of problems, or for each JSONL file of a folder.

    Raises DataError if the folder has no JSONL file, or a file cannot be read.
    """
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not paths:
        raise DataError(
            f"{path}: contains no .jsonl file; expected problem sets. "
            "Name another folder, a file, or a recipe: slowthink check RECIPE"
        )
    return _check([_file_set(file) for file in paths])


def result_text(data: Mapping[str, Any]) -> str:
    """One line per set, then the rows that need attention."""
    lines = []
    for counts in data["sets"]:
        line = (
            f"{counts['name']}: {counts['accepted']} of {counts['num_keys']} reference answers "
            "accepted"
        )
        if counts["num_without_key"]:
            line += f", {counts['num_without_key']} rows without one"
        if counts["num_unreadable"]:
            line += f", {counts['num_unreadable']} rows unreadable"
        lines.append(line)
    for kind in KINDS:
        rows = data[kind]
        lines += [f"  {kind}: {_line(row)}" for row in rows[:MAX_LINES]]
        if len(rows) > MAX_LINES:
            lines.append(f"  {kind}: {len(rows) - MAX_LINES} more, see --json")
    lines.append("ok" if data["ok"] else "not ok: fix or drop the refused rows")
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    gold = f": {row['gold']!r}" if "gold" in row else ""
    return f"{row['set']} {row['row']}{gold} ({row.get('reason') or row['method']})"


# --- problem sets ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CheckedSet:
    """Problems whose reference answers are checked together."""

    name: str
    place: dict[str, str]
    """`path` or `hub_id` of the set."""
    items: Sequence[LocatedProblem]
    unreadable: Sequence[Dropped] = ()


def _is_problem_file(source: str) -> bool:
    """Whether the argument names problems, in a file or a folder of files, and not a recipe."""
    from slowthink.data.rows import READERS

    path = Path(source)
    if path.is_dir():
        return not (path / "recipe.yaml").is_file()
    return path.suffix.lower() in READERS


def _file_set(path: Path) -> CheckedSet:
    from slowthink.data.load import read_benchmark
    from slowthink.recipe import BenchmarkConfig

    config = BenchmarkConfig(name=path.stem, path=str(path))
    _, problems = read_benchmark(config, seed=0, setting="evaluate.benchmarks.0")
    return _checked_set(path.stem, problems)


def _benchmark_sets(recipe: Recipe) -> Iterator[CheckedSet]:
    from slowthink.data.load import read_benchmark

    benchmarks = recipe.evaluate.benchmarks if recipe.evaluate else ()
    for number, config in enumerate(benchmarks):
        setting = f"evaluate.benchmarks.{number}"
        published, problems = read_benchmark(config, seed=recipe.seed, setting=setting)
        yield _checked_set(published.name, problems)


def _checked_set(name: str, problems: SourceProblems) -> CheckedSet:
    place = {key: str(value) for key, value in problems.facts.items() if key in ("path", "hub_id")}
    return CheckedSet(name=name, place=place, items=problems.items, unreadable=problems.dropped)


def _pool_sets(recipe: Recipe) -> Iterator[CheckedSet]:
    """The problems of the recipe's pool stage, run in a temporary folder, by source."""
    from slowthink.data.problems import LocatedProblem
    from slowthink.pipeline.run import stage_module
    from slowthink.pipeline.run_folder import make_context
    from slowthink.recipe import FileSource

    if recipe.pool is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(recipe, Path(folder), "pool", notify=lambda _: None)
        result = stage_module("pool").run(context)
    places = {
        source.name or Path(source.path).stem: {"path": source.path}
        for source in recipe.pool.sources
        if isinstance(source, FileSource)
    }
    for name, problems in sorted(group_by(result.records, lambda problem: problem.source).items()):
        items = [LocatedProblem(f"{name}:{problem.source_row}", problem) for problem in problems]
        yield CheckedSet(name=name, place=places.get(name, {}), items=items)


# --- checking -------------------------------------------------------------------------------------


def _check(sets: Sequence[CheckedSet]) -> dict[str, Any]:
    """Counts by set, and the rows that need attention."""
    from slowthink.grading import Grader, check_dependencies

    check_dependencies()
    counts = []
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with Grader(num_workers=2) as grader:
        for problem_set in sets:
            num_refused = len(rows["refused"])
            for kind, row in _rows(problem_set, grader):
                rows[kind].append(row)
            counts.append(_counts(problem_set, num_refused=len(rows["refused"]) - num_refused))
    return {
        "ok": not rows["refused"],
        "num_problems": sum(row["num_problems"] for row in counts),
        "num_without_key": sum(row["num_without_key"] for row in counts),
        "keys": [
            {"source": row["name"], "keys": row["num_keys"], "accepted": row["accepted"]}
            for row in counts
        ],
        "sets": counts,
        **rows,
    }


def _rows(problem_set: CheckedSet, grader: Grader) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a set that need attention, each with its kind."""
    grades = iter(_grade_reference_answers(problem_set, grader))
    for item in problem_set.items:
        row = {"set": problem_set.name, "row": item.address, "id": item.problem.id}
        answer = item.problem.answer
        if not answer:
            yield "ungradable", row | {"reason": "no key"}
            continue
        by_form = [next(grades) for _ in FORMS]
        grade = next((grade for grade in by_form if grade.verdict is not Verdict.CORRECT), None)
        if grade:
            verdict = {"verdict": grade.verdict.value, "method": grade.method}
            yield "refused", row | {"gold": grade.gold, "extracted": grade.extracted} | verdict
        reason = _contradiction(item.problem)
        if reason:
            yield "doubtful", row | {"gold": answer, "reason": reason}
    for drop in problem_set.unreadable:
        yield "unreadable", {"set": problem_set.name, "row": drop.id, "reason": drop.reason}


def _grade_reference_answers(problem_set: CheckedSet, grader: Grader) -> list[Grade]:
    """Grades of each problem's own reference answer in every form, one after the other."""
    from slowthink.grading import GradeItem

    problems = [item.problem for item in problem_set.items if item.problem.answer]
    return grader.grade_many(
        [GradeItem(problem=p, answer_text=form % p.answer) for p in problems for form in FORMS]
    )


def _counts(problem_set: CheckedSet, *, num_refused: int) -> dict[str, Any]:
    num_answers = sum(bool(item.problem.answer) for item in problem_set.items)
    return {
        "name": problem_set.name,
        **problem_set.place,
        "num_problems": len(problem_set.items),
        "num_keys": num_answers,
        "accepted": num_answers - num_refused,
        "num_without_key": len(problem_set.items) - num_answers,
        "num_unreadable": len(problem_set.unreadable),
    }


def _contradiction(problem: Problem) -> str | None:
    """Why a reference answer's text contradicts its option letter; None if it does not."""
    from slowthink.grading.answers.choice import parse_choice
    from slowthink.grading.answers.compare import AnswerContext, compare

    context = AnswerContext.from_problem(problem)
    if not context.letter or not problem.answer:
        return None
    choice = parse_choice(problem.answer)
    if choice.letters and choice.letters != frozenset(context.letter):
        return f"its letter is {context.letter}"
    option = context.options().get(context.letter)
    if option is None or (choice.letters and not choice.text):
        return None
    equal = compare(choice.text or problem.answer, option, context=AnswerContext()).equal
    return None if equal is not False else f"option {context.letter} is {option!r}"
