"""The filter's domain step: nothing is dropped, ids stay the same, order does not matter."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from slowthink.recipe import DomainsConfig, Recipe
from slowthink.sampling.ledger import Ledger
from slowthink.stages.filter import STEPS
from slowthink.stages.filter.domains import assign_domains
from slowthink.stages.filter.funnel import Funnel

QUESTIONS = [
    "Find the smallest prime divisor of 91.",
    "A circle has radius 3. Find its area.",
    "求 $2^{50}$ 除以 7 的余数。",
    "12 + 7 = ?",
]


def run(problems, config: DomainsConfig | None, *, folder=None, **recipe) -> Funnel:
    funnel, messages = Funnel(list(problems)), []
    context = SimpleNamespace(
        config=SimpleNamespace(domains=config), recipe=Recipe(name="t", **recipe),
        notify=messages.append, progress=lambda done, total: None,
        open_ledger=lambda: Ledger(folder / "ledger.sqlite"),
    )  # fmt: skip
    assign_domains(funnel, context)
    return funnel


def test_problems_get_the_name_of_their_class(make_problem) -> None:
    problems = [make_problem(question) for question in QUESTIONS]
    funnel = run(problems, DomainsConfig())
    assert [p.domain for p in funnel.problems] == [
        "Number theory", "Geometry", "Number theory", None,
    ]  # fmt: skip
    assert [p.id for p in funnel.problems] == [p.id for p in problems]
    assert funnel.dropped == [] and funnel.steps[0].num_in == funnel.steps[0].num_out == 4


def test_off_is_off(make_problem) -> None:
    funnel = run([make_problem()], None)
    assert (funnel.steps, funnel.facts) == ([], {})


def test_domains_of_the_source_are_kept_by_default(make_problem) -> None:
    problems = [make_problem(QUESTIONS[0], domain="own"), make_problem(QUESTIONS[1])]
    kept = run(problems, DomainsConfig())
    assert [p.domain for p in kept.problems] == ["own", "Geometry"]
    assert kept.facts["domain_labels"]["num_kept"] == 1
    new = run(problems, DomainsConfig(overwrite=True))
    assert [p.domain for p in new.problems] == ["Number theory", "Geometry"]


def test_problems_without_a_label_are_counted_and_never_overwritten(make_problem) -> None:
    funnel = run([make_problem(QUESTIONS[3], domain="own")], DomainsConfig(overwrite=True))
    assert funnel.problems[0].domain == "own"
    assert funnel.facts["domain_labels"]["by_method"]["lexical"] == {
        "num_unknown": 1, "unknown": {"no word of any class": 1},
    }  # fmt: skip


def test_order_of_rows_does_not_matter(make_problem) -> None:
    problems = [make_problem(f"{question} {n}") for question in QUESTIONS for n in range(20)]
    first = run(problems, DomainsConfig())
    second = run(random.Random(0).sample(problems, len(problems)), DomainsConfig())
    assert {p.id: p.domain for p in first.problems} == {p.id: p.domain for p in second.problems}
    assert first.facts == second.facts


def test_domains_come_after_contamination_and_before_difficulty() -> None:
    assert [step.__name__ for step in STEPS] == [
        "drop_low_quality", "drop_duplicates", "drop_contaminated", "assign_domains",
        "drop_by_difficulty",
    ]  # fmt: skip


def scripts_for(questions, folder) -> str:
    from slowthink.curation.domains.llm import build_messages
    from slowthink.curation.domains.taxonomy import load_taxonomy

    taxonomy = load_taxonomy()
    path = folder / "scripts.jsonl"
    rows = [
        {"question": build_messages(taxonomy, question)[1]["content"],
         "thinking": [f"CODE: {code}"], "answer": ""}
        for question, code in zip(questions, ("11", "26", "11", "97"), strict=True)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_second_method_is_measured_against_the_first(make_problem, tmp_path) -> None:
    engine = {"kind": "replay", "replay": scripts_for(QUESTIONS, tmp_path)}
    problems = [make_problem(question) for question in QUESTIONS]
    config = DomainsConfig(methods=("lexical", "llm"))
    funnel = run(problems, config, folder=tmp_path, engine=engine)
    facts = funnel.facts["domain_labels"]
    assert [p.domain for p in funnel.problems][:2] == ["Number theory", "Geometry"]
    assert facts["agreement"]["n"] == 3
    assert facts["agreement"]["agreement"] == pytest.approx(2 / 3)
    assert facts["agreement"]["disagreements"] == [
        {"first": "Geometry", "second": "Real functions", "n": 1}
    ]
    assert facts["by_method"]["llm"]["num_asked_again"] == 0


def test_a_method_is_not_measured_against_itself() -> None:
    with pytest.raises(ValueError, match="both are equal"):
        DomainsConfig(methods=("lexical", "lexical"))
