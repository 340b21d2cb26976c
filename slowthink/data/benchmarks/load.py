"""Loads a set of problems to measure on: from the hub by name, or from a file.

load_benchmark(BenchmarkConfig(name="math500", max_problems=100), seed=0,
               setting="evaluate.benchmarks.0").source["revision"]
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.data.benchmarks.convert import RowReader
from slowthink.data.benchmarks.sources import RawRows, file_rows, hub_rows
from slowthink.data.benchmarks.table import BENCHMARKS, Benchmark, find_benchmark
from slowthink.data.problems import Columns, Item, SourceRows, keep_first, read_problems, reasons
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import BenchmarkConfig
from slowthink.records import Dropped, Problem, item_seed


@dataclass(frozen=True, kw_only=True)
class LoadedBenchmark:
    """A set, ready to be asked."""

    name: str
    """As in the table, or one's own."""
    problems: tuple[Problem, ...]
    """Held out, in the order of the rows."""
    dropped: tuple[Dropped, ...]
    """Rows that could not be read, equal questions, and those not drawn."""
    domain: str | None
    """in or out of the training data's domain; None: in neither."""
    instruction: str | None
    """A line after the question."""
    source: dict[str, Any]
    """Which rows they were: see `sources.RawRows.facts`; options_seed where it shuffled them."""


@dataclass(frozen=True, kw_only=True)
class ReadSet:
    """All rows of a set, equal questions among them."""

    name: str
    benchmark: Benchmark | None
    rows: SourceRows
    source: dict[str, Any]


def load_benchmark(config: BenchmarkConfig, *, seed: int, setting: str) -> LoadedBenchmark:
    """The set's problems; `setting` is its recipe key, for messages, e.g. evaluate.benchmarks.0.

    Raises ConfigError where the set is not known or nothing says where it is, and DataError where
    it cannot be had, a column is missing, or no row can be used.
    """
    found = read_set(config, seed=seed, setting=setting)
    benchmark = found.benchmark
    kept, equal = keep_first(found.rows.items)
    items, left = _drawn(kept, config.max_problems, seed=seed, name=found.name)
    return LoadedBenchmark(
        name=found.name,
        problems=tuple(item.problem for item in items),
        dropped=(*found.rows.dropped, *equal, *left),
        domain=config.domain or (benchmark.domain if benchmark else None),
        instruction=benchmark.instruction if benchmark else None,
        source=found.source,
    )


def read_set(config: BenchmarkConfig, *, seed: int, setting: str) -> ReadSet:
    """All rows of the set that can be read; raises as `load_benchmark`."""
    name, benchmark = find_benchmark(config.name)
    if config.path is not None:
        raw = file_rows(config.path, setting=setting)
    elif benchmark is not None:
        raw = hub_rows(benchmark, revision=config.revision, setting=setting)
    else:
        raise _unknown(name, setting)
    columns = _columns(config, benchmark, raw, setting=setting)
    reading = RowReader.of(name, benchmark, columns=columns, seed=seed)
    rows = read_problems(raw.rows, name=raw.name, convert=reading.problem)
    if not rows.items:
        raise DataError(
            f"{raw.name}: none of {rows.num_rows} rows can be used ({reasons(rows.dropped)}); "
            f"expected problems. Mend the file, or name another: --set {setting}.path=FILE"
        )
    source = raw.facts | _facts(benchmark)
    if reading.is_shuffled(raw.columns):
        source["options_seed"] = seed
    return ReadSet(name=name, benchmark=benchmark, rows=rows, source=source)


def _facts(benchmark: Benchmark | None) -> dict[str, Any]:
    """What the table says of the set as a whole."""
    if benchmark is None:
        return {}
    return {
        "title": benchmark.title,
        "num_published": benchmark.num_problems,
        "grader": benchmark.grader,
        "licence": benchmark.licence,
    }


def _unknown(name: str, setting: str) -> ConfigError:
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1)
    return ConfigError(
        f"{setting}.name: `{name}` is no known set{f'; did you mean `{close[0]}`' if close else ''}"
        f"; expected one of {', '.join(BENCHMARKS)}, or a file of your own. "
        f"Name it: --set {setting}.path=FILE"
    )


# --- columns --------------------------------------------------------------------------------------


def _columns(
    config: BenchmarkConfig, benchmark: Benchmark | None, raw: RawRows, *, setting: str
) -> Columns:
    """The columns that the recipe names, else the usual ones, else the table's."""
    there = raw.columns
    if not there:
        return Columns()
    tables = (benchmark.question, benchmark.answer, benchmark.solution) if benchmark else [None] * 3
    question = _column(config.question_field, "question", tables[0], there)
    answer = _column(config.answer_field, "answer", tables[1], there)
    solution = _column(None, "solution", tables[2], there)
    options = benchmark is not None and benchmark.correct_option in there
    wanted = {"question": question, "choices": config.choices_field}
    if solution not in there and not options:
        wanted["answer"] = answer
    for what, column in wanted.items():
        if column is not None and column not in there and column not in _meta_columns(raw):
            raise DataError(
                f"{raw.name}: no column `{column}`; the columns are {', '.join(there)}. "
                f"Name the right one: --set {setting}.{what}_field=COLUMN"
            )
    return Columns(
        question=question, answer=answer, solution=solution, choices=config.choices_field
    )


def _column(named: str | None, usual: str, tables: str | None, there: Sequence[str]) -> str:
    """The recipe's own name; else the table's where the rows have it; else the usual one."""
    return named or (tables if tables in there and tables else usual)


def _meta_columns(raw: RawRows) -> set[str]:
    """What the rows' `meta` objects hold."""
    metas = [getattr(row, "values", {}).get("meta") for row in raw.rows]
    return {str(key) for meta in metas if isinstance(meta, dict) for key in meta}


# --- which problems -------------------------------------------------------------------------------


def _drawn(
    items: list[Item], most: int | None, *, seed: int, name: str
) -> tuple[list[Item], list[Dropped]]:
    """At most so many, drawn by seed and problem, in the order of the rows."""
    if most is None or len(items) <= most:
        return items, []
    ranked = sorted(items, key=lambda item: item_seed(seed, "benchmark", name, item.problem.id))
    taken = {item.address for item in ranked[:most]}
    left = [
        Dropped(id=item.address, step="take", reason="not drawn (max_problems)")
        for item in items
        if item.address not in taken
    ]
    return [item for item in items if item.address in taken], left
