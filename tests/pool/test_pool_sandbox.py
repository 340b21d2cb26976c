"""The sandbox: answers checked by a second, slow way of reading the question text."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from slowthink.errors import ConfigError
from slowthink.recipe import SandboxSource
from slowthink.records import Problem, Split
from slowthink.stages.pool.families import FAMILIES
from slowthink.stages.pool.sandbox import apportion, sandbox_problems
from slowthink.stages.pool.scratchpad import Scratchpad, Slip, write_chain

STATEMENT = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
LOSSES = ("gives away", "loses", "sells")


def draw(seed: int = 0, **settings: object) -> list[Problem]:
    return list(sandbox_problems(SandboxSource.model_validate(settings), seed=seed))


def of_family(
    name: str, *, seed: int, difficulty: int, number: int = 4, **settings: float
) -> list[Problem]:
    families = {name: {"difficulty": [difficulty, difficulty]}}
    return draw(seed, families=families, num_problems=number, num_heldout=0, **settings)


def solve(question: str) -> str:
    """The answer, from the question's text alone."""
    if match := re.fullmatch(r"Solve (.+) = (\d+) for x\.", question):
        return str(_root(match[1], int(match[2])))
    if match := re.fullmatch(r"Write the base (\d+) number (\d+) in base 10\.", question):
        return str(int(match[2], int(match[1])))
    if match := re.fullmatch(r"Add up the numbers above (\d+) in this list: (.+)\.", question):
        return str(sum(n for n in map(int, match[2].split(", ")) if n > int(match[1])))
    if match := re.fullmatch(r"How many times does (\w) appear in: (.+)\?", question):
        return str(match[2].count(match[1]))
    if match := re.fullmatch(r"Sort from small to large: (.+)\.", question):
        return ", ".join(map(str, sorted(map(int, match[1].split(", ")))))
    if match := re.fullmatch(r"(?:What is|Work out) ([-+*() \dmod]+)[?.]", question):
        return str(eval(match[1].replace("mod", "%")))
    return str(_story(question))


def _root(left: str, right: int) -> int:
    left = re.sub(r"(\d)([x(])", r"\1*\2", left)
    (root,) = (x for x in range(1, 400) if eval(left, {"x": x}) == right)
    return root


def _story(question: str) -> int:
    first, *events, _ = re.findall(r"[^.?]+[.?]", question)
    total = int(re.search(r"\d+", first)[0])
    for event in events:
        bags, number = re.search(r"(?:(\d+) bags of )?(\d+)\.", event).groups()
        amount = int(bags or 1) * int(number)
        total += -amount if any(loss in event for loss in LOSSES) else amount
    return total


# --- exactness ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(FAMILIES)),
    seed=st.integers(0, 2**31),
    difficulty=st.integers(1, 5),
)
def test_answer_is_what_a_second_reading_of_the_question_gives(
    name: str, seed: int, difficulty: int
) -> None:
    for problem in of_family(name, seed=seed, difficulty=difficulty):
        assert problem.answer == solve(problem.question)


@pytest.fixture(scope="module")
def many() -> list[Problem]:
    return draw(seed=7, num_problems=1800, num_heldout=200)


def test_every_chain_ends_on_its_answer(many: list[Problem]) -> None:
    for problem in many:
        last = re.search(r"(?:So|Yes,) ([\d, ]+)\.\Z", problem.solution)
        assert last is not None and last[1] == problem.answer


def test_only_the_marked_slip_is_false(many: list[Problem]) -> None:
    for problem in many:
        slip = json.loads(problem.meta)["slip"]
        false = [
            match[0]
            for match in STATEMENT.finditer(problem.solution)
            if eval(f"{match[1]} {match[2]} {match[3]}") != int(match[4])
        ]
        assert false in ([], [slip and slip.split(": ")[-1]])
        assert slip is None or slip in problem.solution


def test_a_slip_is_noticed_and_corrected(many: list[Problem]) -> None:
    corrected = [problem for problem in many if json.loads(problem.meta)["chain"] == "correct"]
    for problem in corrected:
        first, check = problem.solution.split("\nWait, let me check: ")
        assert not first.endswith(f"So {problem.answer}.")
        assert ", not " in check and check.endswith(f"So {problem.answer}.")


def test_shares_of_checks_and_corrections_hold() -> None:
    problems = draw(num_problems=4000, num_heldout=0, check_share=0.25, correct_share=0.1)
    kinds = Counter(json.loads(problem.meta)["chain"] for problem in problems)
    assert abs(kinds["check"] / 4000 - 0.25) < 0.03
    assert abs(kinds["correct"] / 4000 - 0.1) < 0.02


@pytest.mark.parametrize("kind", ["check", "correct"])
def test_a_share_of_one_makes_all_chains_so(kind: str) -> None:
    shares = {"check_share": 0, "correct_share": 0, f"{kind}_share": 1}
    problems = draw(num_problems=90, num_heldout=0, **shares)
    assert {json.loads(problem.meta)["chain"] for problem in problems} == {kind}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_chains_grow_with_difficulty(name: str) -> None:
    lengths, plain = [], {"check_share": 0, "correct_share": 0}
    for difficulty in (1, 2, 3, 4, 5):
        problems = of_family(name, seed=0, difficulty=difficulty, number=30, **plain)
        lengths.append(sum(len(problem.solution) for problem in problems) / len(problems))
    assert lengths == sorted(lengths) and lengths[-1] > 1.5 * lengths[0]


# --- what is drawn --------------------------------------------------------------------------------


def test_heldout_shares_neither_parameters_nor_questions_with_training(many: list[Problem]) -> None:
    def of(split: Split, key: str) -> set[str]:
        chosen = [problem for problem in many if problem.split is split]
        if key == "question":
            return {problem.duplicate_key for problem in chosen}
        metas = [json.loads(problem.meta) for problem in chosen]
        return {json.dumps([meta["family"], meta["parameters"]]) for meta in metas}

    for key, number in (("question", 2000), ("parameters", 2000)):
        assert not of(Split.TRAIN, key) & of(Split.HELDOUT, key)
        assert len(of(Split.TRAIN, key)) + len(of(Split.HELDOUT, key)) == number


def test_the_same_seed_gives_the_same_problems_and_another_gives_others() -> None:
    ids = [[problem.id for problem in draw(seed)] for seed in (3, 3, 4)]
    assert draw(3) == draw(3)
    assert len(set(ids[0]) & set(ids[2])) < 100 < len(ids[0])


def test_more_training_problems_do_not_change_the_heldout_ones() -> None:
    few, many = draw(num_problems=50), draw(num_problems=400)
    assert [p for p in few if p.split is Split.HELDOUT] == [
        p for p in many if p.split is Split.HELDOUT
    ]


def test_default_sandbox_has_the_requested_numbers_and_nine_domains() -> None:
    problems = draw()
    assert Counter(problem.split for problem in problems) == {Split.TRAIN: 400, Split.HELDOUT: 200}
    assert len({problem.domain for problem in problems}) == len(FAMILIES) == 9


def test_weights_share_out_the_problems() -> None:
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert apportion(7, {"a": 3, "b": 0.5}) == {"a": 6, "b": 1}


def test_a_family_with_too_few_problems_is_an_error() -> None:
    families = {"bases": {"difficulty": [1, 1]}}
    with pytest.raises(ConfigError, match=r"family `bases` has no more distinct .* difficulty 1"):
        draw(families=families, num_problems=400, num_heldout=0)


def test_an_unknown_family_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no family `sum`; expected one of sums, mixed"):
        draw(families={"sum": {}})


# --- the scratchpad -------------------------------------------------------------------------------


def test_slip_changes_one_value_and_what_follows_from_it() -> None:
    scratchpad = Scratchpad(Slip(index=0, offset=-1))
    value = scratchpad.calculate(scratchpad.calculate(17, "+", 25), "-", 8)
    assert (value, scratchpad.text()) == (33, "17 + 25 = 41. 41 - 8 = 33.")


def test_solution_without_a_possible_slip_is_checked_instead() -> None:
    def solve_in_words(scratchpad: Scratchpad) -> str:
        scratchpad.write("nothing to get wrong")
        return "7"

    chain = write_chain(solve_in_words, "correct", random.Random(0))
    assert (chain.kind, chain.slip) == ("check", None)
    assert chain.text == (
        "nothing to get wrong. So 7.\nWait, let me check: nothing to get wrong. Yes, 7."
    )
