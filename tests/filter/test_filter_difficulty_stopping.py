"""Stopping early gives the decision of all attempts, for all waves and orders of finishing."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.difficulty import BAND, run
from slowthink.engines.replay import ReplaySession, Script
from slowthink.engines.session import Job, JobResult, Point
from slowthink.errors import EngineError
from slowthink.grading import Grader
from slowthink.recipe import ChatConfig, Recipe
from slowthink.records import Budget, Grade, Problem, Sampling, Verdict
from slowthink.sampling.attempts import (
    AttemptTracker,
    GradedAttempt,
    ModelSource,
    Tally,
    run_attempts,
)
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, grade_completion, make_tasks
from slowthink.stages.filter.difficulty.band import (
    Band,
    BandDecision as Decision,
    certain_decision,
    min_further_attempts,
)
from slowthink.stages.filter.difficulty.cost import Beta, expected_attempts_until_decided
from slowthink.stages.filter.difficulty.stopping import (
    MajorityRule,
    PassRateRule,
    StoppingRule,
)

VERDICTS = {
    "c": Verdict.CORRECT, "w": Verdict.WRONG, "t": Verdict.TRUNCATED, "u": Verdict.UNGRADABLE,
}  # fmt: skip
BANDS = {
    "1-3 of 12": Band(12, min_correct=1, max_correct=3),
    "none of 4": Band(4, max_correct=0),
    "any rate up to a half": Band(6, max_pass_rate=0.5),
    "a fifth to three fifths": Band(7, min_pass_rate=0.2, max_pass_rate=0.6),
    "all of 3": Band(3, min_correct=3),
}


class LetterSource:
    """Completes attempts given by letters, a random part of them at a time, in random order."""

    def __init__(self, letters: dict[str, str], *, seed: int = 0) -> None:
        self.letters, self.rng = letters, random.Random(seed)
        self.waiting: list[tuple[str, int]] = []
        self.requested: list[tuple[str, int]] = []

    def submit(self, waves: Sequence[tuple[str, range]]) -> None:
        new = [(id, index) for id, wave in waves for index in wave]
        self.waiting += new
        self.requested += new

    def cancel(self, problem_id: str, indices: Iterable[int]) -> None:
        cancelled = {(problem_id, index) for index in indices}
        self.waiting = [key for key in self.waiting if key not in cancelled]

    def completed(self) -> list[GradedAttempt]:
        self.rng.shuffle(self.waiting)
        num = self.rng.randint(1, max(1, len(self.waiting)))
        completed, self.waiting = self.waiting[:num], self.waiting[num:]
        return [GradedAttempt(id, index, grade(self.letters[id][index])) for id, index in completed]


def grade(letter: str) -> Grade:
    return Grade(verdict=VERDICTS[letter])


def track(
    rule: StoppingRule, letters: str, *, wave_size: int = 1, seed: int = 0, **more: bool
) -> AttemptTracker:
    tracker = AttemptTracker(rule, wave_size=wave_size, **more)
    run_attempts(LetterSource({"p": letters}, seed=seed), {"p": tracker})
    return tracker


@pytest.mark.parametrize("band", BANDS.values(), ids=BANDS.keys())
@pytest.mark.parametrize("truncated_counts", [True, False])
def test_exact_mode_gives_the_decision_of_all_attempts(band: Band, truncated_counts: bool) -> None:
    rng = random.Random(str(band))
    for seed in range(300):
        weights = [rng.random() ** 3 for _ in "cwtu"]
        letters = "".join(rng.choices("cwtu", weights, k=band.num_attempts))
        counts = {"truncated_counts": truncated_counts}
        whole = track(PassRateRule(band, stop_early=False), letters, **counts)
        early = track(PassRateRule(band), letters, wave_size=1 + seed % 5, seed=seed, **counts)
        assert early.decision is whole.decision, letters
        assert len(whole.grades) == band.num_attempts
        assert [g.verdict for g in early.grades] == [
            VERDICTS[letter] for letter in letters[: len(early.grades)]
        ]


@pytest.mark.parametrize("band", BANDS.values(), ids=BANDS.keys())
def test_a_decision_is_certain_once_no_continuation_can_change_it(band: Band) -> None:
    for letters in itertools.product("cwu", repeat=min(band.num_attempts, 6)):
        tally, left = Tally(), 0
        for letter in letters[: band.num_attempts]:
            tally = tally.add(grade(letter), truncated_counts=True)
            left = band.num_attempts - tally.num_seen
            ends = {
                band.decide(tally.num_correct + right, tally.num_counted + right + wrong)
                for right in range(left + 1)
                for wrong in range(left + 1 - right)
            }
            expected = next(iter(ends)) if len(ends) == 1 else None
            assert certain_decision(band, tally) is expected, (letters, tally)


def test_the_first_to_finish_does_not_decide() -> None:
    """Correct attempts return first; only those before the decision in order count."""
    tracker = AttemptTracker(PassRateRule(Band(4, max_correct=1)), wave_size=4)
    assert tracker.next_wave() == range(4)
    for number, letter in ((3, "c"), (2, "c"), (1, "w")):
        tracker.add(number, grade(letter))
        assert tracker.decision is None
    tracker.add(0, grade("w"))
    assert (tracker.decision, tracker.tally.num_seen) == (Decision.TOO_OFTEN, 4)


@pytest.mark.parametrize("seed", range(20))
def test_order_of_finishing_changes_no_decision_and_no_grades(seed: int) -> None:
    rng = random.Random(7)
    letters = {f"p{n}": "".join(rng.choices("cwt", k=12)) for n in range(30)}
    trackers = {id: AttemptTracker(PassRateRule(BANDS["1-3 of 12"]), wave_size=5) for id in letters}
    run_attempts(LetterSource(letters, seed=seed), trackers)
    expected = {id: track(PassRateRule(BANDS["1-3 of 12"]), letters[id]) for id in letters}
    assert {id: (t.decision, t.tally, t.grades) for id, t in trackers.items()} == {
        id: (t.decision, t.tally, t.grades) for id, t in expected.items()
    }


def test_waves_of_one_waste_nothing_and_request_the_needed_minimum() -> None:
    source = LetterSource({"p": "wwwwwcccccc" + "c" * 21})
    trackers = {"p": AttemptTracker(PassRateRule(BAND))}
    run_attempts(source, trackers)
    assert trackers["p"].decision is Decision.TOO_OFTEN
    assert [index for _, index in source.requested] == list(range(9))
    assert min_further_attempts(BAND, Tally()) == 4
    assert trackers["p"].num_wasted == 0


def test_waste_is_counted_and_outstanding_attempts_are_cancelled() -> None:
    late = AttemptTracker(PassRateRule(Band(8, max_correct=0)), wave_size=8)
    late.next_wave()
    for number in (5, 0, 3):
        late.add(number, grade("c"))
    assert (late.decision, late.num_wasted, list(late.grades)) == (
        Decision.TOO_OFTEN, 2, [grade("c")],
    )  # fmt: skip
    source = LetterSource({"p": "c" * 8}, seed=1)
    run_attempts(source, {"p": AttemptTracker(PassRateRule(Band(8, max_correct=0)), wave_size=8)})
    assert source.waiting == []


MAJORITIES = {
    "right by lead": ("aaaa", 1.0), "wrong by lead": ("bbbb", 0.0), "split votes": ("abcabdd", 1 / 3),
    "no answers": ("-------", 0.0),
}  # fmt: skip


@pytest.mark.parametrize(("votes", "value"), MAJORITIES.values(), ids=MAJORITIES.keys())
def test_majority_is_decided_as_all_votes_would(votes: str, value: float) -> None:
    votes = votes.ljust(7, "a") if votes == "aaaa" else votes.ljust(7, "c")
    trackers = [_voted(votes, stop_early=stop_early) for stop_early in (True, False)]
    assert trackers[0].decision is trackers[1].decision
    expected = Decision.TOO_OFTEN if value > 0.4 else Decision.KEEP
    assert trackers[0].decision is expected
    assert len(trackers[0].grades) == (4 if votes[:4] in ("aaaa", "bbbb") else 7)


def _voted(votes: str, *, stop_early: bool) -> AttemptTracker:
    def group(answers: Sequence[str | None]) -> list[int | None]:
        return [None if answer is None else ord(answer) for answer in answers]

    kinds = {"a": Verdict.CORRECT, "-": Verdict.NO_ANSWER}
    tracker = AttemptTracker(MajorityRule(Band(7, max_pass_rate=0.4), group, stop_early))
    for number, vote in enumerate(votes):
        tracker.add(number, Grade(verdict=kinds.get(vote, Verdict.WRONG), extracted=vote))
    return tracker


# --- how many attempts ----------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.5, 0.5), (1.0, 5.0)])
def test_expected_attempts_equal_brute_force(prior: tuple[float, float]) -> None:
    band, total = Band(8, min_correct=1, max_correct=2), 0.0
    for letters in itertools.product("cw", repeat=8):
        right = letters.count("c")
        logs = [math.lgamma(x) for x in (prior[0] + right, prior[1] + 8 - right, sum(prior))]
        logs += [-math.lgamma(x) for x in (sum(prior) + 8, *prior)]
        total += math.exp(sum(logs)) * len(track(PassRateRule(band), "".join(letters)).grades)
    assert expected_attempts_until_decided(band, Beta(*prior)) == pytest.approx(total)


def test_bench_gives_shares_within_one_wave_of_the_optimum(tmp_path: Path) -> None:
    rows = run(num_rounds=1, num_problems=200, path=tmp_path)["made"]
    assert len(rows) == 16
    for row in rows:
        more = row["share_drawn"]["median"] - row["optimum"]
        assert -0.1 < more < row["wave_size"] / 32 + 0.1
        assert row["share_differing"]["high"] == 0.0


# --- through a session ----------------------------------------------------------------------------


class Sampled(ReplaySession):
    """Scripts by sample; returns some of its jobs at a time, in any order."""

    def __init__(self, answers: dict[str, str], *, seed: int) -> None:
        super().__init__({question: Script(thinking=("so",), answer="?") for question in answers})
        self.answers, self.rng, self.sample = answers, random.Random(seed), 0
        self.num_done = 0

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        keys = sorted(self._queue)
        self.rng.shuffle(keys)
        jobs = [self._queue.pop(key) for key in keys[: self.rng.randint(1, len(keys))]]
        self.num_done += len(jobs)
        return [outcome for job in jobs for outcome in self._of(job)]

    def _of(self, job: Job) -> list[JobResult]:
        self.sample = job.request.sample
        return list(self._replay(job))

    def _script(self, prompt: Sequence[int]) -> Script:
        text = self.tokenizer.decode(prompt)
        question = text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]
        right = self.answers[question][self.sample] == "c"
        return Script(thinking=("so",), answer="42" if right else "41")


def decide_with(
    ledger: Ledger,
    problems: Sequence[Problem],
    answers: dict[str, str],
    *,
    seed: int,
    kind: type[Sampled] = Sampled,
) -> tuple[dict[str, tuple[Decision | None, int]], Sampled]:
    session = kind(answers, seed=seed)
    firsts = make_tasks(
        session, problems, recipe=Recipe(name="r"), chat=ChatConfig(format="plain"),
        budget=Budget(max_thinking_tokens=8, answer_tokens=30),
        sampling=Sampling(temperature=0.5), points=[Point(8)],
    )  # fmt: skip
    with Grader() as grader:
        source = ModelSource(
            Sampler(session, ledger, tag="t"), firsts,
            lambda task, completion: grade_completion(grader, task.problem, completion),
        )  # fmt: skip
        trackers = {
            p.id: AttemptTracker(PassRateRule(BANDS["1-3 of 12"]), wave_size=4) for p in problems
        }
        run_attempts(source, trackers)
    return {id: (t.decision, len(t.grades)) for id, t in trackers.items()}, session


def test_a_session_out_of_order_decides_the_same_from_cached_attempts(
    tmp_path: Path, make_problem
) -> None:
    rng = random.Random(0)
    problems = [make_problem(f"Question {n}?") for n in range(12)]
    answers = {p.question: "".join(rng.choices("cwww", k=12)) for p in problems}
    expected = {
        p.id: (t.decision, len(t.grades))
        for p in problems
        if (t := track(PassRateRule(BANDS["1-3 of 12"]), answers[p.question]))
    }
    for seed in (1, 2):
        with Ledger(tmp_path / f"{seed}.sqlite") as ledger:
            decisions, session = decide_with(ledger, problems, answers, seed=seed)
        assert decisions == expected
        with Ledger(tmp_path / f"{seed}.sqlite") as ledger:
            again, session = decide_with(ledger, problems, answers, seed=9)
        assert again == expected
        assert session.num_done == 0


class Failing(Sampled):
    """Fails at one of the attempts; returns the others a few at a time."""

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        return [
            replace(result, error="refused") if self.sample == 2 else result
            for result in super().completed(timeout)
        ]


def test_a_failed_attempt_is_an_error_after_all_others_are_stored(
    tmp_path: Path, make_problem
) -> None:
    problems = [make_problem("Question?")]
    answers = {"Question?": "wwwwwwwwwwww"}
    with Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(EngineError, match="1 of 4 requests failed, the first with: refused"):
            decide_with(ledger, problems, answers, seed=1, kind=Failing)
        decisions, session = decide_with(ledger, problems, answers, seed=1)
    assert decisions[problems[0].id] == (Decision.TOO_RARELY, 12)
    assert session.num_done <= 9
