r"""`slowthink check`: does the grader accept every reference answer of a recipe, or of files?

Each reference answer is graded as an answer to its own problem, read out of sentences made of it
(`KEY_SENTENCES`): what extraction cannot read, or reads as another answer, is refused.
A row of `refused` in the JSON:

    {"set": "exam", "row": "exam.jsonl:7", "gold": "\\{", "verdict": "wrong", "method": "empty", …}
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json, Set, print_result
from slowthink.cli.run import open_recipe
from slowthink.errors import ConfigError, DataError
from slowthink.records import Dropped, Problem, Verdict, group_by

if TYPE_CHECKING:
    from slowthink.data.problems import LocatedProblem, SourceProblems
    from slowthink.grading import Grader
    from slowthink.recipe import Recipe

PROBLEM_KINDS = ("refused", "ungradable", "doubtful", "unreadable")
"""Rows that need attention: the grader refuses the reference answer (this alone fails the check),
there is no reference answer, its text contradicts its letter, or the row cannot be read."""
FOLDER_SUFFIXES = (".jsonl", ".csv", ".parquet")
"""Files of a folder that are checked; a `.json` there is as often a description."""
MAX_PRINTED_ROWS = 20
"""Maximum number of printed rows of each kind; the JSON has all."""


def check(
    source: Annotated[
        str, typer.Argument(help="A recipe, a file of problems, or a folder of such files.")
    ],
    set_: Set = None,
    question_field: row_files.QuestionField = None,
    answer_field: row_files.AnswerField = None,
    choices_field: Annotated[
        str | None, typer.Option("--choices-field", help="Column of the answer options.")
    ] = None,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
) -> None:
    """Check that the grader accepts every reference answer, and a recipe's training set.

    Exits 1 if it refuses one, if rows of a file or files of a folder cannot be read (unless
    --skip-bad), or if train would refuse the training set, as far as there is one.

    Example: slowthink check exam.csv --question-field prompt
    """
    given = (question_field, answer_field, choices_field)
    names = ("question_field", "answer_field", "choices_field")
    fields = {name: column for name, column in zip(names, given, strict=True) if column}
    if not _is_problem_file(source):
        if fields:
            raise ConfigError(
                f"check {source}: is a recipe, and --question-field and the like name columns of a "
                "file. Set them in the recipe: --set pool.sources.0.question_field=COLUMN"
            )
        recipe, root = open_recipe(source, overrides=set_)
        data = check_recipe(recipe, root)
    elif set_:
        raise ConfigError(f"check {source}: --set changes a recipe, not files. Leave it out.")
    else:
        data = check_files(Path(source), fields)
    for counts in data["sets"]:
        row_files.report_guesses(counts["name"], counts["guessed_columns"])
    if _is_problem_file(source) and (data["unreadable"] or data["unchecked"]) and not skip_bad:
        data["ok"] = False
    print_result(result_text(data), data, as_json=json_)
    if not data["ok"]:
        raise typer.Exit(1)


def check_recipe(recipe: Recipe, root: Path | None = None) -> dict[str, Any]:
    """Check the recipe's pool and benchmarks: grade every reference answer as an answer. Then check
    the training set, if it is in the run folder `root` or named by the recipe. `needed` has the API
    keys that a run would lack.

    Raises DataError if a source cannot be loaded, and GraderError if the parser is broken.
    """
    from slowthink.pipeline.plan import missing_keys

    data = _check_datasets([*_pool_datasets(recipe), *_benchmark_datasets(recipe)])
    data["needed"] = [key.to_json() for key in missing_keys(recipe, recipe.stages())]
    if root is not None and recipe.train is not None:
        from slowthink.stages.train.preflight import inspect_written

        data["training"] = [vars(finding) for finding in inspect_written(recipe, root)]
        data["ok"] &= all(finding["level"] != "refuse" for finding in data["training"])
    return data


def check_files(path: Path, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Check a file of problems, or each JSONL, CSV and Parquet file of a folder; `fields` names
    columns, as the settings of a benchmark (`question_field`, …).

    `unchecked` has the files of a folder that cannot be read, or lack a column, with the reason.
    Raises DataError if that is the only file, or each of them.
    """
    if not path.is_dir():
        return _check_datasets([_dataset_in_file(path, fields or {})]) | {"unchecked": []}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in FOLDER_SUFFIXES)
    if not files:
        raise DataError(
            f"{path}: contains no file of problems; expected {', '.join(FOLDER_SUFFIXES)}. "
            "Name another folder, a file, or a recipe: slowthink check RECIPE"
        )
    datasets, unchecked = [], []
    stems = [file.stem for file in files]
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else file.name
        try:
            datasets.append(replace(_dataset_in_file(file, fields or {}), name=name))
        except DataError as error:
            unchecked.append({"path": str(file), "reason": str(error)})
    if not datasets:
        reasons = "\n".join(f"  {file['reason']}" for file in unchecked)
        raise DataError(
            f"{path}: none of {len(files)} files can be checked; expected problems. Name the "
            f"column, or another folder:\n{reasons}"
        )
    return _check_datasets(datasets) | {"unchecked": unchecked}


def result_text(data: Mapping[str, Any]) -> str:
    """The printed result: one line per dataset, then the rows that need attention."""
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
    for kind in PROBLEM_KINDS:
        rows = data[kind]
        lines += [f"  {kind}: {_row_text(row)}" for row in rows[:MAX_PRINTED_ROWS]]
        if len(rows) > MAX_PRINTED_ROWS:
            lines.append(f"  {kind}: {len(rows) - MAX_PRINTED_ROWS} more, see --json")
    lines += [f"  not checked: {file['reason']}" for file in data.get("unchecked", ())]
    lines += [f"training: {each['level']}: {each['text']}" for each in data.get("training", ())]
    lines += [
        f"needed before the run: {key['path']} is missing ({key['setting']}): {key['remedy']}"
        for key in data.get("needed", ())
    ]
    lines.append("ok" if data["ok"] else f"not ok: {_remedy(data)}")
    return "\n".join(lines)


def _remedy(data: Mapping[str, Any]) -> str:
    """What to do about that for which a check fails."""
    remedies = ["fix or drop the refused rows"] if data["refused"] else []
    if any(each["level"] == "refuse" for each in data.get("training", ())):
        remedies.append("see what training refuses above")
    if files := data.get("unchecked"):
        remedies.append(
            f"{len(files)} files cannot be checked; expected problems. Name the column, move them, "
            "or leave them out: --skip-bad"
        )
    return "; ".join(remedies) or (
        f"{len(data['unreadable'])} rows cannot be read; expected none. Fix them, or leave them "
        "out: --skip-bad"
    )


def _row_text(row: Mapping[str, Any]) -> str:
    gold = f": {row['gold']!r}" if "gold" in row else ""
    return f"{row['set']} {row['row']}{gold} ({row.get('reason') or row['method']})"


# --- datasets -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CheckedDataset:
    """The problems of a source, a benchmark or a file."""

    name: str
    location: dict[str, str]
    """Its `path` or `hub_id`; empty if it has neither."""
    items: Sequence[LocatedProblem]
    unreadable: Sequence[Dropped] = ()
    guessed_columns: Mapping[str, str] = field(default_factory=dict)
    """By role."""


def _is_problem_file(source: str) -> bool:
    """Whether the argument is a file or a folder of problems, and not a recipe or a run folder."""
    from slowthink.data.rows import READERS

    path = Path(source)
    if path.is_dir():
        return not (path / "recipe.yaml").is_file()
    return path.suffix.lower() in READERS


def _dataset_in_file(path: Path, fields: Mapping[str, str]) -> CheckedDataset:
    from slowthink.data.load import read_benchmark
    from slowthink.recipe import BenchmarkConfig

    config = BenchmarkConfig.model_validate({"name": path.stem, "path": str(path), **fields})
    try:
        _, problems = read_benchmark(config, seed=0, setting="evaluate.benchmarks.0")
    except DataError as error:  # its hints are settings of a recipe
        message = re.sub(r"--set \S+\.(\w+)_field=", r"--\1-field ", str(error))
        raise DataError(re.sub(r"--set \S+", "slowthink check PATH", message)) from None
    return _make_dataset(path.stem, problems)


def _benchmark_datasets(recipe: Recipe) -> Iterator[CheckedDataset]:
    from slowthink.data.load import read_benchmark

    benchmarks = recipe.evaluate.benchmarks if recipe.evaluate else ()
    for index, config in enumerate(benchmarks):
        setting = f"evaluate.benchmarks.{index}"
        published, problems = read_benchmark(config, seed=recipe.seed, setting=setting)
        yield _make_dataset(published.name, problems)


def _make_dataset(name: str, problems: SourceProblems) -> CheckedDataset:
    facts = problems.facts.items()
    location = {key: str(value) for key, value in facts if key in ("path", "hub_id")}
    return CheckedDataset(
        name=name,
        location=location,
        items=problems.items,
        unreadable=problems.dropped,
        guessed_columns=problems.facts.get("guessed_columns", {}),
    )


def _pool_datasets(recipe: Recipe) -> Iterator[CheckedDataset]:
    """Run the recipe's pool stage in a temporary folder; one dataset per source."""
    from slowthink.data.problems import LocatedProblem
    from slowthink.pipeline.contract import stage_module
    from slowthink.pipeline.run_folder import make_context
    from slowthink.recipe import FileSource

    if recipe.pool is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(recipe, Path(folder), "pool", notify=lambda _: None)
        result = stage_module("pool").run(context)
    locations = {
        source.name or Path(source.path).stem: {"path": source.path}
        for source in recipe.pool.sources
        if isinstance(source, FileSource)
    }
    for name, problems in sorted(group_by(result.records, lambda problem: problem.source).items()):
        items = [LocatedProblem(f"{name}:{problem.source_row}", problem) for problem in problems]
        yield CheckedDataset(name=name, location=locations.get(name, {}), items=items)


# --- checking -------------------------------------------------------------------------------------


def _check_datasets(datasets: Sequence[CheckedDataset]) -> dict[str, Any]:
    """Counts by dataset, and the rows that need attention."""
    from slowthink.grading import Grader, check_dependencies

    check_dependencies()
    counts = []
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in PROBLEM_KINDS}
    with Grader(num_workers=2) as grader:
        for dataset in datasets:
            num_refused = len(rows["refused"])
            for kind, row in _flagged_rows(dataset, grader):
                rows[kind].append(row)
            counts.append(_counts(dataset, num_refused=len(rows["refused"]) - num_refused))
    return {
        "ok": not rows["refused"],
        "num_rows": sum(row["num_rows"] for row in counts),
        "num_problems": sum(row["num_problems"] for row in counts),
        "num_without_key": sum(row["num_without_key"] for row in counts),
        "keys": [
            {"source": row["name"], "keys": row["num_keys"], "accepted": row["accepted"]}
            for row in counts
        ],
        "sets": counts,
        **rows,
    }


def _flagged_rows(dataset: CheckedDataset, grader: Grader) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows that need attention, each with its kind, one of PROBLEM_KINDS."""
    from slowthink.grading import GradeItem
    from slowthink.grading.key_sentences import KEY_SENTENCES
    from slowthink.grading.sentinels import says_nothing

    answers = [
        GradeItem(problem=item.problem, answer_text=sentence % item.problem.answer)
        for item in dataset.items
        for sentence in KEY_SENTENCES
        if not says_nothing(item.problem.answer or "")
    ]
    grades = iter(grader.grade_many(answers))
    for item in dataset.items:
        row = {"set": dataset.name, "row": item.location, "id": item.problem.id}
        answer = item.problem.answer
        if answer is None or says_nothing(answer):
            reason = "the answer says nothing" if answer else "no key"
            yield "ungradable", row | ({"gold": answer} if answer else {}) | {"reason": reason}
            continue
        row_grades = [next(grades) for _ in KEY_SENTENCES]
        failed = next((grade for grade in row_grades if grade.verdict is not Verdict.CORRECT), None)
        if failed:
            verdict = {"verdict": failed.verdict.value, "method": failed.method}
            yield "refused", row | {"gold": failed.gold, "extracted": failed.extracted} | verdict
        contradiction = _contradiction(item.problem)
        if contradiction:
            yield "doubtful", row | {"gold": answer, "reason": contradiction}
    for drop in dataset.unreadable:
        yield "unreadable", {"set": dataset.name, "row": drop.id, "reason": drop.reason}


def _counts(dataset: CheckedDataset, *, num_refused: int) -> dict[str, Any]:
    from slowthink.grading.sentinels import says_nothing

    num_answers = sum(not says_nothing(item.problem.answer or "") for item in dataset.items)
    return {
        "name": dataset.name,
        **dataset.location,
        "num_rows": len(dataset.items) + len(dataset.unreadable),
        "num_problems": len(dataset.items),
        "num_keys": num_answers,
        "accepted": num_answers - num_refused,
        "num_without_key": len(dataset.items) - num_answers,
        "num_unreadable": len(dataset.unreadable),
        "guessed_columns": dict(dataset.guessed_columns),
    }


def _contradiction(problem: Problem) -> str | None:
    """Why a reference answer's text contradicts its option letter; None if it does not."""
    from slowthink.grading.answers.choice import parse_choice
    from slowthink.grading.answers.compare import AnswerContext, compare

    context = AnswerContext.from_problem(problem)
    if not context.correct_letter or not problem.answer:
        return None
    choice = parse_choice(problem.answer)
    if choice.letters and choice.letters != frozenset(context.correct_letter):
        return f"its letter is {context.correct_letter}"
    option = context.options().get(context.correct_letter)
    if option is None or (choice.letters and not choice.text):
        return None
    equal = compare(choice.text or problem.answer, option, context=AnswerContext()).equal
    return None if equal is not False else f"option {context.correct_letter} is {option!r}"
