"""Keys that several models doubt, and answers that vote together."""

from __future__ import annotations

from slowthink.grading import Grader
from slowthink.stages.evaluate.review import doubted_keys, grouped
from tests.evaluate.made_rows import RIGHT, WRONG, make_row


def answer(arm, text, *, problem="a", sample=0, right=False, **more):
    return make_row(
        arm, problem, RIGHT if right else WRONG, extracted=text, sample=sample, gold="12", **more
    )


def doubts(rows):
    with Grader() as grader:
        return doubted_keys(rows, grouped(rows, grader))


def test_two_models_that_agree_against_the_key_are_listed() -> None:
    (one,) = doubts([answer("base", "1/2"), answer("tuned", "0.5"), answer("other", "7")])
    assert (one["gold"], one["arms"]) == ("12", ["base", "tuned"])
    assert (one["num_votes"], one["num_answers"]) == (2, 3)


def test_agreement_with_the_key_or_of_one_model_is_not() -> None:
    assert not doubts([answer("base", "12", right=True), answer("tuned", "12", right=True)])
    assert not doubts([answer("base", "3"), answer("tuned", "4")])
    one_model = [answer("a", "3", model="same"), answer("b", "3", model="same")]
    assert not doubts(one_model)


def test_a_model_speaks_with_more_than_half_of_its_samples() -> None:
    split = [answer("base", text, sample=i) for i, text in enumerate(("3", "4"))]
    assert not doubts([*split, answer("tuned", "3")])
    most = [answer("base", text, sample=i) for i, text in enumerate(("3", "4", "3"))]
    (one,) = doubts([*most, answer("tuned", "3")])
    assert one["answer"] == "3"
    assert (one["num_votes"], one["num_answers"]) == (3, 4)


def test_only_the_longest_thinking_speaks() -> None:
    short = [answer("base", "3", cap=0), answer("tuned", "3", cap=0)]
    assert not doubts([*short, answer("base", "5"), answer("tuned", "6")])


def test_equivalent_answers_of_one_problem_share_a_number() -> None:
    rows = [answer("base", "1/2"), answer("tuned", "0.5"), answer("base", "0.5", problem="b")]
    with Grader() as grader:
        groups = grouped(rows, grader)
    assert groups[rows[0].id] == groups[rows[1].id]
