"""Tree search on a toy model that thinks in steps: allocation, budgets, tokens, caching."""

from __future__ import annotations

import math
import random

import pytest
from stepping import SteppingSession, total_of

from slowthink.errors import ConfigError
from slowthink.recipe import RebaseConfig, RejectionConfig
from slowthink.records import Verdict
from slowthink.sampling.parallel.expansion import NodeState, step_prefixes, step_triggers
from slowthink.sampling.parallel.rebase import allocate, rebase_curves, search
from slowthink.sampling.parallel.rejection import sample_until_decided
from slowthink.sampling.parallel.scorers import ScoredText, Scorer

CONFIG = RebaseConfig(widths=(4,), max_step_tokens=8, max_steps=8)


def six_scorer() -> Scorer:
    """Scores sums by their distance to 6."""
    return Scorer(
        lambda items: [ScoredText(1 / (1 + abs(6 - total_of(i.text))), len(i.text)) for i in items],
        facts={},
    )


def constant_scorer() -> Scorer:
    return Scorer(lambda items: [ScoredText(0.5, 1) for _ in items], facts={})


# --- allocating the width ------------------------------------------------------------------------


def reference_loop(scores: list[float], width: int, temperature: float) -> list[int]:
    """The loop of the paper's code, written independently."""
    shares = [math.exp(s / temperature) for s in scores]
    counts = dict.fromkeys(range(len(scores)), 0)
    left = width
    for index, _ in sorted(enumerate(scores), key=lambda item: item[1], reverse=True):
        if left <= 0:
            break
        number = min(math.ceil(width * shares[index] / sum(shares) - 1e-9), left)
        counts[index] = number
        left -= number
    return list(counts.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_width_is_allocated_as_in_the_papers_code(seed) -> None:
    rng = random.Random(seed)
    scores = [rng.choice([0.1, 0.5, 0.5, 0.9, rng.random()]) for _ in range(rng.randint(1, 9))]
    width = rng.randint(1, 16)
    counts = allocate(scores, width, temperature=0.2)
    assert counts == reference_loop(scores, width, 0.2)
    assert sum(counts) == width
    in_order = [
        n for _, n in sorted(zip(scores, counts, strict=True), key=lambda p: (-p[0], -p[1]))
    ]
    assert in_order == sorted(counts, reverse=True)


def test_equal_scores_share_evenly_and_large_ones_do_not_overflow() -> None:
    assert allocate([0.3, 0.3, 0.3], 6, temperature=0.2) == [2, 2, 2]
    assert allocate([4000.0, -4000.0], 5, temperature=0.2) == [5, 0]


# --- the search -----------------------------------------------------------------------------------


def test_a_search_ends_with_as_many_chains_as_its_width(context_for, make_problem) -> None:
    with context_for(SteppingSession()) as context:
        (tree,) = search(context, [make_problem(answer="6")], six_scorer(), CONFIG, 4)
    assert len(tree.chains) == 4
    assert {chain.state for chain in tree.chains} == {NodeState.NATURAL}
    for chain in tree.chains:
        total = total_of(chain.thinking)
        assert total >= 6
        assert chain.completion.answer == f"Final Answer: {total}"
        assert chain.grade.verdict is (Verdict.CORRECT if total == 6 else Verdict.WRONG)


def test_a_scorer_that_knows_the_answer_finds_it(context_for, make_problem) -> None:
    problems = [make_problem(f"q{i}", "6") for i in range(30)]
    with context_for(SteppingSession()) as context:
        guided = rebase_curves(context, problems, six_scorer(), CONFIG)["majority"][0]
        blind = rebase_curves(context, problems, constant_scorer(), CONFIG)["majority"][0]
    assert guided.accuracy > blind.accuracy + 0.1
    assert guided.n == blind.n == 30


def test_all_tokens_are_counted_pruned_steps_included(context_for, make_problem) -> None:
    session = SteppingSession()
    with context_for(session) as context:
        (tree,) = search(context, [make_problem(answer="6")], six_scorer(), CONFIG, 4)
    num_ends = 2 * len(tree.chains)  # end tokens of thinking and answer, which are discarded
    assert session.cost.decoded + session.cost.forced == tree.num_tokens + num_ends
    assert tree.num_tokens > sum(len(chain.thinking) for chain in tree.chains)


def test_a_repeated_search_reuses_all_completions(context_for, make_problem) -> None:
    problems = [make_problem("q1", "6"), make_problem("q2", "6")]
    with context_for(SteppingSession()) as context:
        first = search(context, problems, six_scorer(), CONFIG, 4)
    again = SteppingSession()
    with context_for(again) as context:
        assert search(context, problems, six_scorer(), CONFIG, 4) == first
    assert again.num_jobs == 0


def test_a_killed_search_resumes(context_for, make_problem) -> None:
    problem, calls = make_problem(answer="6"), []

    def fail_at_second_call(items):
        calls.append(len(items))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return six_scorer().score_texts(items)

    complete, killed, resumed = SteppingSession(), SteppingSession(), SteppingSession()
    with context_for(killed) as context, pytest.raises(KeyboardInterrupt):
        search(context, [problem], Scorer(fail_at_second_call, facts={}), CONFIG, 4)
    with context_for(resumed) as context:
        results = search(context, [problem], six_scorer(), CONFIG, 4)
        context.ledger._db.executescript("DELETE FROM chains; DELETE FROM answers")
    with context_for(complete) as context:
        assert search(context, [problem], six_scorer(), CONFIG, 4) == results
    assert killed.num_jobs + resumed.num_jobs == complete.num_jobs


def test_the_cap_and_the_depth_are_limits(context_for, make_problem) -> None:
    problem = make_problem(answer="6")
    with context_for(SteppingSession(), cap=5) as context:
        (tree,) = search(context, [problem], six_scorer(), CONFIG, 4)
    assert max(len(chain.thinking) for chain in tree.chains) <= 5
    assert NodeState.CUT in {chain.state for chain in tree.chains}
    with context_for(SteppingSession()) as context:
        shallow = CONFIG.model_copy(update={"max_steps": 1})
        (tree,) = search(context, [problem], six_scorer(), shallow, 4)
    assert len(tree.chains) == 4
    assert all(chain.thinking.count("\n") == 1 for chain in tree.chains)


def test_a_long_step_is_cut_into_several(context_for, make_problem) -> None:
    short = CONFIG.model_copy(update={"max_step_tokens": 2, "max_steps": 25})
    with context_for(SteppingSession()) as context:
        (tree,) = search(context, [make_problem(answer="6")], constant_scorer(), short, 2)
    assert {chain.state for chain in tree.chains} == {NodeState.NATURAL}
    assert all(total_of(chain.thinking) >= 6 for chain in tree.chains)


def test_a_chain_is_closed_as_in_a_single_run(context_for, make_problem) -> None:
    """A new line, the delimiter and the cue; after a natural end the delimiter alone."""
    with context_for(SteppingSession(), cap=4) as context:
        (tree,) = search(context, [make_problem(answer="6")], constant_scorer(), CONFIG, 2)
        decode = context.session.tokenizer.decode
    for chain in tree.chains:
        assert chain.thinking[-1] != "\n"
        assert decode(chain.completion.closing_ids) == "<|im_start|>answer\nFinal Answer:"
    with context_for(SteppingSession()) as context:
        (tree,) = search(context, [make_problem(answer="6")], constant_scorer(), CONFIG, 2)
    assert decode(tree.chains[0].completion.closing_ids) == "<|im_start|>answer\n"


def test_each_width_is_a_point_of_the_curves(context_for, make_problem) -> None:
    config = CONFIG.model_copy(update={"widths": (2, 4)})
    with context_for(SteppingSession()) as context:
        curves = rebase_curves(context, [make_problem(answer="6")], six_scorer(), config)
    assert [point.k for point in curves["majority"]] == [2, 4]
    assert curves["majority"][1].tokens_per_problem > curves["majority"][0].tokens_per_problem
    assert list(curves) == ["majority", "weighted"]


def test_problems_that_cannot_be_graded_are_left_out(context_for, make_problem) -> None:
    problems = [make_problem("q1", "6"), make_problem("q2", None)]
    with context_for(SteppingSession()) as context:
        curves = rebase_curves(context, problems, six_scorer(), CONFIG)
    assert curves["majority"][0].n == 1


def test_greedy_sampling_and_a_minimum_of_thinking_are_errors(context_for, make_problem) -> None:
    with (
        context_for(SteppingSession(), temperature=0) as context,
        pytest.raises(ConfigError, match="REBASE at temperature 0"),
    ):
        search(context, [make_problem()], constant_scorer(), CONFIG, 2)
    with (
        context_for(SteppingSession(), min_thinking_tokens=5) as context,
        pytest.raises(ConfigError, match="min_thinking_tokens 5"),
    ):
        search(context, [make_problem()], constant_scorer(), CONFIG, 2)


# --- rejection sampling -----------------------------------------------------------------------------


def test_rejection_sampling_stops_at_the_first_short_chain(context_for, make_problem) -> None:
    problems = [make_problem(f"q{i}", "6") for i in range(6)]
    config = RejectionConfig(limits=(9, 15), max_tries=5)
    session = SteppingSession()
    with context_for(session) as context:
        by_problem = sample_until_decided(context, problems, config)
    for samples in by_problem.values():
        is_short = [sample.num_thinking_tokens <= 9 for sample in samples]
        assert is_short[:-1] == [False] * (len(samples) - 1)
        assert is_short[-1] or len(samples) == 5
    assert session.num_jobs == sum(map(len, by_problem.values()))
    again = SteppingSession()
    with context_for(again) as context:
        assert sample_until_decided(context, problems, config) == by_problem
    assert again.num_jobs == 0


# --- step ends ------------------------------------------------------------------------------------


def test_a_token_that_ends_with_a_step_end_is_one_too() -> None:
    class Words:
        words = ("a", ".", ".\n\n", "\n\n", ".x")

        def __len__(self):
            return len(self.words)

        def decode(self, ids, skip_special_tokens=False):
            return self.words[ids[0]]

        def encode(self, text, add_special_tokens=False):
            return [self.words.index(text)]

    assert step_triggers(Words(), ["\n\n"]) == ("\n\n", ".\n\n")


def test_prefixes_end_with_steps() -> None:
    assert step_prefixes("a. b.\nc.", (".", "\n")) == ["a.", "a. b.", "a. b.\n"]
    assert step_prefixes("none", ("\n",)) == []
