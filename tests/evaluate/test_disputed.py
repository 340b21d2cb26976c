"""Reference answers that several models contradict, and equivalent answers."""

from __future__ import annotations

from slowthink.grading import Grader
from slowthink.stages.evaluate.disputed import answer_groups, disputed_references
from tests.evaluate.made_rows import RIGHT, WRONG, make_row


def answer(arm, text, *, problem="a", sample=0, right=False, **more):
    return make_row(
        arm, problem, RIGHT if right else WRONG, extracted=text, sample=sample, gold="12", **more
    )


def disputes(rows):
    with Grader() as grader:
        return disputed_references(rows, answer_groups(rows, grader))


def test_two_models_that_agree_against_the_reference_are_listed() -> None:
    (dispute,) = disputes([answer("base", "1/2"), answer("tuned", "0.5"), answer("other", "7")])
    assert (dispute["gold"], dispute["arms"]) == ("12", ["base", "tuned"])
    assert (dispute["num_votes"], dispute["num_answers"]) == (2, 3)


def test_agreement_with_the_reference_or_of_one_model_is_not() -> None:
    assert not disputes([answer("base", "12", right=True), answer("tuned", "12", right=True)])
    assert not disputes([answer("base", "3"), answer("tuned", "4")])
    one_model = [answer("a", "3", model="same"), answer("b", "3", model="same")]
    assert not disputes(one_model)


def test_a_model_has_the_answer_of_more_than_half_of_its_samples() -> None:
    split = [answer("base", text, sample=i) for i, text in enumerate(("3", "4"))]
    assert not disputes([*split, answer("tuned", "3")])
    most = [answer("base", text, sample=i) for i, text in enumerate(("3", "4", "3"))]
    (dispute,) = disputes([*most, answer("tuned", "3")])
    assert dispute["answer"] == "3"
    assert (dispute["num_votes"], dispute["num_answers"]) == (3, 4)


def test_only_the_longest_thinking_counts() -> None:
    short = [answer("base", "3", cap=0), answer("tuned", "3", cap=0)]
    assert not disputes([*short, answer("base", "5"), answer("tuned", "6")])


def test_equivalent_answers_of_one_problem_share_a_number() -> None:
    rows = [answer("base", "1/2"), answer("tuned", "0.5"), answer("base", "0.5", problem="b")]
    with Grader() as grader:
        groups = answer_groups(rows, grader)
    assert groups[rows[0].id] == groups[rows[1].id]
