"""Decontamination as a step of the filter and of the trace gate."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import SandboxSource
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem, Split, duplicate_key, problem_id
from slowthink.serialise import plain
from slowthink.stages import filter as filter_stage
from slowthink.stages.pool.sandbox import sandbox_problems

LEAK = "Find the number of ways to put seven red balls and three blue balls in four labelled boxes."


def problem(question: str, *, source: str = "test", split: Split = Split.TRAIN) -> Problem:
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer="1", source=source, source_row="1", split=split,
    )  # fmt: skip


def run(folder: Path, problems: list[Problem], **settings: Any) -> StageResult:
    folder.mkdir(exist_ok=True)
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(plain(p)) + "\n" for p in problems))
    section = {"input": str(path), "quality": None, "duplicates": None, "contamination": settings}
    recipe = parse_recipe({"name": "test", "filter": section})
    return filter_stage.run(
        make_context(recipe, folder / "run", "filter", notify=lambda text: None)
    )


def benchmark(folder: Path, *questions: str) -> dict[str, str]:
    path = folder / "own.jsonl"
    path.write_text(
        "".join(json.dumps({"question": question, "answer": "1"}) + "\n" for question in questions)
    )
    return {"name": "own", "path": str(path)}


def certificate_of(folder: Path) -> dict[str, Any]:
    path = folder / "run/filter.partial/contamination.json"
    certificate: dict[str, Any] = json.loads(path.read_text())
    return certificate


def sandbox(num: int) -> list[Problem]:
    return list(sandbox_problems(SandboxSource(num_problems=num, num_heldout=num // 3), seed=0))


def test_heldout_problems_of_the_pool_are_always_checked(tmp_path: Path) -> None:
    copy = problem("Solve. " + LEAK)
    result = run(tmp_path, [copy, problem("What is 3?"), problem(LEAK, split=Split.HELDOUT)])
    assert [p.question for p in result.records] == ["What is 3?"]
    assert [(drop.id, drop.step, drop.reason) for drop in result.dropped] == [
        (copy.id, "contamination: strict", "copy of a problem of held-out")
    ]
    assert result.dropped[0].evidence.startswith("held-out 1 (score 1.0): find the number of ways")


def test_the_certificate_names_the_sets_and_rows_compared(tmp_path: Path) -> None:
    own = benchmark(tmp_path, LEAK, "Another one?")
    run(tmp_path, [problem(LEAK), problem("What is 3?")], benchmarks=[own])
    certificate = certificate_of(tmp_path)
    assert certificate["checked"]["num"] == 2 and certificate["settings"]["preset"] == "strict"
    against = certificate["against"][0]
    assert (against["name"], against["num_problems"], against["num_hits"]) == (
        "own",
        2,
        {"copy": 1},
    )
    assert against["source"]["sha256"]
    hit = certificate["hits"][0]
    assert (hit["benchmark"], hit["item"], hit["score"], hit["dropped"]) == ("own", "1", 1.0, True)
    assert certificate["num_dropped"] == 1


def test_templates_are_reported_and_kept_by_default(tmp_path: Path) -> None:
    template, own = (
        problem("Work out 17 + 25 times 3."),
        benchmark(tmp_path, "Work out 4 + 5 times 6."),
    )
    kept = run(tmp_path / "a", [template], benchmarks=[own])
    assert len(kept.records) == 1
    assert [(hit["kind"], hit["dropped"]) for hit in certificate_of(tmp_path / "a")["hits"]] == [
        ("template", False)
    ]
    other = problem("What is the name of the second letter?")
    dropping = run(tmp_path / "b", [template, other], benchmarks=[own], templates="drop")
    assert dropping.records == [other]


def test_procedural_templates_survive_strict_and_not_s1(tmp_path: Path) -> None:
    gym = [
        problem(f"A train leaves at noon at {60 + i} km an hour, another {i % 7 + 1} hours later "
                f"at {90 + 2 * i} km an hour. When does it pass?",
                split=Split.HELDOUT if i % 4 == 0 else Split.TRAIN)
        for i in range(80)
    ]  # fmt: skip
    words = [p for p in sandbox(600) if p.domain == "word problems"]
    for problems, min_dropped in ((gym, 60), (words, 15)):
        num_train = sum(p.split is Split.TRAIN for p in problems)
        other = problem("What is the name of the second letter?")
        strict = run(tmp_path / "strict", [*problems, other])
        s1 = run(tmp_path / "s1", [*problems, other], preset="s1")
        assert len(strict.records) == num_train + 1
        assert len(s1.records) <= num_train + 1 - min_dropped


def test_cross_source_drops_problems_of_an_earlier_source(tmp_path: Path) -> None:
    first, second = problem("One. " + LEAK, source="b"), problem("Two. " + LEAK, source="a")
    settings = {"preset": "s1", "cross_source": True}
    by_name = run(tmp_path / "a", [first, second], **settings)
    assert by_name.records == [second]
    assert by_name.dropped[0].reason == "shares a run of words with a"
    ordered = run(tmp_path / "b", [first, second], source_order=["b", "a"], **settings)
    assert ordered.records == [first]
    assert len(run(tmp_path / "c", [first, second], preset="s1").records) == 2


@pytest.mark.parametrize("preset", ["s1", "strict"])
def test_the_order_of_rows_does_not_matter(tmp_path: Path, preset: str) -> None:
    rows = [
        *sandbox(60),
        problem(LEAK),
        problem("A. " + LEAK),
        problem(LEAK + " B", split=Split.HELDOUT),
    ]
    first = run(tmp_path / "a", rows, preset=preset)
    random.Random(3).shuffle(rows)
    second = run(tmp_path / "b", rows, preset=preset)
    assert {p.id for p in first.records} == {p.id for p in second.records}
    a, b = certificate_of(tmp_path / "a"), certificate_of(tmp_path / "b")
    assert a["hits"] == b["hits"] and a["checked"] == b["checked"]
    assert [entry["digest"] for entry in a["against"]] == [
        entry["digest"] for entry in b["against"]
    ]
