"""Problems and chains without a run: load, find duplicates and leaks, select.

find_leaks(["What is 17 + 25, and why is it 42?"], ["math500"])  # [(Leak(kind="copy", …),)]
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slowthink.api.rows import Rows
from slowthink.errors import (
    ConfigError,
    SlowthinkError,
    did_you_mean,
    require_count,
    require_list,
    wrong_type,
)
from slowthink.records import Problem, Trace

if TYPE_CHECKING:
    from slowthink.curation.overlap.clusters import Cluster
    from slowthink.curation.overlap.contamination import Leak
    from slowthink.curation.overlap.evaluation_sets import EvaluationSet
    from slowthink.data.load import ProblemSet
    from slowthink.recipe import BenchmarkConfig

_RENAME = "Name it `question`, or convert the file"
Source = str | Path | Iterable[Mapping[str, Any]]


def load_problems(
    source: Source,
    *,
    question_field: str | None = None,
    answer_field: str | None = None,
    choices_field: str | None = None,
    split: str = "train",
    revision: str | None = None,
    max_problems: int | None = None,
    seed: int = 0,
) -> Rows[Problem]:
    """Problems of a published set (`math500`), a file, a Hub dataset (`owner/name`), or of rows.

    Rows are mappings, or a pandas DataFrame. They need a question, and to be graded an answer or a
    solution; usual column names are guessed, others are named by the `_field` arguments. `split`
    and `revision`: of a Hub dataset. `max_problems`: sampled by seed. Unusable rows and equal
    questions are in `.dropped`, with reasons. Raises ConfigError for an unknown name, DataError if
    the rows cannot be loaded, a column is missing or no row can be used.
    """
    if max_problems is not None:
        max_problems = require_count(max_problems, "max_problems", minimum=1)
    seed = require_count(seed, "seed")
    fields = {
        "question_field": question_field, "answer_field": answer_field,
        "choices_field": choices_field,
    }  # fmt: skip
    if not isinstance(source, str | Path):
        with _naming_arguments():
            return _problems_of_rows(source, fields, max_problems, seed)
    if _is_hub_id(source):
        named = {name: column for name, column in fields.items() if column is not None}
        return _problems_of_hub(str(source), named, split, revision, max_problems, seed)
    config = _benchmark(source, **fields, revision=revision, max_problems=max_problems)
    with _naming_arguments():
        problem_set = _load(config, seed=seed)
    return Rows(problem_set.problems, dropped=problem_set.dropped)


def find_duplicates(texts: Sequence[str | Problem], *, near: bool = True) -> list[Cluster]:
    """Clusters of questions that are duplicates: `.kept`, and `.members` with `.row` and `.score`.

    Numbers are positions in `texts`; the first of a cluster is kept. Exact duplicates differ in
    form only (LaTeX, punctuation, order of options); with `near` also those that share 80 % of
    their 3-grams of tokens, with the same numbers, operators and content words: with other numbers
    a text is another problem, and so is one with another reference answer. The same rules as
    filter.duplicates.
    """
    from slowthink.api.model import as_problem
    from slowthink.curation.overlap.clusters import Cluster, Member
    from slowthink.recipe import DuplicatesConfig, NearConfig
    from slowthink.stages.filter.duplicates import duplicate_parts
    from slowthink.stages.filter.other_answers import AnswerCheck

    problems = [as_problem(text, row) for row, text in enumerate(require_list(texts, "texts"))]
    config = DuplicatesConfig(exact="strict", near=NearConfig() if near else None)
    rows, members = list(range(len(problems))), dict[int, list[Member]]()
    for part, find_clusters in duplicate_parts(config, "local").items():
        remaining = [problems[row] for row in rows]
        clusters, _ = find_clusters(remaining, AnswerCheck(part, remaining).may_merge)
        for cluster in (cluster.reindexed(rows) for cluster in clusters):
            for member in cluster.members:  # what equals a near duplicate is as near
                equal = members.pop(member.row, [])
                members.setdefault(cluster.kept, []).append(member)
                members[cluster.kept] += [Member(each.row, member.score) for each in equal]
        dropped = {member.row for cluster in members.values() for member in cluster}
        rows = [row for row in rows if row not in dropped]
    return [
        Cluster(kept, tuple(sorted(duplicates, key=lambda member: member.row)))
        for kept, duplicates in sorted(members.items())
    ]


def find_leaks(
    texts: Sequence[str | Problem],
    against: Sequence[str | Path] | Mapping[str, Sequence[str | Problem]],
    *,
    preset: Literal["strict", "s1"] = "strict",
) -> list[tuple[Leak, ...]]:
    """The test problems that leak into each text, nearest first; empty tuples for clean texts.

    `against`: names of published sets or files, or test problems by the name of their set.
    `preset`:
    strict (covered 4-grams of tokens; `.kind` tells copies from templates, which have other
    numbers) or s1 (one shared 8-gram of words, arXiv 2501.19393, section 2.1). The same rules as
    filter.contamination. Raises ConfigError for an unknown name, DataError if a set cannot be
    loaded.
    """
    from slowthink.api.model import as_problem
    from slowthink.curation.overlap import leaks
    from slowthink.curation.overlap.evaluation_sets import compared_text
    from slowthink.recipe import ContaminationConfig
    from slowthink.recipe.loading import parse_settings

    texts = require_list(texts, "texts")
    config = parse_settings(ContaminationConfig, {"preset": preset}, where="find_leaks")
    sets = load_test_sets(against, preset=preset)
    items = [item for test_set in sets for item in test_set.items]
    questions = [compared_text(as_problem(text), config) for text in texts]
    return leaks.find_leaks(questions, items, config)


def load_test_sets(
    against: Sequence[str | Path] | Mapping[str, Sequence[str | Problem]],
    *,
    preset: Literal["strict", "s1"] = "strict",
    argument: str = "against",
) -> list[EvaluationSet]:
    """The sets of `find_leaks`, each with its name, its texts and where they are from. `argument`:
    how messages name them, perhaps as an option of the command line."""
    from slowthink.api.model import as_problem
    from slowthink.curation.overlap.evaluation_sets import build_set
    from slowthink.recipe import ContaminationConfig

    config = ContaminationConfig(preset=preset)
    if not isinstance(against, Mapping):
        against = require_list(against, "against")
    if not against:
        raise ConfigError(
            "against: empty; expected at least one set to compare with. Name one: ['math500']."
        )
    if isinstance(against, Mapping):
        return [
            build_set(
                name,
                [as_problem(p, row) for row, p in enumerate(require_list(problems, "against"))],
                {},
                config,
            )
            for name, problems in against.items()
        ]
    for each in against:
        if not isinstance(each, str | Path):
            hint = "Give test problems by the name of their set: {'mine': [...]}."
            raise ConfigError(wrong_type(each, "against", f"names of sets or paths. {hint}"))
    with _naming_arguments(argument):
        loaded = [_load(_benchmark(source), seed=0) for source in against]
    return [build_set(each.name, each.problems, each.source, config) for each in loaded]


def select(
    traces: Iterable[Trace],
    *,
    method: str = "s1",
    num_problems: int | None = 1000,
    seed: int = 0,
    **settings: Any,
) -> Rows[Trace]:
    """The training set among traces (`Run.rows("trace")`), by problem; the others in `.dropped`.

    `method`: s1 (arXiv 2501.19393, section 2.2: uniform domain, within it weight 2^-rank of trace
    length), limo-v1, limo-v2 (arXiv 2502.03387), random, diverse, longest or full. `num_problems`:
    None for all; each brings all its chains, or `chains_per_problem` of them. `settings`: those of
    `select:` in a recipe, e.g. `mode="notebook"` or `prefer={"by": "shortest"}`. The order of the
    problems does not matter. Raises ConfigError for wrong settings, DataError if traces lack a
    score or level that the method needs.
    """
    from slowthink.recipe import SelectConfig
    from slowthink.recipe.loading import as_setting, parse_settings
    from slowthink.stages.select import choose, usable_traces

    data = as_setting({"method": method, "num_problems": num_problems, **settings})
    config = parse_settings(SelectConfig, data, where="select")
    chains: list[Trace] = require_list(traces, "traces")
    for row, chain in enumerate(chains):
        if not isinstance(chain, Trace):
            expected = 'a Trace. Give the rows of a run: Run.rows("trace")'
            raise ConfigError(wrong_type(chain, f"traces[{row}]", expected))
    usable, unusable = usable_traces(chains)
    chosen, not_chosen = choose(usable, config, seed=seed)
    return Rows(chosen, dropped=[*unusable, *not_chosen])


# --- loading --------------------------------------------------------------------------------------


def _benchmark(source: str | Path, **settings: Any) -> BenchmarkConfig:
    """The settings of a published set or a file. Raises ConfigError for a name that is neither."""
    from slowthink.data.registry import find_benchmark, published_datasets
    from slowthink.recipe import BenchmarkConfig
    from slowthink.recipe.loading import parse_settings

    data: dict[str, Any] = {"name": str(source), **settings}
    if isinstance(source, Path) or os.path.lexists(source) or Path(source).suffix:
        data |= {"name": Path(source).stem, "path": str(source)}
    elif find_benchmark(source) is None:
        names = published_datasets("benchmark")
        raise ConfigError(
            f"problems: `{source:.100}` is neither a file nor a published set"
            f"{did_you_mean(source[:100], names)}; expected a path, a Hub id (owner/name) or one "
            f"of {', '.join(names)}. Name one of these."
        )
    return parse_settings(BenchmarkConfig, data, where="problems")


def _load(config: BenchmarkConfig, *, seed: int) -> ProblemSet:
    from slowthink.data.load import load_benchmark

    return load_benchmark(config, seed=seed, setting="problems")


@contextmanager
def _naming_arguments(source: str = "source") -> Iterator[None]:
    """Let messages name the arguments of a function where they name settings of a recipe; `source`
    is the argument for files, or such an option. Sets to compare with have none for columns."""
    value = r" \1" if source.startswith("--") else r'="\1"'
    try:
        yield
    except SlowthinkError as error:
        text = re.sub(r"--set problems\.path=(\w+)", source + value, str(error))
        if source != "source":
            text = re.sub(r"^problems(?=[:.])", source, text)
            text = re.sub(r"Name the right one: --set problems\S+", _RENAME, text)
        raise type(error)(re.sub(r"--set problems\.(\w+)=(\S+)", r'\1="\2"', text)) from None


def _is_hub_id(source: str | Path) -> bool:
    is_name = isinstance(source, str) and source.count("/") == 1 and source[0] not in "./~"
    return is_name and not Path(source).suffix and not os.path.lexists(source)


def _problems_of_hub(
    hub_id: str, fields: Mapping[str, str], split: str, revision: str | None,
    max_problems: int | None, seed: int,
) -> Rows[Problem]:  # fmt: skip
    from slowthink.recipe import HubSource
    from slowthink.recipe.loading import parse_settings
    from slowthink.stages.pool.files import hub_problems

    data: dict[str, Any] = {"kind": "hub", "hub_id": hub_id, "hub_split": split, **fields}
    data |= {"revision": revision, "max_problems": max_problems}
    source = parse_settings(HubSource, data, where="problems")
    with _naming_arguments():
        return _kept(hub_problems(source, seed=seed, setting="problems"))


def _problems_of_rows(
    rows: Iterable[Mapping[str, Any]], fields: Mapping[str, str | None],
    max_problems: int | None, seed: int,
) -> Rows[Problem]:  # fmt: skip
    from slowthink.data.problems import (
        Columns,
        Origin,
        guess_columns,
        make_problem,
        read_problems,
        require_columns,
        require_problems,
    )
    from slowthink.data.rows import BadRow, SourceRow

    columns = Columns(
        question=fields["question_field"] or "question", answer=fields["answer_field"] or "answer",
        choices=fields["choices_field"] or "choices",
    )  # fmt: skip
    numbered: list[SourceRow | BadRow] = [
        SourceRow(line, dict(row)) if isinstance(row, Mapping) else BadRow(line, "not a mapping")
        for line, row in enumerate(_plain_rows(rows), start=1)
    ]
    readable = [row for row in numbered if isinstance(row, SourceRow)]
    names = dict.fromkeys(name for row in readable for name in row.values)
    columns, _ = guess_columns(columns, list(names))
    require_columns({"question_field": columns.question}, names, "rows", "problems")
    read = read_problems(
        numbered, name="rows", convert=lambda row: make_problem(row, columns, Origin(name="rows"))
    )
    require_problems(read, "rows", "problems")
    return _kept(read, max_problems, seed)


def _plain_rows(rows: Any) -> Iterable[Any]:
    """The rows of a table of pandas, polars or Arrow; anything else that has rows is its own."""
    if hasattr(rows, "iterrows"):  # a DataFrame of pandas
        records = rows.to_dict("records")
        return [{name: _cell(value) for name, value in row.items()} for row in records]
    for method in ("to_dicts", "to_pylist"):  # polars, Arrow
        if hasattr(rows, method):
            table: list[Any] = getattr(rows, method)()
            return table
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        expected = (
            "a name, a path, or rows: a list of mappings, or a table of pandas, polars or Arrow"
        )
        hint = "One problem is a list of one row: [row]."
        raise ConfigError(wrong_type(rows, "source", f"{expected}. {hint}"))
    return rows


def _cell(value: Any) -> Any:
    """A cell of a DataFrame in Python's types; NaN and NA are no value."""
    import pandas

    value = value.tolist() if hasattr(value, "tolist") else value
    return None if pandas.isna(value) is True else value


def _kept(read: Any, max_problems: int | None = None, seed: int = 0) -> Rows[Problem]:
    from slowthink.data.problems import keep_chosen, keep_first, shuffle_problems

    kept, duplicates = keep_first(read.items)
    shuffled = shuffle_problems(kept, seed, "rows")
    items, not_chosen = keep_chosen(kept, shuffled[:max_problems])
    dropped = [*read.dropped, *duplicates, *not_chosen]
    return Rows((item.problem for item in items), dropped=dropped)
