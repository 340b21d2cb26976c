"""The forcing machine against a simple loop, for generated budgets."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings, strategies as st

from slowthink.errors import ConfigError
from slowthink.forcing.cuts import check_budget, cut_chain
from slowthink.forcing.machine import (
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
    is_loop,
    make_rules,
)
from slowthink.records import Budget, Chain, ChainState, Event, EventKind, LoopRule, ThinkingEnd

VOCABULARY = 7
END, EOS = 5, 6
TRIGGERS = frozenset({END, EOS})


def ranked(seed: int, ids: list[int]) -> list[int]:
    """A made-up model: its tokens by descending probability, as a hash of the tokens before."""
    digest = hashlib.sha256(repr((seed, ids)).encode()).digest()
    return sorted(range(VOCABULARY), key=lambda token: digest[token])


def most_likely(seed: int, ids: list[int], banned: frozenset[int] = frozenset()) -> int:
    return next(token for token in ranked(seed, ids) if token not in banned)


def reference_loop(
    seed: int, *, cap: int, waits: int, minimum: int, strings: list[list[int]]
) -> tuple[list[int], str]:
    """s1's loop as the paper describes it, written independently of the machine."""
    ids: list[int] = []
    used = 0
    while len(ids) < cap:
        token = most_likely(seed, ids)
        if token in TRIGGERS:
            string = strings[used % len(strings)] if strings else []
            if len(ids) < minimum:
                token = most_likely(seed, ids, TRIGGERS)
            elif used < waits and len(ids) + len(string) + 1 <= cap:
                used += 1
                if string:
                    ids += string
                    continue
                token = most_likely(seed, ids, TRIGGERS)
            else:
                return ids, "natural"
        ids.append(token)
    return ids, "cap"


def run_machine(seed: int, machine: ForcingMachine) -> ForcingMachine:
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is ActionKind.SAMPLE:
            observed = machine.observe(most_likely(seed, machine.ids, action.banned))
            if observed.kind is ActionKind.RESAMPLE:
                machine.observe(most_likely(seed, machine.ids, observed.banned))
    return machine


def forcing_rules(minimum: int, strings: list[list[int]]) -> ForcingRules:
    return ForcingRules(
        trigger_ids=TRIGGERS,
        wait_ids=tuple(tuple(string) for string in strings) or ((),),
        min_thinking_tokens=minimum,
    )


wait_strings = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), max_size=3)
seeds = st.integers(0, 10_000)


@given(seeds, st.integers(0, 30), st.integers(0, 4), st.integers(0, 6), wait_strings)
@settings(max_examples=120, deadline=None)
def test_machine_equals_the_literal_loop(seed, cap, waits, minimum, strings) -> None:
    minimum = min(minimum, cap)
    machine = run_machine(
        seed, ForcingMachine(forcing_rules(minimum, strings), cap=cap, waits=waits)
    )
    ids, end = reference_loop(seed, cap=cap, waits=waits, minimum=minimum, strings=strings)
    assert machine.ids == ids
    assert (machine.state is ChainState.ENDED) == (end == "natural")


@given(seeds, st.integers(1, 40), st.integers(0, 4), st.integers(0, 5), wait_strings, st.data())
@settings(max_examples=120, deadline=None)
def test_every_point_of_one_long_chain_equals_a_run_of_its_own(
    seed, cap, waits, minimum, strings, data
) -> None:
    minimum = min(minimum, cap)
    rules = forcing_rules(minimum, strings)
    chain = run_machine(seed, ForcingMachine(rules, cap=cap, waits=waits)).chain("k")
    small_cap = data.draw(st.integers(minimum, cap))
    few_waits = data.draw(st.integers(0, waits))
    cut = cut_chain(chain, rules, cap=small_cap, waits=few_waits)
    ids, end = reference_loop(
        seed, cap=small_cap, waits=few_waits, minimum=minimum, strings=strings
    )
    assert cut is not None
    assert (list(cut.ids), cut.end_reason.value) == (ids, end)
    assert check_budget(cut, rules, cap=small_cap, waits=few_waits) == ()


@given(seeds, st.integers(0, 20), st.integers(0, 2), wait_strings, st.data())
@settings(max_examples=120, deadline=None)
def test_a_stored_chain_continues_as_if_never_stopped(seed, cap, waits, strings, data) -> None:
    rules = forcing_rules(0, strings)
    first = run_machine(seed, ForcingMachine(rules, cap=cap, waits=waits)).chain("k")
    more_cap = data.draw(st.integers(cap, cap + 20))
    more_waits = data.draw(st.integers(waits, waits + 2))
    later = run_machine(
        seed, ForcingMachine(rules, cap=more_cap, waits=more_waits, chain=first)
    ).chain("k")
    for c, w in ((more_cap, more_waits), (cap, waits)):
        cut = cut_chain(later, rules, cap=c, waits=w)
        ids, end = reference_loop(seed, cap=c, waits=w, minimum=0, strings=strings)
        assert cut is not None
        assert (list(cut.ids), cut.end_reason.value) == (ids, end)


@given(seeds, st.integers(0, 25), st.integers(0, 3), wait_strings, st.integers(0, 60))
@settings(max_examples=120, deadline=None)
def test_a_chain_stored_at_any_moment_continues_the_same(seed, cap, waits, strings, stop) -> None:
    """The machine is stopped after any number of steps, also inside a wait string."""
    rules = forcing_rules(0, strings)
    machine = ForcingMachine(rules, cap=cap, waits=waits)
    for _ in range(stop):
        action = machine.next_action()
        if action.kind is ActionKind.SAMPLE:
            machine.observe(most_likely(seed, machine.ids, action.banned))
    resumed = run_machine(
        seed, ForcingMachine(rules, cap=cap, waits=waits, chain=machine.chain("k"))
    )
    whole = run_machine(seed, ForcingMachine(rules, cap=cap, waits=waits))
    assert (resumed.ids, resumed.events, resumed.state) == (whole.ids, whole.events, whole.state)


# --- delimiters of several tokens -----------------------------------------------------------------

LETTERS = "abcxy"


def decode(ids) -> str:
    return "".join(LETTERS[i] for i in ids)


def reference_loop_long_trigger(
    seed: int, *, cap: int, waits: int, string: list[int]
) -> tuple[list[int], str]:
    """As `reference_loop`, but the text "xy" declares the end and is rolled back."""
    ids: list[int] = []
    used = 0
    banned: frozenset[int] = frozenset()
    while len(ids) < cap:
        token = next(t for t in ranked(seed, ids) if t < 5 and t not in banned)
        banned = frozenset()
        ids.append(token)
        if decode(ids).endswith("xy"):
            del ids[-2:]
            if used >= waits or len(ids) + len(string) + 1 > cap:
                return ids, "natural"
            used += 1
            ids += string
            banned = frozenset() if string else frozenset({3})
    return ids, "cap"


@given(seeds, st.integers(1, 40), st.integers(0, 3), st.sampled_from([[0], [0, 1], []]), st.data())
@settings(max_examples=120, deadline=None)
def test_long_delimiters_are_rolled_back(seed, cap, waits, string, data) -> None:
    rules = ForcingRules(
        trigger_ids=frozenset(), long_triggers=("xy",), wait_ids=(tuple(string),), decode=decode
    )
    machine = ForcingMachine(rules, cap=cap, waits=waits)
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        if action.kind is ActionKind.SAMPLE:
            order = ranked(seed, machine.ids)
            machine.observe(next(t for t in order if t < 5 and t not in action.banned))
    assert machine.ids == reference_loop_long_trigger(seed, cap=cap, waits=waits, string=string)[0]
    small, few = data.draw(st.integers(0, cap)), data.draw(st.integers(0, waits))
    cut = cut_chain(machine.chain("k"), rules, cap=small, waits=few)
    assert cut is not None
    expected = reference_loop_long_trigger(seed, cap=small, waits=few, string=string)
    assert (list(cut.ids), cut.end_reason.value) == expected


def test_a_delimiter_may_roll_back_tokens_from_before_a_refused_end() -> None:
    """ "x" stays, "xy" is refused without a string, and the next draw makes "xy" of the first "x"."""
    rules = ForcingRules(trigger_ids=frozenset(), long_triggers=("xy",), decode=decode)
    machine = ForcingMachine(rules, cap=9, waits=1)
    for token in (0, 3, 3, 4, 4):
        machine.next_action()
        machine.observe(token)
    chain = machine.chain("k")
    assert (chain.ids, [event.position for event in chain.events]) == ((0,), [2, 1])
    cuts = [cut_chain(chain, rules, cap=cap, waits=0) for cap in (2, 3, 4)]
    assert [cut.ids for cut in cuts if cut] == [(0, 3), (0, 3, 3), (0, 3)]
    assert [cut.end_reason.value for cut in cuts if cut] == ["cap", "cap", "natural"]
    assert cut_chain(chain, rules, cap=4, waits=1).ids == (0,)


# --- edges ----------------------------------------------------------------------------------------


def test_cap_zero_thinks_nothing() -> None:
    chain = run_machine(1, ForcingMachine(forcing_rules(0, [[1]]), cap=0, waits=3)).chain("k")
    cut = cut_chain(chain, forcing_rules(0, [[1]]), cap=0, waits=3)
    assert chain.ids == ()
    assert cut is not None and cut.end_reason is ThinkingEnd.CAP


def test_a_wait_that_does_not_fit_under_the_cap_is_not_begun() -> None:
    machine = ForcingMachine(forcing_rules(0, [[1, 1, 1]]), cap=4, waits=1)
    machine.next_action()
    machine.observe(2)
    assert machine.observe(END).kind is ActionKind.STOP
    assert machine.ids == [2]
    assert machine.state is ChainState.ENDED


@pytest.mark.parametrize(
    ("waits", "minimum", "kind", "num_tokens"),
    [
        (0, 0, ActionKind.STOP, 9),
        (1, 0, ActionKind.FORCE, 7),
        (1, 4, ActionKind.RESAMPLE, 4),
        (0, 20, ActionKind.RESAMPLE, 9),
    ],
)
def test_a_previewed_end_is_valid_until_its_outcome_changes(
    waits, minimum, kind, num_tokens
) -> None:
    """A wait string of two tokens, and one more, must fit under the cap; without a wait left that
    changes nothing."""
    machine = ForcingMachine(forcing_rules(minimum, [[1, 2]]), cap=9, waits=waits)
    action, length = machine.preview_declared_end()
    assert (action.kind, length) == (kind, num_tokens)


def test_wait_strings_rotate() -> None:
    machine = ForcingMachine(forcing_rules(0, [[1], [2]]), cap=20, waits=3)
    while len([e for e in machine.events if e.kind is EventKind.WAIT]) < 3:
        if machine.next_action().kind is ActionKind.SAMPLE:
            machine.observe(EOS)
    machine.next_action()
    assert machine.ids == [1, 2, 1]


def test_end_of_sequence_inside_thinking_declares_an_end() -> None:
    machine = ForcingMachine(forcing_rules(0, []), cap=20, waits=0)
    machine.next_action()
    assert machine.observe(EOS).kind is ActionKind.STOP
    assert machine.events[-1].drawn == (EOS,)


@pytest.mark.parametrize(
    ("rule", "probability", "argmax", "ends"),
    [
        ("drawn", 0.99, END, False),
        ("argmax", 0.0, END, True),
        ("argmax", 0.9, 2, False),
        ("probability", 0.5, 2, True),
        ("probability", 0.49, END, False),
    ],
)
def test_end_rules_declare_an_end_before_a_trigger_is_sampled(
    rule, probability, argmax, ends
) -> None:
    rules = ForcingRules(trigger_ids=TRIGGERS, end_rule=rule, end_probability=0.5)
    machine = ForcingMachine(rules, cap=9, waits=0)
    machine.next_action()
    observed = machine.observe(2, trigger_probability=probability, argmax=argmax)
    assert (observed.kind is ActionKind.STOP) is ends


def test_a_loop_is_stopped_and_marked() -> None:
    rule = LoopRule(max_period=4, repeats=3, min_tokens=6)
    machine = ForcingMachine(ForcingRules(trigger_ids=TRIGGERS, loop=rule), cap=100, waits=0)
    while machine.next_action().kind is not ActionKind.STOP:
        machine.observe(
            [0, 1, 2, 3, 3, 1, 2][len(machine.ids)]
            if len(machine.ids) < 3
            else len(machine.ids) % 2
        )
    assert machine.state is ChainState.LOOP
    cut = cut_chain(machine.chain("k"), machine.rules, cap=100, waits=0)
    assert cut is not None and cut.end_reason is ThinkingEnd.LOOP
    assert (
        cut_chain(machine.chain("k"), machine.rules, cap=4, waits=0).end_reason is ThinkingEnd.CAP
    )


@given(st.lists(st.integers(0, 2), max_size=30))
def test_is_loop_equals_its_definition(ids) -> None:
    rule = LoopRule(max_period=3, repeats=3, min_tokens=5)

    def brute() -> bool:
        for period in (1, 2, 3):
            for times in range(3, 31):
                span = period * times
                if span >= 5 and span <= len(ids) and ids[-span:] == ids[-period:] * times:
                    return True
        return False

    assert is_loop(ids, rule) is brute()


def test_a_violated_budget_is_found_from_the_ids() -> None:
    rules = forcing_rules(0, [[1, 1]])
    chain = Chain(key="k", ids=(2, 3, END, 4))
    cut = cut_chain(chain, rules, cap=4, waits=0)
    assert cut is not None
    violations = check_budget(cut, rules, cap=3, waits=0)
    assert violations == (
        "4 thinking tokens over the cap of 3",
        "an end trigger inside the thinking",
    )


def test_a_wait_string_without_tokens_is_an_error() -> None:
    class Format:
        trigger_ids, long_triggers, decode = TRIGGERS, (), None

        @staticmethod
        def encode(text: str) -> tuple[int, ...]:
            return tuple(text.encode())

    with pytest.raises(ConfigError, match="has no tokens"):
        make_rules(Budget(wait_strings=("Wait", "")), Format())


def test_an_answer_stops_at_its_end_or_its_limit() -> None:
    machine = AnswerMachine(max_tokens=2, eos_ids=frozenset({EOS}))
    assert machine.observe(1).kind is ActionKind.KEEP
    assert machine.observe(EOS).kind is ActionKind.STOP
    assert machine.ids == [1]
    full = AnswerMachine(max_tokens=1, eos_ids=frozenset({EOS}))
    full.observe(3)
    assert full.next_action().kind is ActionKind.STOP
    assert full.end_reason.value == "length"


@pytest.mark.parametrize(
    ("cap", "waits", "ids", "end"),
    [
        (3, 1, (0, 1), ThinkingEnd.NATURAL),
        (4, 1, (0, 1, 4, 2), ThinkingEnd.CAP),
        (64, 0, (0, 1), ThinkingEnd.NATURAL),
        (64, 1, None, None),
    ],
)
def test_a_chain_at_smaller_budgets_as_the_docstring_shows(cap, waits, ids, end) -> None:
    rules = ForcingRules(trigger_ids=TRIGGERS, wait_ids=((4,),))
    wait = Event(position=2, kind=EventKind.WAIT, drawn=(END,), forced=1)
    chain = Chain(key="k", ids=(0, 1, 4, 2, 3), events=(wait,))
    cut = cut_chain(chain, rules, cap=cap, waits=waits)
    assert (cut and cut.ids, cut and cut.end_reason) == (ids, end)
