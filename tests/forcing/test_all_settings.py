"""All settings of the machine at once, against a simple loop: end rules, loops, steps, waits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings, strategies as st

from slowthink.engines.session import Job, Point, cut_at
from slowthink.errors import ConfigError
from slowthink.forcing.cuts import check_budget, cut_chain
from slowthink.forcing.machine import ActionKind, ForcingMachine, ForcingRules, make_rules
from slowthink.forcing.steps import num_steps, num_tokens_in_steps
from slowthink.recipe import ForcingConfig, LoopConfig
from slowthink.recipe.base import in_language
from slowthink.records import Budget, ChainState, LoopRule, ThinkingEnd

TEXTS = ("a", "b", "\n", "c\n\n", "\n\n", "<end>", "<eos>")
TRIGGERS = frozenset({5, 6})


def decode(ids) -> str:
    return "".join(TEXTS[i] for i in ids)


def hashed(*parts) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big")


def pick(seed: int, ids: list[int], declared: int, banned=frozenset()) -> int:
    """A made-up sampled token: a hash of the tokens before and of the number of declared ends."""
    order = sorted(range(len(TEXTS)), key=lambda token: hashed(seed, ids[-3:], declared, token))
    return next(token for token in order if token not in banned)


def most_likely(seed: int, ids: list[int]) -> int:
    return hashed("argmax", seed, ids[-2:]) % len(TEXTS)


def trigger_probability(seed: int, ids: list[int]) -> float:
    return hashed("p", seed, ids[-2:]) % 1000 / 1000


@dataclass(frozen=True)
class AllSettings:
    """A value of every setting."""

    cap: int
    waits: int = 0
    steps: int | None = None
    minimum: int = 0
    strings: tuple[tuple[int, ...], ...] = ((0,),)
    rule: str = "drawn"
    tau: float = 1.0
    loop: LoopRule | None = None

    def rules(self) -> ForcingRules:
        return ForcingRules(
            trigger_ids=TRIGGERS, wait_ids=self.strings or ((),), min_thinking_tokens=self.minimum,
            end_rule=self.rule, end_probability=self.tau, loop=self.loop, decode=decode,
        )  # fmt: skip


def count(ids) -> int:
    """Number of steps by definition: each ends with the token that completes a delimiter after text
    that is not blank."""
    num_steps = start = 0
    for end in range(1, len(ids) + 1):
        text = decode(ids[start:end])
        if "\n\n" in text and text[: text.rindex("\n\n")].strip():
            num_steps, start = num_steps + 1, end
    return num_steps


def repeats(ids, rule: LoopRule) -> bool:
    for period in range(1, rule.max_period + 1):
        for times in range(rule.repeats, len(ids) // period + 1):
            span = ids[len(ids) - period * times :]
            if len(span) >= rule.min_tokens and span == span[-period:] * times:
                return True
    return False


def reference_loop(seed: int, k: AllSettings) -> tuple[list[int], str]:
    """s1's loop with all settings, written independently of the machine."""
    ids: list[int] = []
    used = declared = 0

    def used_up() -> bool:
        return len(ids) >= k.cap or (k.steps is not None and count(ids) >= k.steps)

    while not used_up():
        token = pick(seed, ids, declared)
        if (
            token in TRIGGERS
            or (k.rule == "argmax" and most_likely(seed, ids) in TRIGGERS)
            or (k.rule == "probability" and trigger_probability(seed, ids) >= k.tau)
        ):
            declared += 1
            string = list(k.strings[used % len(k.strings)]) if k.strings else []
            if len(ids) >= k.minimum:
                fits = len(ids) + len(string) + 1 <= k.cap
                fits = fits and (k.steps is None or count(ids + string) < k.steps)
                if used >= k.waits or not fits:
                    return ids, "natural"
                used += 1
                if string:
                    ids += string
                    continue
            token = pick(seed, ids, declared, TRIGGERS)
        ids.append(token)
        if k.loop is not None and repeats(ids, k.loop) and not used_up():
            return ids, "loop"
    return ids, "cap"


def run_machine(seed: int, machine: ForcingMachine, *, stop: int = 10**9) -> ForcingMachine:
    while stop and (action := machine.next_action()).kind is not ActionKind.STOP:
        stop -= 1
        if action.kind is not ActionKind.SAMPLE:
            continue
        ids = machine.ids
        options = {
            "trigger_probability": trigger_probability(seed, ids),
            "argmax": most_likely(seed, ids),
        }
        observed = machine.observe(pick(seed, ids, len(machine.events), action.banned), **options)
        if observed.kind is ActionKind.RESAMPLE and stop:
            other = pick(seed, ids, len(machine.events), observed.banned)
            machine.observe(other, **options)
    return machine


all_settings = st.builds(
    AllSettings,
    cap=st.integers(0, 30),
    waits=st.integers(0, 4),
    steps=st.none() | st.integers(0, 6),
    minimum=st.integers(0, 6),
    strings=st.lists(
        st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple), max_size=3
    ).map(tuple),
    rule=st.sampled_from(["drawn", "argmax", "probability"]),
    tau=st.sampled_from([0.3, 0.7, 0.95]),
    loop=st.none()
    | st.builds(
        LoopRule, max_period=st.just(2), repeats=st.integers(2, 3), min_tokens=st.integers(2, 5)
    ),
)
seeds = st.integers(0, 10_000)


@given(seeds, all_settings)
@settings(max_examples=120, deadline=None)
def test_machine_equals_the_literal_loop(seed, k) -> None:
    machine = ForcingMachine(k.rules(), cap=k.cap, waits=k.waits, steps=k.steps)
    chain = run_machine(seed, machine).chain("k")
    cut = cut_chain(chain, k.rules(), cap=k.cap, waits=k.waits, steps=k.steps)
    assert cut is not None
    assert (list(cut.ids), cut.end_reason.value) == reference_loop(seed, k)
    assert list(chain.ids) == reference_loop(seed, k)[0]


@given(seeds, all_settings, st.data())
@settings(max_examples=120, deadline=None)
def test_every_point_of_one_long_chain_equals_a_run_of_its_own(seed, k, data) -> None:
    machine = ForcingMachine(k.rules(), cap=k.cap, waits=k.waits, steps=k.steps)
    chain = run_machine(seed, machine).chain("k")
    max_steps = 6 if k.steps is None else k.steps
    few_steps = data.draw(
        st.integers(0, max_steps) | (st.none() if k.steps is None else st.nothing())
    )
    point = replace(
        k, cap=data.draw(st.integers(0, k.cap)), waits=data.draw(st.integers(0, k.waits)),
        steps=few_steps,
    )  # fmt: skip
    budget = {"cap": point.cap, "waits": point.waits, "steps": point.steps}
    cut = cut_chain(chain, k.rules(), **budget)
    assert cut is not None
    assert (list(cut.ids), cut.end_reason.value) == reference_loop(seed, point)
    assert check_budget(cut, k.rules(), **budget) == ()


@given(seeds, all_settings, st.integers(0, 40), st.data())
@settings(max_examples=120, deadline=None)
def test_a_chain_stored_at_any_moment_continues_the_same(seed, k, stop, data) -> None:
    first = ForcingMachine(k.rules(), cap=k.cap, waits=k.waits, steps=k.steps)
    stored = run_machine(seed, first, stop=stop).chain("k")
    more = None if k.steps is None else data.draw(st.none() | st.integers(k.steps, k.steps + 3))
    grown = replace(
        k, cap=data.draw(st.integers(k.cap, k.cap + 15)),
        waits=data.draw(st.integers(k.waits, k.waits + 2)), steps=more,
    )  # fmt: skip
    later = ForcingMachine(
        k.rules(), cap=grown.cap, waits=grown.waits, steps=grown.steps, chain=stored
    )
    chain = run_machine(seed, later).chain("k")
    for point in (grown, k):
        cut = cut_chain(chain, k.rules(), cap=point.cap, waits=point.waits, steps=point.steps)
        assert cut is not None
        assert (list(cut.ids), cut.end_reason.value) == reference_loop(seed, point)


# --- long delimiters and steps together -----------------------------------------------------------

LETTERS = ("a", "b", "\n\n", "x", "y")


def decode_letters(ids) -> str:
    return "".join(LETTERS[i] for i in ids)


def pick_letter(seed: int, ids, banned) -> int:
    order = sorted(range(5), key=lambda token: hashed(seed, ids[-4:], token))
    return next(token for token in order if token not in banned)


def reference_loop_long_trigger(seed: int, *, cap: int, steps: int, waits: int, string: list[int]):
    """As `reference_loop`, but "x\\n\\ny" declares the end and is rolled back. Before that, its blank
    line may end a step."""
    ids: list[int] = []
    used = 0
    banned: frozenset[int] = frozenset()
    while len(ids) < cap and num_steps(ids, "\n\n", decode_letters) < steps:
        ids.append(pick_letter(seed, ids, banned))
        banned = frozenset()
        if decode_letters(ids).endswith("x\n\ny"):
            del ids[-3:]
            fits = num_steps(ids + string, "\n\n", decode_letters) < steps
            if used >= waits or len(ids) + len(string) + 1 > cap or not fits:
                return ids, "natural"
            used += 1
            ids += string
            banned = frozenset() if string else frozenset({3})
    return ids, "cap"


@given(seeds, st.integers(1, 40), st.integers(1, 8), st.integers(0, 3), st.data())
@settings(max_examples=120, deadline=None)
def test_steps_are_cut_inside_a_long_delimiter_too(seed, cap, steps, waits, data) -> None:
    string = data.draw(st.sampled_from([[0], [0, 2], []]))
    rules = ForcingRules(
        trigger_ids=frozenset(),
        long_triggers=("x\n\ny",),
        wait_ids=(tuple(string),),
        decode=decode_letters,
    )
    machine = ForcingMachine(rules, cap=cap, waits=waits, steps=steps)
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is ActionKind.SAMPLE:
            machine.observe(pick_letter(seed, machine.ids, action.banned))
    small, few = data.draw(st.integers(0, cap)), data.draw(st.integers(0, waits))
    fewer = data.draw(st.integers(0, steps))
    for c, s, w in ((cap, steps, waits), (small, fewer, few)):
        cut = cut_chain(machine.chain("k"), rules, cap=c, waits=w, steps=s)
        assert cut is not None
        expected = reference_loop_long_trigger(seed, cap=c, steps=s, waits=w, string=string)
        assert (list(cut.ids), cut.end_reason.value) == expected


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ([0, 3, 1, 2, 2, 0], [2, 5]),
        ([4, 4, 2, 0, 4, 4], [5]),
        ([2, 2, 2], []),
        ([0, 2, 2, 2, 1, 4], [3, 6]),
    ],
    ids=["in a token and over two", "blank lines first", "blank", "three new lines"],
)
def test_steps_end_where_a_delimiter_closes_text(tokens, ends) -> None:
    assert [num_tokens_in_steps(tokens, n, "\n\n", decode) for n in range(1, len(ends) + 1)] == ends
    assert num_tokens_in_steps(tokens, len(ends) + 1, "\n\n", decode) is None
    assert num_steps(tokens, "\n\n", decode) == len(ends)


@given(st.lists(st.integers(0, 4), max_size=40))
def test_steps_equal_their_definition(ids) -> None:
    assert num_steps(ids, "\n\n", decode) == count(ids)


def test_a_step_budget_is_cut_like_a_cap_and_checked() -> None:
    k = AllSettings(cap=30, steps=1)
    machine = ForcingMachine(k.rules(), cap=30, waits=0, steps=1)
    for token in (0, 3):
        machine.next_action()
        machine.observe(token)
    assert machine.next_action().kind is ActionKind.STOP
    chain = replace(machine.chain("k"), ids=(0, 3, 1, 3))
    cut = cut_chain(chain, k.rules(), cap=30, waits=0, steps=1)
    assert cut is not None and (cut.ids, cut.end_reason) == ((0, 3), ThinkingEnd.CAP)
    long = replace(cut, ids=(0, 3, 1, 3))
    violations = check_budget(long, k.rules(), cap=30, waits=0, steps=1)
    assert violations == ("2 steps; at most 1 are allowed",)


def test_a_job_thinks_up_to_its_largest_point() -> None:
    points = (Point(8, steps=2), Point(20, 1, steps=5), Point(12, 0, steps=3))
    job = Job(request=None, points=points)  # type: ignore[arg-type]
    machine = job.machine(AllSettings(cap=0).rules())
    assert (machine.cap, machine.waits, machine.steps) == (20, 1, 5)
    free = Job(request=None, points=(*points, Point(4)))  # type: ignore[arg-type]
    assert free.machine(AllSettings(cap=0).rules()).steps is None
    assert sorted([Point(4), Point(4, steps=2), Point(3, 1)]) == [
        Point(3, 1), Point(4, steps=2), Point(4),
    ]  # fmt: skip
    chain = run_machine(1, machine).chain("k")
    assert cut_at(chain, machine.rules, points[0]) is not None


# --- settings -------------------------------------------------------------------------------------


def test_texts_follow_the_language() -> None:
    forcing = ForcingConfig()
    english, chinese = (forcing.budget(9, 1, language=name) for name in ("en", "zh"))
    assert (english.wait_strings, english.final_answer_cue) == (("Wait",), "Final Answer:")
    assert (chinese.wait_strings, chinese.final_answer_cue) == (("等等",), "最终答案:")
    assert forcing.budget(9, 1, language="zh-CN") == chinese
    assert forcing.budget(9, 1, language="fr") == english
    own = ForcingConfig(wait_strings={"de": ["Moment", "Halt"], "en": []}, final_answer_cue="A:")
    assert own.budget(9, 1, language="en").wait_strings == ()
    assert own.budget(9, 1, language="fr").wait_strings == ("Moment", "Halt")
    assert own.budget(9, 1, language="zh").final_answer_cue == "A:"
    assert in_language(None, "en") is None


def test_english_budgets_do_not_depend_on_other_languages() -> None:
    plain = ForcingConfig(wait_strings=("Wait",), final_answer_cue="Final Answer:")
    assert ForcingConfig().budget(9, 1) == plain.budget(9, 1)


def test_a_loop_setting_stops_a_chain_and_leads_to_a_forced_answer() -> None:
    rule = LoopConfig(max_period=2, repeats=2, min_tokens=4)
    budget = ForcingConfig(loop=rule).budget(20, 0)
    assert budget.loop == LoopRule(max_period=2, repeats=2, min_tokens=4)

    class Format:
        trigger_ids, long_triggers, decode = TRIGGERS, (), staticmethod(decode)

        @staticmethod
        def encode(text: str) -> tuple[int, ...]:
            return (0,)

    rules = make_rules(budget, Format())  # type: ignore[arg-type]
    machine = ForcingMachine(rules, cap=20, waits=3)
    for token in (1, 0, 2, 0, 2):
        machine.next_action()
        machine.observe(token)
    assert machine.state is ChainState.LOOP
    cut = cut_chain(machine.chain("k"), rules, cap=20, waits=3)
    assert cut is not None and cut.end_reason is ThinkingEnd.LOOP
    again = ForcingMachine(rules, cap=90, waits=9, chain=machine.chain("k"))
    assert again.next_action().kind is ActionKind.STOP


def test_a_wait_string_without_tokens_in_one_language_is_an_error_there() -> None:
    class Format:
        trigger_ids, long_triggers, decode = TRIGGERS, (), None

        @staticmethod
        def encode(text: str) -> tuple[int, ...]:
            return tuple(text.encode())

    budget = ForcingConfig(wait_strings={"en": ["Wait"], "zh": [""]}).budget(9, 1, language="zh")
    with pytest.raises(ConfigError, match="has no tokens"):
        make_rules(budget, Format())  # type: ignore[arg-type]
    assert isinstance(budget, Budget)
